"""Who goes behind all others: Niyama's eager rule and Penstock's feasible set."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.policy.schedule.relegation import (
    EagerRelegation,
    FeasibleRelegation,
    NeverRelegate,
    Review,
)
from penstock.policy.schedule.sequence import Sequence
from support.scaled_examples import unit_examples


def waiting(number: int, deadline_s: float, work_s: float = 0.0, tokens: int = 100,
            weight: float = 1.0, arrival_s: float = 0.0) -> Sequence:
    service_class = ServiceClass("any", Slo(), weight=weight)
    made = Sequence(Request(number, arrival_s, tokens, 10, service_class), number, deadline_s, 0)
    made.work_s = work_s
    return made


def test_never_means_never() -> None:
    rule = NeverRelegate()
    assert not rule.infeasible(waiting(0, -5.0), 100.0)
    assert rule.next_review_s == float("inf")
    assert rule.review(5.0, 1.0) == Review([], [], [])


def test_eager_relegates_what_would_miss_even_alone() -> None:
    rule = EagerRelegation(8500.0)
    request = waiting(0, deadline_s=6.0, tokens=8500)
    assert not rule.infeasible(request, 4.999)
    assert rule.infeasible(request, 5.001)
    request.computed = 4250
    assert not rule.infeasible(request, 5.001)


def test_eager_throughput_is_a_running_mean_of_prompt_steps() -> None:
    rule = EagerRelegation(8500.0)
    rule.learn_throughput(0, 1.0)  # a step without prompts says nothing
    rule.learn_throughput(100, 0.0)  # nor does one without duration
    request = waiting(0, deadline_s=1.0, tokens=8500)
    assert not rule.infeasible(request, 0.0)
    rule.learn_throughput(500, 1.0)
    expected = 0.995 * 8500 + 0.005 * 500
    assert rule.infeasible(request, 0.0)
    assert not rule.infeasible(waiting(1, deadline_s=1.0, tokens=int(expected)), 0.0)
    assert rule.infeasible(waiting(2, deadline_s=1.0, tokens=int(expected) + 1), 0.0)


def feasible(requests: list[Sequence], queue_timeout_s: float = 60.0) -> FeasibleRelegation:
    rule = FeasibleRelegation(0.25, queue_timeout_s)
    for request in requests:
        rule.admitted(request)
    return rule


def kept(requests: list[Sequence], review: Review) -> list[Sequence]:
    gone = {id(s) for s in (*review.relegate, *(s for s, _ in review.shed))}
    return [s for s in requests if id(s) not in gone]


def in_time(requests: list[Sequence]) -> bool:
    """Whether earliest deadline first finishes all, each by its deadline less the rule's margin."""
    now_s = 0.0
    for request in sorted(requests, key=lambda s: (s.deadline_s, s.serial)):
        now_s += request.work_s
        margin_s = min(FeasibleRelegation.MARGIN_S,
                       FeasibleRelegation.MARGIN_SHARE * request.deadline_s)
        if now_s > request.deadline_s - margin_s + 1e-9:
            return False
    return True


@unit_examples(300)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 20)), min_size=1, max_size=7))
def test_feasible_keeps_as_many_as_any_choice(rows: list[tuple[int, int]]) -> None:
    requests = [waiting(i, float(deadline), float(work)) for i, (work, deadline) in enumerate(rows)]
    remain = kept(requests, feasible(requests).review(0.0, 1.0))
    assert in_time(remain)
    best = max(size for size in range(len(requests) + 1)
               if any(in_time(list(chosen)) for chosen in combinations(requests, size)))
    assert len(remain) == best


def test_weight_decides_between_equals() -> None:
    light, heavy = waiting(0, 10.0, 6.0), waiting(1, 10.0, 6.0, weight=5.0)
    review = feasible([light, heavy]).review(0.0, 1.0)
    assert review.relegate == [light]


def test_a_class_of_weight_zero_is_worth_least() -> None:
    worthless, other = waiting(0, 10.0, 1.0, weight=0.0), waiting(1, 10.0, 9.0)
    assert feasible([worthless, other]).review(0.0, 1.0).relegate == [worthless]


def test_decodes_take_their_share_of_the_time() -> None:
    requests = [waiting(0, 10.0, 4.0), waiting(1, 10.0, 4.0)]
    assert not feasible(requests).review(0.0, 1.0).relegate
    assert len(feasible(requests).review(0.0, 0.5).relegate) == 1


def test_what_fits_again_comes_back() -> None:
    first, second = waiting(0, 100.0, 10.0), waiting(1, 100.0, 12.0)
    rule = feasible([first, second])
    assert rule.review(80.0, 1.0).relegate == [second]
    second.relegated = True
    first.started = True  # its prompt is under way: it waits no more
    assert rule.review(80.1, 1.0).restore == [second]


def test_what_waits_too_long_is_shed_with_a_reason() -> None:
    request = waiting(0, 10.0, 5.0)
    request.relegated = True
    rule = feasible([request], queue_timeout_s=2.0)
    assert rule.review(12.0, 1.0) == Review([], [], [])
    ((shed, reason),) = rule.review(12.1, 1.0).shed
    assert shed is request
    assert "deadline" in reason


def test_reviews_are_spaced() -> None:
    rule = feasible([])
    rule.review(3.0, 1.0)
    assert rule.next_review_s == pytest.approx(3.25)


def test_requests_without_a_deadline_are_never_set_aside() -> None:
    request = waiting(0, 2e9, 5.0, arrival_s=1e9)
    rule = feasible([request])
    assert rule.review(1e9 + 1e6, 1.0) == Review([], [], [])
    assert not rule.infeasible(request, 1e9)
