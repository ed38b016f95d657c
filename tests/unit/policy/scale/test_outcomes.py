"""Ends of requests, and the misses among them."""

import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.outcomes import Misses, Outcomes
from penstock.policy.scale.values import SeenDemand

CLASSES = {"chat": ServiceClass("chat", Slo(ttft_s=1.0, percentile=99.0)),
           "batch": ServiceClass("batch", Slo(e2e_s=60.0, percentile=90.0))}


def ended(finished: int, met: int, lost: int = 0, name: str = "chat") -> SeenDemand:
    return SeenDemand("m", name, finished + lost, 0, finished, 0, num_met=met, num_lost=lost)


def test_nothing_is_said_the_first_time() -> None:
    assert Outcomes(CLASSES).add(0.0, [ended(0, 0)], 0.5) is None


def test_the_misses_are_of_what_ended_since_then() -> None:
    outcomes = Outcomes(CLASSES)
    outcomes.add(0.0, [ended(100, 50)], 0.5)
    found = outcomes.add(10.0, [ended(200, 145)], 0.5)
    assert found is not None
    assert found.elapsed_s == 10.0
    assert found.share == pytest.approx(0.05)
    assert found.excess(0.5) == pytest.approx(0.05 - 0.5 * 0.01)


def test_a_lost_request_has_missed() -> None:
    outcomes = Outcomes(CLASSES)
    outcomes.add(0.0, [ended(0, 0)], 1.0)
    found = outcomes.add(10.0, [ended(90, 90, lost=10)], 1.0)
    assert found is not None
    assert found.share == pytest.approx(0.1)


def test_the_worst_class_counts() -> None:
    outcomes = Outcomes(CLASSES)
    outcomes.add(0.0, [ended(0, 0), ended(0, 0, name="batch")], 1.0)
    found = outcomes.add(10.0, [ended(100, 100), ended(100, 70, name="batch")], 1.0)
    assert found is not None
    assert (found.share, found.allowed) == pytest.approx((0.3, 0.1))


def test_without_ends_nothing_is_missed() -> None:
    outcomes = Outcomes(CLASSES)
    outcomes.add(0.0, [ended(5, 5)], 1.0)
    found = outcomes.add(10.0, [ended(5, 5)], 1.0)
    assert found == Misses(10.0, 0.0, 0.0)
