"""The margin that misses raise and their absence lowers."""

from math import exp, log

import pytest

from penstock.policy.scale.margin import FORGET_S, Margin
from penstock.policy.scale.outcomes import Misses


def margin() -> Margin:
    return Margin(1.25, 0.75, 2.0, 900.0)


def learn(one: Margin, elapsed_s: float, excess: float) -> None:
    one.learn(Misses(elapsed_s, excess + 0.2, 0.4), 0.5)


def test_misses_beyond_the_allowed_ones_raise_the_margin() -> None:
    one = margin()
    learn(one, 90.0, 0.1)
    assert one.value == pytest.approx(1.25 * exp(0.01))


def test_the_size_of_an_outage_counts_up_to_a_limit() -> None:
    one, other = margin(), margin()
    learn(one, 90.0, 0.3)
    learn(other, 90.0, 1.0)
    assert one.value == other.value


def test_fewer_misses_than_allowed_lower_the_margin_to_its_least() -> None:
    one = margin()
    learn(one, 900.0, -0.1)
    assert one.value == pytest.approx(1.25 * exp(-0.1))
    learn(one, 1e6, -0.1)
    assert one.value == 0.75


def test_a_high_margin_is_bounded_and_forgotten() -> None:
    one = margin()
    learn(one, 1e6, 0.3)
    assert one.value == 2.0
    learn(one, FORGET_S / 10, 0.0)
    assert log(one.value / 1.25) == pytest.approx(0.9 * log(2.0 / 1.25))
