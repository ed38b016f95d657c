import math

import pytest

from penstock.metrics.seeds import half_width, paired_difference, seed_mean


def test_the_interval_is_students():
    assert half_width([3.0, 5.0]) == pytest.approx(12.71)
    assert half_width([1.0]) is None
    assert half_width([]) is None
    many = [0.0, 1.0] * 50
    assert half_width(many) == pytest.approx(1.96 * 0.502519 / 10, rel=1e-4)


def test_seeds_without_a_value_are_left_out_and_counted():
    found = seed_mean([1.0, None, 3.0])
    assert (found.mean, found.num_known, found.num_seeds) == (2.0, 2, 3)
    assert found.half_width == pytest.approx(12.71 * math.sqrt(2) / math.sqrt(2))
    none = seed_mean([None, None])
    assert (none.mean, none.half_width, none.num_known, none.num_seeds) == (None, None, 0, 2)


def test_what_a_seed_does_to_both_cancels_out():
    found = paired_difference([11.0, 101.0, None], [10.0, 100.0, 5.0])
    assert (found.mean, found.half_width, found.num_known) == (1.0, 0.0, 2)
    assert paired_difference([1.0], [None]).mean is None
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [])
