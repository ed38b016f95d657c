"""The bracketing and bisection of a rate, against a fleet that gives way at a known one."""

import math

import pytest

from penstock.core.errors import InputError
from penstock.experiment.capacity import Capacity, highest_rate


def search(limit, start, ceiling=None, step=2.0, tolerance=0.01):
    tried = []

    def meets(rate_per_s):
        tried.append(rate_per_s)
        return rate_per_s <= limit

    return highest_rate(meets, start, ceiling, step, tolerance), tried


@pytest.mark.parametrize("step", [2.0, 1.05])
@pytest.mark.parametrize("start", [0.5, 3.0, 3.999, 4.0, 4.001, 5.0, 70.0])
def test_the_answer_meets_and_is_within_the_tolerance(start, step):
    found, tried = search(4.0, start, step=step)
    assert found in tried
    assert found <= 4.0 < found * 1.0101
    assert len(tried) < 25


def test_nothing_above_the_ceiling_is_tried():
    found, tried = search(math.inf, 1.0, ceiling=3.0)
    assert found == 3.0
    assert max(tried) == 3.0
    assert search(math.inf, 3.0, ceiling=3.0) == (3.0, [3.0])


def test_no_rate_meets():
    found, tried = search(0.0, 1.0)
    assert found == 0.0
    assert min(tried) > 0.0005


def test_no_rate_misses():
    with pytest.raises(InputError, match="too few to load the fleet"):
        search(math.inf, 1.0)


def test_the_interval_is_students():
    found = Capacity(0.99, (3.0, 5.0), ())
    assert found.rate_per_s == 4.0
    assert found.half_width_per_s == pytest.approx(12.71 * math.sqrt(2) / math.sqrt(2))
    assert Capacity(0.99, (3.0,), ()).half_width_per_s is None
