"""The same idempotency key is never charged twice, whichever gateways see it."""

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from concurrent.futures import ThreadPoolExecutor

from penstock.serving.tenants.claims import KEPT_S, Claim, Earlier
from penstock.serving.tenants.records import Batch, Opening, Settlement
from penstock.serving.tenants.store import open_store
from penstock.serving.tenants.tables import METADATA

NOW_S = 1_000_000.0


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "sqlite":
        found = open_store(f"sqlite:///{tmp_path}/ledger.db")
    else:
        found = open_store(request.getfixturevalue("postgres"))
        METADATA.drop_all(found._engine)
        found.create()
    yield found
    found.close()


def one(name="d1", body="b", key="k"):
    return Claim(key, body, name)


def claim(store, claim, gateway="g", active=(), now_s=NOW_S):
    return store.claim(claim, gateway, {claim.decision_id, *active}, now_s)


def end(store, name="d1", tokens=4, gateway="g", at_s=NOW_S):
    batch = Batch()
    batch.add(Settlement(name, "shop", "m", at_s, tokens, tokens, 10 * tokens, keyed=True))
    store.write(batch, gateway)


def test_the_first_with_a_key_is_told_to_the_next(store) -> None:
    assert claim(store, one()) is None
    assert claim(store, one("d2"), active=["d1"]) == Earlier("b", "d1", None)
    assert claim(store, one("d2"), "another") == Earlier("b", "d1", None)
    end(store)
    assert claim(store, one("d3", "c")) == Earlier("b", "d1", 40)
    assert store.spent_since(0) == {"shop": 40}


def test_an_end_without_a_charge_frees_the_key(store) -> None:
    claim(store, one())
    end(store, tokens=0)
    assert claim(store, one("d2")) is None
    store.release("d2")
    assert claim(store, one("d3"), "another") is None


def test_a_key_is_remembered_for_a_day(store) -> None:
    claim(store, one())
    end(store)
    assert claim(store, one("d2"), now_s=NOW_S + 86_400) is not None
    store.prune_keys(NOW_S + 86_400)
    assert claim(store, one("d2"), now_s=NOW_S + 86_400) is not None
    assert claim(store, one("d2"), now_s=NOW_S + KEPT_S + 3600) is None
    end(store, "d2")
    store.prune_keys(NOW_S + 3 * KEPT_S)
    assert claim(store, one("d4"), now_s=NOW_S) is None


def test_a_claim_that_this_gateway_lost_sight_of_is_free(store) -> None:
    claim(store, one())
    assert claim(store, one("d2"), "another") == Earlier("b", "d1", None)
    assert claim(store, one("d2"), active=()) is None


@pytest.mark.parametrize("tokens", [0, 3])
def test_a_dead_gateway_keeps_the_keys_of_what_it_delivered_and_frees_others(store, tokens) -> None:
    store.beat("g", "here", 11, NOW_S)
    claim(store, one())
    batch = Batch()
    batch.add(Opening("d1", "shop", NOW_S, 100, "m", tokens, tokens, 10 * tokens))
    store.write(batch, "g")
    dead = store.dead("new", "here", lambda *_: False, NOW_S)
    assert dead == ["g"]
    store.resolve(dead, NOW_S)
    again = claim(store, one("d2"), "new")
    assert again == (Earlier("b", "d1", 30) if tokens else None)
    # The gateway was only stopped, and goes on: its key went to another request or is charged.
    end(store)
    if not tokens:
        end(store, "d2", gateway="new")
    assert store.spent_since(0) == {"shop": 40}, "once"
    assert claim(store, one("d3"), "new") == Earlier("b", "d1" if tokens else "d2", 40)


def test_a_gateway_that_was_only_stopped_charges_a_request_that_nobody_repeated(store) -> None:
    claim(store, one())
    store.resolve(["g"], NOW_S)
    end(store)
    assert store.spent_since(0) == {"shop": 40}
    assert claim(store, one("d2"), "new") == Earlier("b", "d1", 40)


def test_the_key_that_a_dead_gateway_left_is_forgotten_in_time(store) -> None:
    claim(store, one())
    store.resolve(["g"], NOW_S)
    assert store.dead("new", "here", lambda *_: True, NOW_S) == [], "nothing is left to resolve"
    store.prune_keys(NOW_S + 3 * KEPT_S)
    end(store)
    assert store.spent_since(0) == {}


def test_a_gateway_that_died_before_it_recorded_the_request_is_dead_by_its_key(store) -> None:
    claim(store, one())
    assert store.dead("new", "here", lambda *_: True, NOW_S) == ["g"]
    store.resolve(["g"], NOW_S)
    assert claim(store, one("d2"), "new") is None


def test_a_charge_that_is_written_again_is_there_once(store) -> None:
    claim(store, one())
    for _ in range(3):
        end(store)
    assert store.spent_since(0) == {"shop": 40}


def test_of_many_gateways_at_once_one_is_first(store) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: claim(store, one(f"d{n}"), f"g{n}"), range(16)))
    assert found.count(None) == 1
    first = found.index(None)
    assert {one for one in found if one} == {Earlier("b", f"d{first}", None)}
