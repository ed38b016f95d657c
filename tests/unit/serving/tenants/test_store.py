"""The ledger's laws, in a real database: sums add up, nothing is charged twice, nothing is lost."""

import random
from dataclasses import replace

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from sqlalchemy import text

from penstock.core.errors import InputError
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.records import Batch, Opening, Progress, Settlement
from penstock.serving.tenants.store import DEAD_AFTER_S, Spent, StoreError, open_store
from penstock.serving.tenants.tables import METADATA
from support.scaled_examples import unit_examples

DAY = 86_400.0


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    """An empty ledger in each kind of database."""
    if request.param == "sqlite":
        found = open_store(f"sqlite:///{tmp_path}/ledger.db")
    else:
        found = open_store(request.getfixturevalue("postgres"))
        METADATA.drop_all(found._engine)
        found.create()
    yield found
    found.close()


@pytest.fixture
def sqlite(tmp_path):
    found = open_store(f"sqlite:///{tmp_path}/ledger.db")
    yield found
    found.close()


def batch(*records):
    found = Batch()
    for record in records:
        found.add(record)
    return found


def opening(name="d1", tenant="shop", reserved=100, output=0, charged=0, at_s=5 * DAY):
    return Opening(name, tenant, at_s, reserved, "m" if output else "", 3 if output else 0, output,
                   charged)


def settled(name="d1", tenant="shop", charged=7, at_s=5 * DAY, model="m", opened=False):
    return Settlement(name, tenant, model, at_s, 3, 4, charged, opened)


def rows(store, table):
    with store._engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(f"select * from {table}"))]


def test_a_request_that_began_and_ended_in_one_batch_is_one_row(store) -> None:
    store.write(batch(opening(), settled()), "g")
    assert rows(store, "penstock_open") == []
    assert rows(store, "penstock_charges") == [("d1", "shop", "m", 5, 5 * DAY, 3, 4, 7, 0, 0, "g")]
    assert store.report(0) == [Spent("shop", "m", 1, 3, 4, 7)]


def test_a_settlement_closes_what_was_open(store) -> None:
    store.write(batch(opening()), "g")
    assert store.reserved_elsewhere("another") == {"shop": 100}
    assert store.reserved_elsewhere("g") == {}
    store.write(batch(Progress("d1", "m", 3, 2, 5)), "g")
    assert rows(store, "penstock_open")[0][-3:] == (3, 2, 5)
    store.write(batch(settled(opened=True)), "g")
    assert rows(store, "penstock_open") == []
    assert store.spent_since(0) == {"shop": 7}


def test_sums_are_by_tenant_model_and_day(store) -> None:
    store.write(batch(settled("a"), settled("b", model="n"), settled("c", "bar", 20),
                      settled("d", charged=1, at_s=6 * DAY)), "g")
    assert store.spent_since(5) == {"shop": 15, "bar": 20}
    assert store.spent_since(6) == {"shop": 1}
    assert store.report(0, "shop") == [Spent("shop", "m", 2, 6, 8, 8), Spent("shop", "n", 1, 3, 4,
                                                                             7)]


def test_a_batch_that_is_written_again_changes_nothing(store) -> None:
    one = batch(settled("a"), settled("b", charged=9), opening("c"))
    for _ in range(3):
        store.write(one, "g")
        assert store.spent_since(0) == {"shop": 16}
        assert len(rows(store, "penstock_open")) == 1
    store.write(batch(settled("b", charged=1000), settled("e", charged=2)), "g")
    assert store.spent_since(0) == {"shop": 18}, "the first settlement counts, the new one is added"


def test_what_delivered_nothing_leaves_no_trace(store) -> None:
    store.write(batch(opening()), "g")
    store.write(batch(Settlement("d1", "shop", "", 5 * DAY, 0, 0, 0, True)), "g")
    assert [rows(store, f"penstock_{name}") for name in ("open", "charges", "spend")] == [[]] * 3


def test_the_dead_are_charged_for_what_was_last_known(store) -> None:
    store.beat("old", "here", 11, 0.0)
    store.write(batch(opening("a", output=5, charged=50), opening("b")), "old")
    store.write(batch(opening("c", output=1, charged=10)), "alive")
    store.beat("alive", "here", 22, 0.0)
    assert store.dead("new", "here", lambda pid, _: pid == 22, 1.0) == ["old"]
    assert store.resolve(["old"], 5 * DAY) == 2
    assert store.spent_since(0) == {"shop": 50}
    assert store.reserved_elsewhere("new") == {"shop": 100}
    assert store.dead("new", "here", lambda pid, _: pid == 22, 1.0) == []
    assert store.resolve(["old"], 5 * DAY) == 0


def test_who_is_dead(store) -> None:
    store.beat("far", "there", 1, 0.0)
    store.beat("near", "here", 1, 0.0)
    store.write(batch(opening("x")), "never told")
    never = ["never told"]
    assert store.dead("me", "here", lambda *_: True, DEAD_AFTER_S) == never
    assert sorted(store.dead("me", "here", lambda *_: False, 1.0)) == ["near", *never]
    assert sorted(store.dead("me", "here", lambda *_: True, DEAD_AFTER_S + 1)) == [
        "far", "near", *never]
    store.beat("far", "there", 1, DEAD_AFTER_S)
    store.leave("near")
    assert store.dead("me", "here", lambda *_: True, DEAD_AFTER_S + 1) == never


def test_who_was_only_taken_for_dead_has_the_last_word(store) -> None:
    store.write(batch(opening("a", output=5, charged=50), opening("b")), "slow")
    store.resolve(["slow"], 5 * DAY)
    store.write(batch(Progress("a", "m", 3, 9, 90), opening("z")), "slow")
    for _ in range(2):
        store.write(batch(settled("a", charged=120, at_s=6 * DAY, opened=True),
                          settled("b", charged=7, opened=True)), "slow")
        assert store.spent_since(0) == {"shop": 127}
        assert store.spent_since(6) == {"shop": 120}
    assert sum(row.num_requests for row in store.report(0)) == 2


def test_single_requests_are_forgotten_and_sums_are_not(store) -> None:
    store.write(batch(settled("a"), settled("b", at_s=9 * DAY), settled("c"), settled("d")), "g")
    assert store.prune(9, most=2) is True
    assert len(rows(store, "penstock_charges")) == 2
    assert store.prune(9, most=2) is False
    assert [row[0] for row in rows(store, "penstock_charges")] == ["b"]
    assert store.spent_since(0) == {"shop": 28}


def test_keys_come_back(store) -> None:
    _, first = new_key("shop", 1.0, random.Random(1).randbytes)
    _, second = new_key("", 2.0, random.Random(2).randbytes, admin=True, label="ops")
    store.add_key(second)
    store.add_key(first)
    assert store.list_keys() == [first, second]
    assert store.revoke_key(first.key_id, 3.0)
    assert store.revoke_key(first.key_id, 4.0)
    assert not store.revoke_key("nobody", 3.0)
    assert store.list_keys() == [replace(first, revoked_s=3.0), second]


# -- laws -------------------------------------------------------------------------------------

NAMES = st.sampled_from([f"d{i}" for i in range(6)])
RECORDS = st.one_of(
    st.builds(lambda name, reserved: opening(name, "t" + name, reserved), NAMES,
              st.integers(0, 10**15)),
    st.builds(lambda name, out: Progress(name, "m", 1, out, out * 3), NAMES, st.integers(1, 99)),
    st.builds(lambda name, charged, day: settled(name, "t" + name, charged, day * DAY), NAMES,
              st.integers(0, 10**15), st.integers(0, 3)))


@unit_examples(60,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(RECORDS, max_size=6), max_size=6), st.data())
def test_every_request_is_charged_once_whatever_is_repeated(tmp_path, batches, data) -> None:
    """Batches written once or twice, as after lost answers: the first settlement of each request
    counts once, and sums are those of the rows. Only openings are known to come first."""
    path = tmp_path / "laws.db"
    path.unlink(missing_ok=True)
    store = open_store(f"sqlite:///{path}")
    expected = {}
    for records in batches:
        # A settlement knows whether its request was opened; saying so too often does no harm.
        one = batch(*(r._replace(opened=True) if isinstance(r, Settlement) else r
                      for r in records
                      if not (isinstance(r, Opening) and r.decision_id in expected)))
        for name, settlement in one.settlements.items():
            expected.setdefault(name, settlement.charged_nanos)
        for _ in range(data.draw(st.integers(1, 2))):
            store.write(one, "g")
    charges, sums = rows(store, "penstock_charges"), store.spent_since(0)
    assert {row[0]: row[7] for row in charges} == expected
    assert sums == {"t" + name: nanos for name, nanos in expected.items()}
    assert all(nanos >= 0 for nanos in sums.values())
    assert not {row[0] for row in rows(store, "penstock_open")} & expected.keys()
    store.close()


# -- faults -----------------------------------------------------------------------------------

def test_a_batch_that_fails_leaves_nothing_of_itself(store) -> None:
    with store._engine.begin() as connection:
        connection.execute(text("drop table penstock_spend"))
    with pytest.raises(StoreError, match="penstock_spend"):
        store.write(batch(settled(), opening("x")), "g")
    assert rows(store, "penstock_charges") == rows(store, "penstock_open") == []


def test_a_full_disk_is_an_error_and_heals(sqlite) -> None:
    store = sqlite
    limits = []
    from sqlalchemy import event

    def full(connection, _):
        for limit in limits:
            connection.execute(f"pragma max_page_count={limit}")

    event.listen(store._engine, "connect", full)
    store._engine.dispose()
    limits.append(1)  # SQLite keeps to as many pages as it has
    many = batch(*(settled(f"d{i}") for i in range(5000)))
    with pytest.raises(StoreError, match="full"):
        store.write(many, "g")
    assert store.spent_since(0) == {}
    store._engine.dispose()
    limits[:] = [10**6]
    store.write(many, "g")
    assert store.spent_since(0) == {"shop": 35_000}


def test_a_file_that_is_gone_or_another_takes_nothing(sqlite, tmp_path) -> None:
    sqlite.write(batch(settled("d1")), "g")
    file = tmp_path / "ledger.db"
    for change in (lambda: file.rename(tmp_path / "kept.db"), file.touch):
        change()
        with pytest.raises(StoreError, match="was replaced or deleted"):
            sqlite.write(batch(settled("d2")), "g")
        with pytest.raises(StoreError, match="restart the gateway"):
            sqlite.list_keys()
    (tmp_path / "kept.db").replace(file)
    sqlite.write(batch(settled("d2")), "g")
    assert len(rows(sqlite, "penstock_charges")) == 2


@pytest.mark.parametrize(("url", "said"), [
    ("nonsense", "expected an SQLAlchemy URL"), ("sqlite://", "keeps nothing"),
    ("sqlite:///:memory:", "keeps nothing"), ("sqlite:////nowhere/at/all.db", "unable to open"),
    ("oracel://user:hush@host/x", "knows no database"), ("://user:hush@", "expected an SQLAlchemy"),
    ("postgresql+pg8000://user:hush@host/x", "needs the package pg8000"),
    ("postgresql+pg8000://host/x?password=hush", "needs the package pg8000")])
def test_a_ledger_that_cannot_be_used_is_told_without_its_password(url, said) -> None:
    with pytest.raises(InputError) as error:
        open_store(url)
    assert said in str(error.value)
    assert "hush" not in str(error.value)
    assert "\n" not in str(error.value)
