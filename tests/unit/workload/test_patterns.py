from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.workload.patterns import PATTERNS, SHAPES, exact, mixed, published, shape
from support.scaled_examples import unit_examples

RUN_S = 1200.0
# Mean arrival rates of SINCERE's runs, requests per second, at nominal 4, 8 and 12.
LOGGED = {"gamma": (4.05, 7.89, 11.79), "ramp": (4.04, 7.87, 12.24), "bursty": (2.93, 5.39, 8.50)}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rates(pattern, nominal, seeds=range(30)):
    return np.array([len(published(pattern, nominal, RUN_S, rng(seed))) / RUN_S for seed in seeds])


@pytest.mark.parametrize("pattern", ["gamma", "ramp"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_published_means_are_those_of_the_runs(pattern, place):
    nominal = list(SHAPES)[place]
    found = rates(pattern, nominal)
    # All published runs share one seed, so theirs is one draw from our spread.
    assert abs(found.mean() - LOGGED[pattern][place]) < 3 * found.std(ddof=1)
    assert abs(found.mean() / LOGGED[pattern][place] - 1) < 0.025


@pytest.mark.parametrize("place", [0, 1, 2])
def test_published_bursts_stay_below_the_nominal_mean(place):
    nominal = list(SHAPES)[place]
    found = rates("bursty", nominal)
    low, high = np.quantile(found, [0.05, 0.95])
    assert low < LOGGED["bursty"][place] < high
    assert np.median(found) < 0.85 * nominal


def test_an_idle_gap_outlasts_its_phase_only_as_published():
    longest_idle_s = SHAPES[8.0].idle_s.high
    as_sent = [np.diff(published("bursty", 8.0, RUN_S, rng(seed))).max() for seed in range(10)]
    in_time = [np.diff(exact("bursty", 8.0, RUN_S, rng(seed))).max() for seed in range(10)]
    assert max(as_sent) > 2 * longest_idle_s
    # The next burst's first gap adds a little.
    assert max(in_time) < longest_idle_s + 1.0


def test_what_a_send_takes_is_never_made_up_for():
    quick = published("gamma", 8.0, RUN_S, rng(3), send_s=0.0)
    slow = published("gamma", 8.0, RUN_S, rng(3), send_s=0.01)
    np.testing.assert_allclose(slow, quick[:len(slow)] + 0.01 * np.arange(len(slow)), rtol=1e-9)


def test_a_ramp_is_up_and_down_in_forty_seconds():
    for times in (published("ramp", 12.0, 40_000.0, rng()), exact("ramp", 12.0, 40_000.0, rng())):
        into_s = times % 40.0
        slow = np.count_nonzero((into_s < 4) | (into_s > 36)) / 1000 / 8
        fast = np.count_nonzero(abs(into_s - 20) < 4) / 1000 / 8
        assert 2.5 < slow < 4.5
        assert 20 < fast < 24


@given(pattern=st.sampled_from(PATTERNS), rate=st.floats(0.5, 30), seed=st.integers(0, 2**32),
       duration=st.floats(10, 400))
@unit_examples(60)
def test_exact_is_exact(pattern, rate, seed, duration):
    times = exact(pattern, rate, duration, rng(seed))
    assert len(times) == round(rate * duration)
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert times[-1] <= duration * (1 + 1e-9)
    np.testing.assert_array_equal(times, exact(pattern, rate, duration, rng(seed)))


@given(pattern=st.sampled_from(PATTERNS), rate=st.floats(0.5, 20), seed=st.integers(0, 2**32))
@unit_examples(40)
def test_published_times_ascend_from_the_start(pattern, rate, seed):
    times = published(pattern, rate, 100.0, rng(seed))
    assert times[0] == 0.0
    assert all(later > earlier for earlier, later in pairwise(times))
    assert times[-1] < 100.0
    longer = published(pattern, rate, 150.0, rng(seed))
    np.testing.assert_array_equal(times, longer[:len(times)])


def test_shapes_between_the_published_rates_are_scaled():
    assert shape(4.0) is SHAPES[4.0]
    assert shape(5.0).ramp_peak == pytest.approx(7.0 * 5 / 4)
    assert shape(24.0).burst_rate == (100.0, 150.0)
    assert shape(24.0).burst_s == SHAPES[12.0].burst_s


def test_models_are_drawn_by_their_shares():
    drawn = mixed((0.1, 0.3, 0.6), 200_000, rng(5))
    np.testing.assert_allclose(np.bincount(drawn) / 200_000, (0.1, 0.3, 0.6), atol=0.005)
    with pytest.raises(InputError, match="shares of models are"):
        mixed((0.0, 0.0), 3, rng())
    with pytest.raises(InputError, match="shares of models are"):
        mixed((-1.0, 2.0), 3, rng())


@pytest.mark.parametrize("draw", [published, exact])
def test_what_cannot_be_drawn_is_refused(draw):
    with pytest.raises(InputError, match=r"pattern 'burst' is unknown.*bursty"):
        draw("burst", 4.0, 10.0, rng())
    with pytest.raises(InputError, match="rate_per_s is 0; expected a positive number"):
        draw("gamma", 0.0, 10.0, rng())
    with pytest.raises(InputError, match="duration_s is inf"):
        draw("gamma", 1.0, float("inf"), rng())
