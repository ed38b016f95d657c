"""Arrivals counted by the work of their prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.scale.protocol import Load, ReplicaRate
from penstock.policy.scale.values import SeenDemand
from penstock.policy.scale.work import Effort, Prompts, Work, effort


def demand(num: int, tokens: int, name: str = "c", deferred: int = 0,
           squares: int | None = None) -> SeenDemand:
    return SeenDemand("m", name, num, tokens, 0, 0, num_deferred=deferred, prompt_squares=squares)


def linear(request_s: float, token_s: float, **prompts: float) -> Effort:
    return Effort(request_s, token_s, 0.0, 0.002, {
        name: Prompts(tokens, None) for name, tokens in prompts.items()})


def test_every_request_counts_as_one_before_anything_is_measured() -> None:
    work = Work()
    work.add([demand(5, 100), demand(2, 90_000, "d")], 0.0)
    assert (work.total, work.own, work.of_request) == (7.0, 7.0, 1.0)


def test_long_prompts_count_when_they_arrive() -> None:
    work = Work()
    work.measured(linear(0.5, 0.001, c=100.0), 0.5)
    work.add([demand(10, 1000)], 0.0)
    assert work.total == pytest.approx(10.0)
    work.add([demand(11, 1000 + 1100)], 0.0)  # 1,000 tokens more than the mean: 1 s more than 0.5 s
    assert work.total == pytest.approx(13.0)
    work.add([demand(11, 1000 + 1100)], 0.0)
    assert work.total == pytest.approx(13.0)


def test_short_prompts_bring_some_work() -> None:
    work = Work()
    work.measured(linear(0.5, 0.01, c=1000.0), 0.5)
    work.add([demand(10, 10)], 0.0)
    assert work.total == pytest.approx(1.0)


def test_present_requests_are_counted_in_those_that_were_measured_first() -> None:
    work = Work()
    work.measured(linear(0.5, 0.001, c=100.0), 0.5)
    work.measured(linear(1.5, 0.001, c=300.0, d=40.0), 0.5)
    assert work.of_request == pytest.approx(2.0)
    work.add([demand(1, 200), demand(1, 40, "d")], 0.0)  # 200 is the mean of both measurements
    assert work.total == pytest.approx(4.0)


def test_engines_do_the_work_of_their_tokens() -> None:
    work = Work()
    assert work.done(10, 10, 0.0) is None
    loads = {"c": Load(2.0, ((100, 20), (300, 60)))}
    work.measured(effort(ReplicaRate(1.5, 2.0, 0.001), loads), 0.5)
    work.add([demand(0, 0)], 0.0)
    work.add([demand(2, 400)], 10.0)
    # A request of 200 prompt tokens and 40 output tokens takes 0.5 s, of which the prompt 0.2 s.
    assert work.done(200, 40, 10.0) == pytest.approx(1.0)
    assert work.done(200, 0, 10.0) == pytest.approx(0.4)


def test_attention_makes_a_long_prompt_worth_more_than_its_tokens() -> None:
    loads = {"c": Load(1.0, ((1000, 10),))}
    found = effort(ReplicaRate(1.0, 2.0, 1e-4, 1e-7), loads)
    assert found.output_token_s == pytest.approx((0.5 - 0.1 - 0.1) / 10)
    seen, unseen = Work(), Work()
    for work in (seen, unseen):
        work.measured(found, 0.5)
    seen.add([demand(1, 10_000, squares=10_000**2)], 0.0)
    unseen.add([demand(1, 10_000)], 0.0)
    assert seen.total == pytest.approx((0.3 + 1.0 + 10.0) / 0.5)
    assert unseen.total == pytest.approx((0.3 + 1.0 + 1.0) / 0.5)
    seen.add([demand(1, 10_000, squares=10_000**2)], 10.0)


def test_deferred_requests_are_none_of_the_own() -> None:
    work = Work()
    work.add([demand(4, 40, deferred=1)], 0.0)
    assert (work.total, work.own) == (4.0, 3.0)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5000), st.booleans()), max_size=20))
def test_counts_never_fall(steps: list[tuple[int, int, bool]]) -> None:
    work, num, tokens, last = Work(), 0, 0, 0.0
    for more, each, measures in steps:
        if measures:
            work.measured(linear(0.1 + each / 1e4, 1e-4, c=float(each)), 0.5)
        num, tokens = num + more, tokens + more * each
        work.add([demand(num, tokens)], 0.0)
        assert work.total >= last
        last = work.total
