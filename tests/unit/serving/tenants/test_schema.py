"""Ledgers of earlier versions are brought up to date in place, and newer ones are refused."""

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from sqlalchemy import create_engine, text

from penstock.core.errors import InputError
from penstock.serving.tenants.records import Batch, Settlement
from penstock.serving.tenants.schema import VERSION
from penstock.serving.tenants.store import Spent, open_store
from penstock.serving.tenants.tables import METADATA

# As release 0.2 made them.
OLD = (
    "create table penstock_charges (decision_id varchar(64) not null primary key, tenant "
    "varchar(200) not null, model varchar(200) not null, day integer not null, at_s double "
    "precision not null, prompt_tokens bigint not null, output_tokens bigint not null, "
    "charged_nanos bigint not null, resolved boolean not null)",
    "create table penstock_spend (tenant varchar(200) not null, day integer not null, model "
    "varchar(200) not null, num_requests bigint not null, prompt_tokens bigint not null, "
    "output_tokens bigint not null, charged_nanos bigint not null, primary key (tenant, day, "
    "model))",
    "insert into penstock_charges values ('d0', 'shop', 'm', 5, 432000, 3, 4, 7, false)",
    "insert into penstock_spend values ('shop', 5, 'm', 1, 3, 4, 7)")
OLD_CHARGE = ("insert into penstock_charges (decision_id, tenant, model, day, at_s, prompt_tokens, "
              "output_tokens, charged_nanos, resolved) values ('d9', 'bar', 'm', 5, 432000, 1, 1, "
              "1, false)")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """The URL of a ledger of release 0.2."""
    found = f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite" \
        else request.getfixturevalue("postgres")
    engine = create_engine(found)
    METADATA.drop_all(engine)
    with engine.begin() as connection:
        for statement in OLD:
            connection.execute(text(statement))
    engine.dispose()
    yield found
    engine = create_engine(found)
    METADATA.drop_all(engine)
    engine.dispose()


def rows(url, query):
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


def test_an_old_ledger_gets_the_new_columns_and_keeps_its_rows(url) -> None:
    for _ in range(2):
        open_store(url).close()
    store = open_store(url)
    batch = Batch()
    batch.add(Settlement("d1", "shop", "m", 432000.0, 3, 4, 7, disputed=True))
    store.write(batch, "g")
    assert rows(url, "select decision_id, disputed, gateway from penstock_charges order by 1") == [
        ("d0", False, ""), ("d1", True, "g")]
    assert store.report(0) == [Spent("shop", "m", 2, 6, 8, 14, 1)]
    assert rows(url, "select value from penstock_facts where name = 'version'") == [(str(VERSION),)]
    store.close()


def test_a_gateway_of_an_earlier_version_goes_on_beside(url) -> None:
    store = open_store(url)
    with store._engine.begin() as connection:
        connection.execute(text(OLD_CHARGE))
    assert rows(url, "select disputed from penstock_charges where decision_id = 'd9'") == [(0,)]
    store.close()


def test_a_newer_ledger_is_refused_in_one_line_and_left_alone(url) -> None:
    open_store(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("update penstock_facts set value = '99' where name = 'version'"))
        connection.execute(text("drop table penstock_repeats"))
    engine.dispose()
    with pytest.raises(InputError, match="this ledger has version 99, and this Penstock knows "
                       f"versions up to {VERSION}; update Penstock") as error:
        open_store(url)
    assert "\n" not in str(error.value)
    with pytest.raises(Exception, match="penstock_repeats"):
        rows(url, "select * from penstock_repeats")


def test_the_key_of_digests_is_made_once(url) -> None:
    first, second = open_store(url), open_store(url)
    assert first.digest_key() == second.digest_key()
    assert len(first.digest_key()) == 32
    first.close()
    second.close()
