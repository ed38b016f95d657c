import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.simple import (
    FewestWaiting,
    FreeKv,
    LeastLoaded,
    Random,
    RoundRobin,
    ShortestQueue,
    TwoChoices,
    loads,
)

REQUEST = Request(0, 0.0, 10, 10, ServiceClass("any"))


def snapshot(number: int, queued: int = 0, running: int = 0, kv_used: int = 0) -> ReplicaSnapshot:
    return ReplicaSnapshot(number, "m", 0.0, 0, running, queued, kv_used, 1000)


def test_round_robin_takes_turns_per_set_of_candidates() -> None:
    router = RoundRobin()
    three, two = [snapshot(i) for i in (0, 1, 2)], [snapshot(i) for i in (1, 2)]
    chosen = [router.route(REQUEST, three, 0.0).replica_id for _ in range(4)]
    assert chosen == [0, 1, 2, 0]
    assert [router.route(REQUEST, two, 0.0).replica_id for _ in range(3)] == [1, 2, 1]
    assert router.route(REQUEST, three, 0.0).replica_id == 1


def test_least_loaded_counts_prompts_then_requests_then_numbers() -> None:
    router = LeastLoaded()
    assert router.route(REQUEST, [snapshot(0, 500), snapshot(1, 40)], 0.0).replica_id == 1
    assert router.route(REQUEST, [snapshot(0, running=3), snapshot(1, running=2)],
                        0.0).replica_id == 1
    assert router.route(REQUEST, [snapshot(1), snapshot(0)], 0.0).replica_id == 0
    assert router.route(REQUEST, [snapshot(0, kv_used=640), snapshot(1, 30)], 0.0).terms == {
        "load": 40.0}


def test_least_loaded_gives_the_fast_more() -> None:
    router = LeastLoaded()
    slow = snapshot(0).replace(speed=0.25)
    # The prompt's 10 tokens take as long on an idle slow replica as 40 on a fast one.
    assert router.route(REQUEST, [slow, snapshot(1, 29)], 0.0).replica_id == 1
    assert router.route(REQUEST, [slow, snapshot(1, 31)], 0.0).replica_id == 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6), st.data())
def test_two_choices_takes_the_better_of_two_different_ones(queued: list[int],
                                                            data: st.DataObject) -> None:
    draws: list[int] = []

    def draw(below: int) -> int:
        draws.append(data.draw(st.integers(0, below - 1)))
        return draws[-1]

    replicas = [snapshot(i, tokens) for i, tokens in enumerate(queued)]
    chosen = TwoChoices(draw).route(REQUEST, replicas, 0.0).replica_id
    first = draws[0]
    if len(replicas) == 1:
        assert chosen == 0
        return
    second = [i for i in range(len(replicas)) if i != first][draws[1]]
    assert chosen == min((first, second), key=loads(replicas).__getitem__)


@given(st.integers(1, 9), st.data())
def test_random_takes_what_is_drawn(num: int, data: st.DataObject) -> None:
    drawn = data.draw(st.integers(0, num - 1))
    below: list[int] = []
    router = Random(lambda n: below.append(n) or drawn)  # type: ignore[func-returns-value]
    assert router.route(REQUEST, [snapshot(i + 5) for i in range(num)], 0.0).replica_id == drawn + 5
    assert below == [num]


@pytest.mark.parametrize(("router", "chosen"), [
    (ShortestQueue(), 2), (FewestWaiting(), 1), (FreeKv(), 0)])
def test_each_count_has_its_own_favourite(router: ShortestQueue | FewestWaiting | FreeKv,
                                          chosen: int) -> None:
    replicas = [snapshot(0, running=4).replace(num_waiting=1, kv_total_tokens=100_000),
                snapshot(1, running=5).replace(num_waiting=0, kv_used_tokens=900),
                snapshot(2, running=1).replace(num_waiting=2, kv_used_tokens=900)]
    assert router.route(REQUEST, replicas, 0.0).replica_id == chosen
    equal = [replicas[0].replace(replica_id=i) for i in (3, 1, 2)]
    assert router.route(REQUEST, equal, 0.0).replica_id == 1


def test_waiting_prompts_count_against_free_kv() -> None:
    full = snapshot(0, queued=900).replace(num_waiting=1)
    half = snapshot(1, kv_used=500).replace(num_running=1)
    assert FreeKv().route(REQUEST, [full, half], 0.0).replica_id == 1
