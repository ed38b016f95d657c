"""Acceptance of drafts: all published forms say the same, and noise makes no impossible rate."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.perf.speculation.acceptance import (
    Acceptance,
    from_conditional,
    from_counters,
    from_lengths,
    from_rates,
    from_synthetic,
)
from penstock.perf.speculation.published import acceptance_of, published_acceptance

RATES = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8).map(
    lambda found: tuple(sorted(found, reverse=True)))
LENGTHS = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8).map(
    lambda found: {k: 1.0 + sum(found[:k]) for k in range(1, len(found) + 1)})


@given(RATES)
def test_lengths_by_depth_give_the_rates_back(rates: tuple[float, ...]) -> None:
    whole = Acceptance(rates)
    found = from_lengths({k: whole.tokens_per_turn(k) for k in range(1, len(rates) + 1)})
    assert found.rates == pytest.approx(rates, abs=1e-9)


@given(RATES)
def test_conditional_probabilities_give_the_rates_back(rates: tuple[float, ...]) -> None:
    assert from_conditional(Acceptance(rates).conditional).rates == pytest.approx(rates, abs=1e-9)


@given(LENGTHS)
def test_noisy_lengths_give_rates_that_never_increase_and_the_deepest_length(
        lengths: dict[int, float]) -> None:
    found = from_lengths(lengths)
    assert all(0.0 <= rate <= 1.0 for rate in found.rates)
    assert all(rate <= before for rate, before in zip(found.rates[1:], found.rates, strict=False))
    deepest = max(lengths)
    assert found.tokens_per_turn(deepest) == pytest.approx(lengths[deepest])


@given(st.integers(1, 8), st.floats(0.0, 1.0))
def test_one_length_means_one_conditional_probability(depth: int, share: float) -> None:
    length = 1.0 + share * depth
    found = from_lengths({depth: length})
    assert found.tokens_per_turn(depth) == pytest.approx(length, abs=1e-6)
    if 0.01 < share < 1.0:
        assert found.conditional == pytest.approx([found.rates[0]] * depth, rel=1e-6)


@given(RATES, st.integers(1, 20))
def test_more_drafts_give_more_tokens_and_never_more_than_all(
        rates: tuple[float, ...], depth: int) -> None:
    found = Acceptance(rates)
    tokens = [found.tokens_per_turn(k) for k in range(depth + 1)]
    assert tokens == sorted(tokens)
    assert tokens[0] == 1.0
    assert all(num <= k + 1 for k, num in enumerate(tokens))


def test_counters_give_rates_with_an_interval() -> None:
    found = from_counters(1000, [800, 600, 450])
    assert found.rates == (0.8, 0.6, 0.45)
    for low, rate, high in zip(found.low, found.rates, found.high, strict=True):
        assert rate - 0.04 < low < rate < high < rate + 0.04
    wide = from_counters(10, [8])
    assert wide.high[0] - wide.low[0] > 0.3


@pytest.mark.parametrize(("make", "said"), [
    (lambda: from_rates([0.5, 0.6]), "rate 0.6 of position 2; expected 0 to 0.5"),
    (lambda: from_rates([1.2]), "rate 1.2 of position 1; expected 0 to 1"),
    (lambda: from_rates([]), "no rates"),
    (lambda: from_conditional([0.5, -0.1]), "probability -0.1 of position 2"),
    (lambda: from_lengths({2: 3.5}), "length 3.5 at 2 drafted tokens; expected 1 to 3"),
    (lambda: from_lengths({}), "no lengths"),
    (lambda: from_counters(0, [1]), "no drafts are counted"),
    (lambda: from_counters(10, [8, 9]), "9 accepted at position 1; expected at most 8"),
])
def test_impossible_values_are_refused(make: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()  # type: ignore[operator]


def test_a_benchmark_may_pin_its_acceptance() -> None:
    assert from_synthetic({"rejection_sample_method": "standard"}, 3) is None
    pinned = from_synthetic({"rejection_sample_method": "synthetic",
                             "synthetic_acceptance_rates": [0.9, 0.5]}, 2)
    assert pinned is not None
    assert pinned.rates == (0.9, 0.5)
    mean = from_synthetic({"rejection_sample_method": "synthetic",
                           "synthetic_acceptance_length": 2.5}, 3)
    assert mean is not None
    assert mean.tokens_per_turn(3) == pytest.approx(2.5)
    with pytest.raises(InputError, match="synthetic_acceptance_rates"):
        from_synthetic({"rejection_sample_method": "synthetic"}, 3)


def test_one_rate_does_not_fit_published_lengths() -> None:
    """GLM-5.2's conditional rate falls from 0.84, DeepSeek-V4's faster: each position counts."""
    glm, deepseek = published_acceptance("glm-5.2-mtp"), published_acceptance("deepseek-v4-pro-mtp")
    assert glm.conditional[0] == pytest.approx(0.84)
    assert deepseek.tokens_per_turn(3) == pytest.approx(2.49)
    assert deepseek.conditional[2] < 0.5 < 0.7 < glm.conditional[2]


def test_published_names() -> None:
    found = acceptance_of("kimi-k2.5", "eagle3")
    assert found is not None
    assert found.name == "kimi-k2.5-eagle3"
    assert "SPEED-Bench" in found.acceptance.source
    assert acceptance_of("deepseek-r1", "mtp") == acceptance_of("deepseek-v3", "mtp")
    assert acceptance_of("llama-3.1-8b", "eagle3") is None
    with pytest.raises(InputError, match=r"did you mean 'kimi-k2\.5-eagle3'"):
        published_acceptance("kimi-k2.5-eagle")


def test_published_lengths_are_those_of_the_data(shared_data: Path) -> None:
    text = (shared_data / "sessions" / "golden_acceptance_length.csv").read_text("utf-8")
    rows = [row for row in csv.DictReader(text.splitlines())
            if row["file"] == "qwen3.5_mtp.yaml" and row["thinking"] == "thinking_on"]
    assert len(rows) == 8
    found = published_acceptance("qwen3.5-397b-a17b-mtp")
    for row in rows:
        depth = int(row["num_speculative_tokens"])
        assert found.tokens_per_turn(depth) == pytest.approx(
            float(row["mean_acceptance_length"]), abs=1e-9)
