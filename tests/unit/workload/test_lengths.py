import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.workload.length_tables import (
    length_table,
    length_table_names,
    length_table_source,
)
from penstock.workload.lengths import (
    Fixed,
    LengthDistribution,
    QuantileTable,
    TraceLengths,
    length_distribution,
    lognormal_mixture,
    quantile_table,
)
from penstock.workload.stats import trace_stats
from penstock.workload.trace import Trace, no_prefixes
from support.scaled_examples import unit_examples

# Means of the real rows, from the table of section 5 and the ShareGPT file's description.
MEANS = {
    "azure-2023-code": (2047.85, 27.88), "azure-2023-conv": (1154.70, 211.13),
    "mooncake-conversation": (12035.06, 342.62), "mooncake-synthetic": (15325.48, 149.12),
    "sharegpt-8k": (2340.03, 438.71),
}
MAXIMA = {"azure-2023-code": 1899, "azure-2023-conv": 1000, "mooncake-conversation": 2000,
          "mooncake-synthetic": 893, "sharegpt-8k": 1024}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pairs_as_trace(prompt, output) -> Trace:
    return Trace(None, prompt, output, None, None, None, no_prefixes())


def test_every_table_is_expected():
    assert length_table_names() == tuple(sorted(MEANS))


@pytest.mark.parametrize("name", sorted(MEANS))
def test_draws_have_the_real_means(name):
    table = length_table(name)
    prompt, output, rows = table.draw(rng(1), 400_000)
    assert rows is None
    # The standard error of these means is below 0.4 %.
    assert prompt.mean() == pytest.approx(MEANS[name][0], rel=0.01)
    assert output.mean() == pytest.approx(MEANS[name][1], rel=0.01)
    assert min(prompt.min(), output.min()) >= 1
    assert output.max() <= table.max_output_tokens == MAXIMA[name]


@pytest.mark.parametrize("name", sorted(MEANS))
def test_tables_are_well_formed_and_sourced(name):
    table = length_table(name)
    for marginal in (table.prompt, table.output):
        assert isinstance(marginal, QuantileTable)
        assert len(marginal.shares) >= 45
        quantile_table(marginal.shares, marginal.tokens)
    assert "@" in length_table_source(name)


def test_synthetic_table_keeps_its_correlation():
    prompt, output, _ = length_table("mooncake-synthetic").draw(rng(), 50_000)
    assert trace_stats(pairs_as_trace(prompt, output)).spearman == pytest.approx(-0.52, abs=0.02)


def test_unknown_table_names_the_nearest():
    with pytest.raises(InputError, match="unknown length table 'azure-code'; did you mean 'azure-"):
        length_table("azure-code")


def test_mean_of_a_table_is_its_integral():
    table = QuantileTable((0.0, 0.5, 0.75, 1.0), (10.0, 100.0, 100.0, 1000.0))
    middles = (np.arange(200_000) + 0.5) / 200_000
    assert table.mean == pytest.approx(table.quantile(middles).mean(), rel=1e-6)


def test_mixture_matches_direct_draws():
    mixture = lognormal_mixture((0.3, 0.7), (3.0, 6.0), (1.2, 0.4), 100_000)
    middles = (np.arange(100_000) + 0.5) / 100_000
    values = mixture.quantile(middles)
    exact = 0.3 * np.exp(3 + 1.2**2 / 2) + 0.7 * np.exp(6 + 0.4**2 / 2)
    assert values.mean() == pytest.approx(exact, rel=0.005)
    assert (np.diff(values) >= 0).all()
    cut = lognormal_mixture((1.0,), (3.0,), (1.0,), 50)
    assert cut.quantile(np.array([0.5, 1.0])) == pytest.approx([np.exp(3.0), 50.0], rel=1e-4)


@pytest.mark.parametrize("rho", [-0.9, -0.3, 0.0, 0.6])
def test_copula_gives_the_stated_rank_correlation(rho):
    wide = lognormal_mixture((1.0,), (7.0,), (1.0,), 10**6)
    prompt, output, _ = length_distribution(wide, wide, rho).draw(rng(3), 40_000)
    spearman = trace_stats(pairs_as_trace(prompt, output)).spearman
    assert spearman == pytest.approx(6 / np.pi * np.arcsin(rho / 2), abs=0.02)


@given(seed=st.integers(0, 2**32), num=st.integers(1, 200), more=st.integers(0, 200),
       rho=st.sampled_from([0.0, 0.5]))
@unit_examples(40)
def test_more_draws_begin_with_the_fewer(seed, num, more, rho):
    model = LengthDistribution(QuantileTable((0.0, 1.0), (1.0, 900.0)), Fixed(7), rho)
    few, many = model.draw(rng(seed), num), model.draw(rng(seed), num + more)
    np.testing.assert_array_equal(few.prompt_tokens, many.prompt_tokens[:num])
    assert set(many.output_tokens) == {7}


@given(size=st.integers(1, 30), num=st.integers(0, 100), seed=st.integers(0, 2**32),
       shuffled=st.booleans())
@unit_examples(60)
def test_trace_rows_stay_pairs_and_are_used_evenly(size, num, seed, shuffled):
    prompt = np.arange(1, size + 1)
    trace = pairs_as_trace(prompt, prompt * 3)
    drawn = TraceLengths(trace, shuffled).draw(rng(seed), num)
    np.testing.assert_array_equal(drawn.output_tokens, drawn.prompt_tokens * 3)
    uses = np.bincount(drawn.rows, minlength=size)
    assert len(drawn.rows) == num
    assert uses.max() - uses.min() <= 1
    if not shuffled:
        np.testing.assert_array_equal(drawn.rows, np.arange(num) % size)


@pytest.mark.parametrize(("make", "said"), [
    (lambda: quantile_table([0, 1], [1]), "2 shares and 1 token"),
    (lambda: quantile_table([0.1, 1], [1, 2]), "rise from 0 to 1"),
    (lambda: quantile_table([0, 0.5, 0.5, 1], [1, 2, 3, 4]), "rise from 0 to 1"),
    (lambda: quantile_table([0, 1], [5, 4]), "must not fall"),
    (lambda: quantile_table([0, 1], [0, 4]), "start below 1"),
    (lambda: lognormal_mixture([1], [1, 2], [1], 9), "1 weights, 2 mus"),
    (lambda: lognormal_mixture([0], [1], [1], 9), "must be positive"),
    (lambda: lognormal_mixture([1], [1], [1], 0), "max_tokens of a lognormal mixture is 0"),
    (lambda: length_distribution(Fixed(1), Fixed(1), 1.5), "rho is 1.5"),
])
def test_bad_parameters(make, said):
    with pytest.raises(InputError, match=said):
        make()
