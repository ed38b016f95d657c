"""The share of the allowed misses that is spent on purpose."""

from math import exp

import pytest

from penstock.policy.scale.outcomes import Misses
from penstock.policy.scale.spending import ADAPT_S, AIM, Spending


def test_a_time_without_misses_raises_the_share() -> None:
    one = Spending(0.25)
    one.learn(Misses(0.5 * ADAPT_S, 0.0, 0.01))
    assert one.value == pytest.approx(0.25 * exp(0.5))


def test_a_crowd_lowers_the_share_by_the_days_that_its_misses_use_up() -> None:
    one = Spending(0.25)
    one.learn(Misses(0.1 * ADAPT_S, 11 * AIM * 0.01, 0.01))
    assert one.value == pytest.approx(0.25 * exp(-1.0))


@pytest.mark.parametrize("first", [0.1, 1.5])
def test_the_aim_is_the_only_rest(first: float) -> None:
    one = Spending(first)
    one.learn(Misses(ADAPT_S, AIM * 0.05, 0.05))
    assert one.value == pytest.approx(first)


def test_the_share_has_bounds() -> None:
    one = Spending(0.25)
    one.learn(Misses(1e6, 0.0, 0.01))
    assert one.value == 2.0
    one.learn(Misses(1e6, 1.0, 0.01))
    assert one.value == 0.05


@pytest.mark.parametrize("misses", [Misses(1e6, 0.0, 0.0), Misses(1e6, 0.5, 0.0)])
def test_neither_silence_nor_a_class_without_allowance_teaches(misses: Misses) -> None:
    one = Spending(0.25)
    one.learn(misses)
    assert one.value == 0.25
