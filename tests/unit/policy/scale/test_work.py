"""Arrivals counted by the work of their prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.scale.values import SeenDemand
from penstock.policy.scale.work import Effort, Work


def demand(num: int, tokens: int, name: str = "c", deferred: int = 0) -> SeenDemand:
    return SeenDemand("m", name, num, tokens, 0, 0, num_deferred=deferred)


def test_every_request_counts_as_one_before_anything_is_measured() -> None:
    work = Work()
    work.add([demand(5, 100), demand(2, 90_000, "d")])
    assert (work.total, work.own, work.of_request) == (7.0, 7.0, 1.0)


def test_long_prompts_count_when_they_arrive() -> None:
    work = Work()
    work.measured(Effort(0.5, 0.001, {"c": 100.0}), 0.5)
    work.add([demand(10, 1000)])
    assert work.total == pytest.approx(10.0)
    work.add([demand(11, 1000 + 1100)])  # 1,000 tokens more than the mean: 1 s more than 0.5 s
    assert work.total == pytest.approx(13.0)
    work.add([demand(11, 1000 + 1100)])
    assert work.total == pytest.approx(13.0)


def test_short_prompts_bring_some_work() -> None:
    work = Work()
    work.measured(Effort(0.5, 0.01, {"c": 1000.0}), 0.5)
    work.add([demand(10, 10)])
    assert work.total == pytest.approx(1.0)


def test_present_requests_are_counted_in_those_that_were_measured_first() -> None:
    work = Work()
    work.measured(Effort(0.5, 0.001, {"c": 100.0}), 0.5)
    work.measured(Effort(1.5, 0.001, {"c": 300.0, "d": 40.0}), 0.5)
    assert work.of_request == pytest.approx(2.0)
    work.add([demand(1, 200), demand(1, 40, "d")])  # 200 is the mean of both measurements
    assert work.total == pytest.approx(4.0)


def test_deferred_requests_are_none_of_the_own() -> None:
    work = Work()
    work.add([demand(4, 40, deferred=1)])
    assert (work.total, work.own) == (4.0, 3.0)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5000), st.booleans()), max_size=20))
def test_counts_never_fall(steps: list[tuple[int, int, bool]]) -> None:
    work, num, tokens, last = Work(), 0, 0, 0.0
    for more, each, measures in steps:
        if measures:
            work.measured(Effort(0.1 + each / 1e4, 1e-4, {"c": float(each)}), 0.5)
        num, tokens = num + more, tokens + more * each
        work.add([demand(num, tokens)])
        assert work.total >= last
        last = work.total
