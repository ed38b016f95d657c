from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.workload.arrivals import ArrivalProcess, constant, gamma, poisson
from penstock.workload.profile import (
    PiecewiseRate,
    SteadyRate,
    bursty,
    diurnal,
    hourly,
    ramp,
    square_wave,
)
from support.scaled_examples import unit_examples

PROFILES = {
    "steady": SteadyRate(), "ramp": ramp(1, 9, 50), "square": square_wave(1, 5, 20, 5),
    "quiet half": square_wave(0, 1, 10, 10), "hourly": hourly([1, 0, 3, 2], 10),
    "diurnal": diurnal(2.0, 60), "bursty": bursty(3, 9, 0.1), "silent gaps": bursty(2, 4),
}
EXACT = {name: profile for name, profile in PROFILES.items() if name not in
         ("bursty", "silent gaps")}
PROCESSES = st.builds(
    ArrivalProcess, st.sampled_from([0.0, 0.4, 1.0, 3.0]), st.sampled_from([*PROFILES.values()]),
    st.none() | st.floats(1.5, 20), st.booleans())


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(process=PROCESSES, seed=st.integers(0, 2**32), num=st.integers(1, 300),
       rate=st.floats(0.01, 1000))
@unit_examples(80)
def test_counts_are_sorted_repeatable_and_finite(process, seed, num, rate):
    times = process.arrivals(rng(seed), rate, num_requests=num)
    assert len(times) == num
    assert np.isfinite(times).all()
    assert times[0] >= 0
    assert (np.diff(times) >= 0).all()
    np.testing.assert_array_equal(times, process.arrivals(rng(seed), rate, num_requests=num))


@given(process=PROCESSES, seed=st.integers(0, 2**32), duration=st.floats(1, 300),
       rate=st.floats(0.1, 5))
@unit_examples(60)
def test_durations_bound_the_times(process, seed, duration, rate):
    times = process.arrivals(rng(seed), rate, duration_s=duration)
    assert (np.diff(times) >= 0).all()
    assert len(times) == 0 or times[-1] <= duration * (1 + 1e-9)
    if not process.exact_rate and len(times):
        # The same process, cut by number instead, is the same series.
        again = process.arrivals(rng(seed), rate, num_requests=len(times))
        np.testing.assert_allclose(times, again, rtol=1e-9)


@given(seed=st.integers(0, 2**32), gap_cv=st.sampled_from([0.0, 0.4, 1.0, 3.0]),
       rate=st.floats(0.1, 50), factor=st.floats(0.1, 10))
@unit_examples(40)
def test_a_higher_rate_presses_the_same_draws_together(seed, gap_cv, rate, factor):
    process = ArrivalProcess(gap_cv)
    slow = process.arrivals(rng(seed), rate, num_requests=50)
    fast = process.arrivals(rng(seed), rate * factor, num_requests=50)
    np.testing.assert_allclose(slow, fast * factor, rtol=1e-12)


@pytest.mark.parametrize("name", PROFILES)
def test_time_and_work_are_inverse(name):
    profile, rate = PROFILES[name], 2.5
    work = np.linspace(0.001, 400, 997)
    times = profile.times_s(work, rate, rng(7))
    back = [profile.expected(time, rate, rng(7)) for time in times]
    np.testing.assert_allclose(back, work, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", EXACT)
def test_profiles_have_mean_one(name):
    length_s = {"steady": 1, "ramp": 50, "square": 25, "quiet half": 20, "hourly": 40,
                "diurnal": 60}[name]
    assert EXACT[name].expected(length_s, 1.0, rng()) == pytest.approx(length_s)


def test_bursts_have_mean_one_in_the_long_run():
    for name in ("bursty", "silent gaps"):
        expected = PROFILES[name].expected(300_000, 1.0, rng(3))
        assert expected == pytest.approx(300_000, rel=0.03)


def test_rates_follow_the_profile():
    times = ArrivalProcess(0.0, square_wave(1, 5, 20, 5)).arrivals(rng(), 18.0, num_requests=9000)
    phase = times % 25
    # Means: 20 s at 1 and 5 s at 5 give 45 per 25 s, so 18/s means 10/s and 50/s.
    assert (phase < 20).mean() == pytest.approx(20 / 45, abs=0.003)
    times = ArrivalProcess(0.0, ramp(0, 10, 100)).arrivals(rng(), 5.0, num_requests=500)
    # Work grows with t^2 / 20.
    np.testing.assert_allclose(times, np.sqrt(20 * np.arange(1, 501)), rtol=1e-9)
    late = ArrivalProcess(0.0, ramp(0, 10, 100)).arrivals(rng(), 5.0, num_requests=510)
    assert late[-1] == pytest.approx(101.0)


def test_sine_matches_its_integral():
    profile = diurnal(1.8, 100.0, peak_at_s=30.0)
    for time in (0.0, 12.0, 30.0, 77.7, 250.0):
        swing = np.sin(2 * np.pi * (time - 30) / 100) + np.sin(2 * np.pi * 30 / 100)
        exact = time + 0.8 * 100 / (2 * np.pi) * swing
        assert profile.expected(time, 1.0, rng()) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(("process", "cv"), [
    (poisson(), 1.0), (gamma(0.5), 0.5), (gamma(2.08), 2.08), (constant(), 0.0)])
def test_gaps_have_the_stated_variation(process, cv):
    gaps = np.diff(process.arrivals(rng(11), 4.0, num_requests=200_000))
    assert gaps.mean() == pytest.approx(0.25, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03, abs=1e-9)


def test_poisson_counts_have_poisson_variance():
    times = ArrivalProcess(1.0, diurnal(1.9, 500)).arrivals(rng(5), 20.0, duration_s=50_000)
    # Per whole period the rate's course drops out: 500 s at 20/s.
    counts = np.bincount((times // 500).astype(int), minlength=100)
    assert counts.mean() == pytest.approx(10_000, rel=0.005)
    assert counts.var() == pytest.approx(10_000, rel=0.5)


def test_gap_cap_cuts_long_gaps_only():
    free = np.diff(poisson().arrivals(rng(2), 5.0, num_requests=20_000))
    cut = np.diff(poisson(gap_cap=8).arrivals(rng(2), 5.0, num_requests=20_000))
    np.testing.assert_allclose(cut, np.minimum(free, 8 / 5), rtol=1e-6)
    assert free.max() > 8 / 5


@pytest.mark.parametrize("name", EXACT)
def test_exact_rate_gives_the_expected_number(name):
    process = ArrivalProcess(2.0, EXACT[name], exact_rate=True)
    times = process.arrivals(rng(4), 3.0, duration_s=600)
    assert len(times) == round(EXACT[name].expected(600, 3.0, rng()))
    steady = replace(process, profile=SteadyRate()).arrivals(rng(4), 3.0, num_requests=90)
    assert steady[-1] == pytest.approx(30.0)


def test_longer_runs_begin_with_the_shorter():
    for process in (poisson(), ArrivalProcess(1.0, bursty(3, 9, 0.2))):
        short = process.arrivals(rng(1), 2.0, duration_s=50)
        long = process.arrivals(rng(1), 2.0, duration_s=5000)
        np.testing.assert_allclose(long[:len(short)], short, rtol=1e-12)
        assert len(long) > len(short)


@pytest.mark.parametrize(("process", "bounds", "said"), [
    (poisson(), {"rate_per_s": 0.0, "num_requests": 5}, "rate_per_s is 0"),
    (poisson(), {"rate_per_s": float("nan"), "num_requests": 5}, "rate_per_s is nan"),
    (poisson(), {"rate_per_s": 1.0}, "neither num_requests nor duration_s"),
    (poisson(), {"rate_per_s": 1.0, "num_requests": 0}, "num_requests is 0"),
    (poisson(), {"rate_per_s": 1.0, "duration_s": -1}, "duration_s is -1"),
    (poisson(), {"rate_per_s": 1e6, "duration_s": 1e6}, "ask for 1e\\+12 requests"),
    (poisson(), {"rate_per_s": 1.0, "num_requests": 10**9}, "ask for 1e\\+09 requests"),
    (poisson(gap_cap=0.0), {"rate_per_s": 1.0, "num_requests": 5}, "gap_cap is 0"),
    (gamma(-1.0), {"rate_per_s": 1.0, "num_requests": 5}, "variation is -1"),
    (ArrivalProcess(1.0, ramp(2, 0, 10)), {"rate_per_s": 1.0, "num_requests": 50},
     "falls to 0 at 10 s"),
])
def test_bad_bounds(process, bounds, said):
    with pytest.raises(InputError, match=said):
        process.arrivals(rng(), **bounds)


@pytest.mark.parametrize(("make", "said"), [
    (lambda: square_wave(-1, 2, 5, 5), "negative"), (lambda: square_wave(0, 0, 5, 5), "all 0"),
    (lambda: square_wave(1, 2, 0, 5), "positive time"), (lambda: hourly([]), "no rates"),
    (lambda: hourly([1, float("nan")]), "negative"), (lambda: diurnal(2.5), "peak_to_mean is 2.5"),
    (lambda: diurnal(1.5, 0), "period_s is 0"), (lambda: bursty(0, 5), "bursty stays"),
    (lambda: bursty(1, 5, 1.5), "off_share is 1.5"),
])
def test_bad_profiles(make, said):
    with pytest.raises(InputError, match=said):
        make()


@given(widths=st.lists(st.floats(0.1, 100), min_size=1, max_size=6), data=st.data())
@unit_examples(60)
def test_any_pieces_invert(widths, data):
    rates = st.lists(st.floats(0, 50), min_size=len(widths), max_size=len(widths))
    start, end = np.array(data.draw(rates)), np.array(data.draw(rates))
    profile = PiecewiseRate(np.array(widths), start + 0.01, end + 0.01)
    work = np.sort(data.draw(st.lists(st.floats(0, 1e4), min_size=1, max_size=20)))
    times = profile.times_s(work, 1.0, rng())
    assert (np.diff(times) >= -1e-9 * times[-1]).all()
    back = [profile.expected(time, 1.0, rng()) for time in times]
    np.testing.assert_allclose(back, work, rtol=1e-6, atol=1e-6)
