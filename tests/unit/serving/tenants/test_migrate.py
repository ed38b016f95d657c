"""Ledgers of earlier and of later versions."""

import random

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from sqlalchemy import create_engine, text

from penstock.core.errors import InputError
from penstock.serving.tenants.administration import rotate_key
from penstock.serving.tenants.audit_entry import audit_entry
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.schema import VERSION
from penstock.serving.tenants.store import open_store
from penstock.serving.tenants.tables import METADATA

OLD_KEYS = """create table penstock_keys (
    key_id varchar(64) not null primary key, digest varchar(64) not null,
    tenant varchar(200) not null, admin boolean not null, label varchar(200) not null,
    created_s float not null, revoked_s float)"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    url = request.getfixturevalue("postgres")
    engine = create_engine(url)
    METADATA.drop_all(engine)
    engine.dispose()
    return url


def run(url, *statements):
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            found = [connection.execute(text(one)) for one in statements][-1]
            return found.all() if found.returns_rows else []
    finally:
        engine.dispose()


def test_a_ledger_from_before_versions_keeps_its_keys_and_gets_the_new_columns(url) -> None:
    _, key = new_key("shop", 5.0, random.Random(1).randbytes, label="old")
    run(url, OLD_KEYS, "insert into penstock_keys values "
        f"('{key.key_id}', '{key.digest}', 'shop', false, 'old', 5.0, null)")
    for _ in range(2):
        store = open_store(url)
        assert store.list_keys() == [key]
        store.close()
    assert run(url, "select value from penstock_facts where name = 'version'") == [(str(VERSION),)]
    store = open_store(url)
    _, other = new_key("bar", 6.0, random.Random(2).randbytes, scopes=("ask", "spend"),
                       expires_s=9.0)
    store.add_key(other)
    new = new_key("shop", 7.0, random.Random(3).randbytes)[1]
    store.transact(lambda connection: rotate_key(
        connection, key.key_id, 8.0, new, audit_entry(7.0, "", "rotate", "it", "done", "me")))
    assert [(one.scopes, one.expires_s) for one in store.list_keys()] == [
        ((), 8.0), (("ask", "spend"), 9.0), ((), None)]
    store.close()
    # An earlier Penstock still writes to the ledger.
    run(url, "insert into penstock_keys (key_id, digest, tenant, admin, label, created_s) values "
             "('x', 'y', 'shop', false, '', 8.0)")


def test_a_ledger_of_a_later_version_is_refused_in_one_line_and_not_touched(url) -> None:
    run(url, "create table penstock_facts (name varchar(64) primary key, value varchar(200))",
        f"insert into penstock_facts values ('version', '{VERSION + 1}')", OLD_KEYS)
    with pytest.raises(InputError, match=f"this ledger has version {VERSION + 1}") as error:
        open_store(url)
    assert "\n" not in str(error.value)
    assert run(url, "select * from penstock_keys") == []
    with pytest.raises(Exception, match="penstock_spend"):
        run(url, "select * from penstock_spend")


def test_gateways_of_one_ledger_share_one_secret(url) -> None:
    one, other = open_store(url), open_store(url)
    assert one.digest_key() == other.digest_key()
    assert len(one.digest_key()) == 32
    one.close()
    other.close()
