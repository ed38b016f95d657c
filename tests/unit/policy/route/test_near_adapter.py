"""How near simulated replicas are to an adapter, by the order that the gateway uses."""

from penstock.policy.route.near_adapter import (
    ACTIVE,
    BUSY,
    FAR,
    FULL,
    LOADED,
    PLACE_FREE,
    SLOT_FREE,
    WAITING,
    nearness,
)
from penstock.policy.schedule.adapters import AdapterStore


def store(running: str = "", waiting: str = "", idle: str = "") -> AdapterStore:
    """Two adapters in a batch, three in host memory."""
    found = AdapterStore(2, 3)
    for name in idle:
        found.start(name)
        found.leave(name)
    for name in running:
        found.start(name)
    found.requests = dict.fromkeys(running + waiting, 1)
    return found


def test_where_its_requests_run() -> None:
    assert nearness(store("ab"), "a") == (ACTIVE, LOADED)


def test_where_a_place_is_free() -> None:
    assert nearness(store("a"), "b") == (SLOT_FREE, PLACE_FREE)
    assert nearness(store("a", idle="b"), "b") == (SLOT_FREE, LOADED)
    assert nearness(store(idle="abc"), "d") == (SLOT_FREE, FULL)


def test_where_its_requests_wait() -> None:
    assert nearness(store("ab", "c"), "c") == (WAITING, PLACE_FREE)


def test_the_others() -> None:
    assert nearness(store("ab", "c"), "d") == (FAR, PLACE_FREE)
    assert nearness(store("ab", "c", idle="c"), "d") == (FAR, BUSY)
    assert nearness(store("ab", idle="c"), "d") == (FAR, FULL)


def test_requests_that_the_scheduler_has_not_read_count_as_waiting() -> None:
    assert nearness(store("a"), "b", {"c"}) == (FAR, PLACE_FREE)
    assert nearness(store("a"), "b", {"b", "c"}) == (WAITING, PLACE_FREE)
    assert nearness(store("a"), "b", {"a"}) == (SLOT_FREE, PLACE_FREE)
