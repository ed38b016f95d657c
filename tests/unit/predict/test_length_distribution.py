from math import inf

import pytest

from penstock.predict.length_distribution import LengthDistribution


def test_equal_lengths_have_their_mean_and_a_tail() -> None:
    lengths = LengthDistribution.of([(10.0, 1.0), (20.0, 1.0), (30.0, 1.0)])
    assert lengths.tail_share == pytest.approx(0.25)  # the next of four may be the longest
    assert lengths.tail_tokens == pytest.approx(5.0)
    assert lengths.mean_tokens == pytest.approx(0.25 * (10 + 20 + 30) + 0.25 * 35)


def test_what_has_been_streamed_rules_lengths_out() -> None:
    lengths = LengthDistribution([10.0, 100.0], [0.5, 0.5], 0.0, 1.0)
    assert lengths.remaining_mean(0) == pytest.approx(55.0)
    assert lengths.remaining_mean(9) == pytest.approx(46.0)
    # The short answer would have ended: all that is left is the long one.
    assert lengths.remaining_mean(10) == pytest.approx(90.0)
    assert lengths.remaining_mean(99) == pytest.approx(1.0)


def test_beyond_every_length_seen_the_rest_is_the_tail() -> None:
    lengths = LengthDistribution.of([(10.0, 1.0), (30.0, 1.0)])
    for streamed in (30, 31, 1000):
        assert lengths.remaining_mean(streamed) == lengths.tail_tokens
        assert lengths.remaining_quantile(streamed, 0.5) == pytest.approx(
            lengths.tail_tokens * 0.6931471805599453)


def test_quantiles_are_lengths_until_the_tail() -> None:
    lengths = LengthDistribution([1.0, 2.0, 3.0, 4.0], [1.0] * 4, 0.2, 10.0)
    assert [lengths.quantile(q) for q in (0.0, 0.2, 0.21, 0.5, 0.8)] == [1, 1, 2, 3, 4]
    assert lengths.quantile(0.9) == pytest.approx(4.0 + 10.0 * 0.6931471805599453)
    assert lengths.quantile(1.0) == inf


def test_above_is_the_share_of_longer_answers() -> None:
    lengths = LengthDistribution([1.0, 2.0], [1.0, 1.0], 0.1, 5.0)
    assert lengths.above(0.5) == pytest.approx(1.0)
    assert lengths.above(1.0) == pytest.approx(0.55)
    assert lengths.above(2.0) == pytest.approx(0.1)
    assert lengths.above(7.0) == pytest.approx(0.1 / 2.718281828459045)


def test_a_heavier_weight_counts_for_more() -> None:
    light = LengthDistribution.of([(10.0, 1.0), (100.0, 1.0)])
    heavy = LengthDistribution.of([(10.0, 1.0), (100.0, 9.0)])
    assert heavy.mean_tokens > light.mean_tokens
    assert LengthDistribution.of([(10.0, 0.0), (100.0, 1.0)]).quantile(0.0) == 100.0
