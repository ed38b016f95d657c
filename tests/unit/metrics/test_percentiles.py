"""Percentiles of blocks are those of all values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.metrics import percentiles as module
from penstock.metrics.percentiles import percentiles, percentiles_by_key

VALUES = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(
    [0.0, -0.0, 1.0, 1.0, 1e-9, 0.125, np.nan]))


@given(st.lists(st.lists(VALUES, max_size=40), min_size=1, max_size=6))
def test_blocks_have_the_percentiles_of_the_whole(blocks):
    columns = [np.array(block, np.float64) for block in blocks]
    whole = percentiles(np.concatenate(columns))
    found = percentiles_by_key(lambda: iter([{"a": column, "b": -column} for column in columns]))
    assert found["a"] == whole
    assert found["b"] == percentiles(-np.concatenate(columns))


def test_many_equal_values_are_kept_once():
    rng = np.random.default_rng(0)
    columns = [np.where(rng.random(20_000) < 0.9, 0.0, rng.gamma(2.0, 0.01, 20_000))
               for _ in range(5)]
    found = percentiles_by_key(lambda: iter([{None: column} for column in columns]))
    assert found[None] == percentiles(np.concatenate(columns))


def test_distinct_values_that_hardly_differ_are_not_all_held(monkeypatch):
    """Step times of an idle fleet differ by rounding only."""
    monkeypatch.setattr(module, "_MOST_COUNTED", 100)
    most = 0
    with_more = module._Numbered.with_more

    def watched(self, values):
        nonlocal most
        found = with_more(self, values)
        most = max(most, len(found.values))
        return found

    monkeypatch.setattr(module._Numbered, "with_more", watched)
    monkeypatch.setattr(module, "_MORE_BITS", 8)
    rng = np.random.default_rng(0)
    columns = [0.02 + 1e-6 * rng.random(20_000) for _ in range(5)]
    found = percentiles_by_key(lambda: iter([{None: column} for column in columns]))
    assert found[None] == percentiles(np.concatenate(columns))
    assert most < 2_000
