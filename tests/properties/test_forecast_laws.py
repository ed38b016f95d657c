"""What must hold of every forecast, whatever was seen before."""

from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.predict.length_distribution import LengthDistribution
from penstock.predict.prompts.forecaster import ForecastSettings, Prior, PromptForecaster
from penstock.predict.prompts.neighbours import NeighbourSettings, weigh
from support.untrained import untrained_hashed

EMBEDDER = untrained_hashed(np.random.default_rng(0), num_dimensions=16, num_buckets=256)
PAIRS = st.lists(st.tuples(st.floats(0, 5000), st.floats(0.01, 10)), min_size=1, max_size=30)
SEEN = st.lists(st.tuples(st.text(max_size=20), st.sampled_from(["one", "two"]),
                          st.integers(0, 4000), st.none() | st.floats(0, 1)), max_size=25)


def forecaster(strength: float = 10.0, capacity: int = 50) -> PromptForecaster:
    settings = ForecastSettings(NeighbourSettings(10, strength=strength, far_cosine=0.1),
                                NeighbourSettings(5, strength=strength), capacity=capacity)
    return PromptForecaster(EMBEDDER, {"one": Prior(100, 0.5), "two": Prior(300, 0.9)}, settings)


@given(SEEN, st.text(max_size=40))
def test_forecasts_are_within_bounds(seen, prompt) -> None:
    made = forecaster(capacity=10)
    for row in seen:
        made.observe(*row)
    for outlook in made.outlook(prompt).values():
        forecast = outlook.forecast
        assert 0.0 <= forecast.quality <= 1.0
        assert 0.0 <= forecast.quality_sd <= 0.5
        assert 0.0 <= forecast.output_tokens <= forecast.output_high_tokens < inf
    assert len(made.memory) <= 10


@given(SEEN, st.randoms(use_true_random=False), st.text(max_size=20))
def test_the_order_of_what_was_seen_does_not_matter(seen, shuffler, prompt) -> None:
    mixed = list(seen)
    shuffler.shuffle(mixed)
    made = forecaster(), forecaster()
    for one, rows in zip(made, (seen, mixed), strict=True):
        vectors = EMBEDDER.embed([row[0] for row in rows])
        values = np.full((2, len(rows), 2), np.nan)
        for place, (_, model, tokens, quality) in enumerate(rows):
            column = ("one", "two").index(model)
            values[:, place, column] = tokens, np.nan if quality is None else quality
        one.fill(vectors, values[0], values[1])
    ours, theirs = made[0].forecast(prompt), made[1].forecast(prompt)
    for model in ours:
        # More rows than neighbours may tie at the last place; with few rows all of them count.
        if len(rows) <= 5:
            assert ours[model][:4] == pytest.approx(theirs[model][:4], rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_shrinkage_goes_from_the_neighbours_to_the_mean(values, mean) -> None:
    qualities = np.array(values)
    cosines = np.full(len(values), 1.0, np.float32)
    weak, strong = (weigh(qualities, cosines, NeighbourSettings(strength=strength))
                    for strength in (1e-9, 1e9))
    assert float(weak.shrunk(mean)) == pytest.approx(qualities.mean(), abs=1e-6)
    assert float(strong.shrunk(mean)) == pytest.approx(mean, abs=1e-6)
    some = float(weigh(qualities, cosines, NeighbourSettings(strength=5.0)).shrunk(mean))
    low, high = sorted((mean, float(qualities.mean())))
    assert low - 1e-9 <= some <= high + 1e-9
    far = weigh(qualities, np.full(len(values), 0.2, np.float32), NeighbourSettings(far_cosine=0.3))
    assert float(far.shrunk(mean)) == pytest.approx(mean)


@given(PAIRS, st.lists(st.floats(0, 8000), min_size=2, max_size=10))
def test_what_is_expected_in_all_never_falls_as_tokens_come(pairs, moments) -> None:
    lengths = LengthDistribution.of(pairs)
    totals = [moment + lengths.remaining_mean(moment) for moment in sorted(moments)]
    assert all(one <= other + 1e-6 * (1 + other) for one, other
               in pairwise(totals))
    assert all(lengths.remaining_mean(moment) > 0 for moment in moments)
    assert totals[0] >= lengths.mean_tokens - 1e-6 * (1 + lengths.mean_tokens)


@given(PAIRS, st.floats(0, 6000), st.floats(0, 0.999), st.floats(0, 0.999))
def test_conditional_quantiles_are_those_of_the_rest(pairs, streamed, q, other_q) -> None:
    lengths = LengthDistribution.of(pairs)
    low, high = sorted((q, other_q))
    assert 0.0 <= lengths.remaining_quantile(streamed, low) \
        <= lengths.remaining_quantile(streamed, high) + 1e-9
    assert lengths.quantile(low) <= lengths.quantile(high) + 1e-9
    # A share q of the answers that are longer than what was streamed ends within the quantile.
    end = streamed + lengths.remaining_quantile(streamed, q)
    left = lengths.above(streamed)
    if left > 1e-9:
        assert lengths.above(end + 1e-6 * (1 + end)) <= (1 - q) * left + 1e-6


@given(PAIRS)
def test_a_distribution_adds_up(pairs) -> None:
    lengths = LengthDistribution.of(pairs)
    assert lengths.above(-1.0) == pytest.approx(1.0)
    assert lengths.remaining_mean(-1.0) - 1.0 == pytest.approx(lengths.mean_tokens)
    weight = sum(weight for _, weight in pairs)
    plain = sum(tokens * weight for tokens, weight in pairs) / weight
    assert lengths.mean_tokens >= plain * (1 - 1e-9)  # the tail only adds
