import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import f_oneway

from penstock.metrics.variance import between_groups, spread

NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)


def test_spread_of_known_values() -> None:
    found = spread(np.array([1.0, 2.0, np.nan, 3.0, 4.0]))
    assert (found.num, found.mean, found.low, found.high) == (4, 2.5, 1.0, 4.0)
    assert found.sd == pytest.approx(np.sqrt(5 / 3))
    assert found.cv == pytest.approx(np.sqrt(5 / 3) / 2.5)
    assert found.quantiles == {"p5": 1.0, "p25": 1.0, "p50": 2.0, "p75": 3.0, "p95": 4.0}


def test_spread_of_too_little() -> None:
    assert spread(np.array([np.nan])).mean is None
    one = spread(np.array([3.0]))
    assert (one.mean, one.sd, one.cv) == (3.0, None, None)
    assert spread(np.array([-1.0, 1.0])).cv is None


def test_a_decomposition_by_hand() -> None:
    """Groups of 3: means 2 and 5, sums of squares 13.5 between and 4 within."""
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    found = between_groups(values, "aaabbb")
    assert found.num_groups == 2
    assert found.explained == pytest.approx(13.5 / 17.5)
    assert found.f == pytest.approx(13.5)
    of_group = (13.5 - 1.0) / 3
    assert found.share == pytest.approx(of_group / (of_group + 1.0))


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 3)), min_size=2, max_size=60))
def test_shares_are_shares_and_f_is_that_of_others(pairs) -> None:
    values = np.array([value for value, _ in pairs])
    groups = [group for _, group in pairs]
    found = between_groups(values, groups)
    if found is None:
        return
    assert 0.0 <= found.share <= 1.0
    assert 0.0 <= found.explained <= 1.0 + 1e-12
    by_group = [values[np.array(groups) == group] for group in sorted(set(groups))]
    if found.f is not None and found.f < 1e6 and all(len(one) > 0 for one in by_group):
        other = f_oneway(*by_group)
        assert found.f == pytest.approx(float(other.statistic), rel=1e-6, abs=1e-9)
        assert found.p_value == pytest.approx(float(other.pvalue), rel=1e-5, abs=1e-9)


def test_shares_recover_the_variances_that_made_the_values() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), 20)
    values = 10.0 + 3.0 * rng.standard_normal(300)[groups] + 4.0 * rng.standard_normal(6000)
    assert between_groups(values, groups.tolist()).share == pytest.approx(9 / 25, abs=0.03)
    noise = between_groups(rng.standard_normal(6000), groups.tolist())
    assert noise.share < 0.01
    assert noise.explained > 0.03, "chance alone explains something"


@pytest.mark.parametrize(("values", "groups"), [
    ([], []), ([1.0, 2.0], "aa"), ([1.0, 2.0], "ab"), ([5.0] * 6, "aaabbb"),
    ([1.0, np.nan, 2.0], "aab"), ([0.1 + 0.2, 0.3] * 3, "aaabbb")])
def test_what_cannot_be_decomposed(values, groups) -> None:
    assert between_groups(np.array(values), groups) is None


def test_groups_without_any_spread_within() -> None:
    found = between_groups(np.array([1.0, 1.0, 2.0, 2.0]), "aabb")
    assert (found.share, found.explained, found.f, found.p_value) == (1.0, 1.0, None, None)
