"""Calibration while serving: truth found, honesty about what is not told, noise and drift."""

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from penstock.perf.calibration.calibration import Calibration, older_of_nearest
from penstock.perf.calibration.drift import Cusum, num_changed
from penstock.perf.calibration.fit import fit, surprise
from penstock.perf.calibration.latencies import chain_latencies
from penstock.perf.calibration.values import CalibrationSettings, Prior
from penstock.perf.queueing.parameters import IterationTimes
from support.long_params import with_long
from support.served_points import LOADS, PRIOR, TRUTH, inferno_latencies, served

SETTINGS = CalibrationSettings()


def over(found, truth=TRUTH):
    """Estimated over true parameters."""
    times = found.times
    return (times.alpha_ms / truth.alpha_ms, times.beta_ms / truth.beta_ms,
            times.gamma_ms / truth.gamma_ms)


def noisy(rng):
    return np.exp(rng.normal(0.0, 0.05, 2)).tolist()


def covers(found, truth):
    return [low <= value <= high for low, value, high in zip(*(
        (times.alpha_ms, times.beta_ms, times.gamma_ms)
        for times in (found.low, truth, found.high)), strict=True)]


def times_of(factor):
    return IterationTimes(TRUTH.alpha_ms * factor, TRUTH.beta_ms * factor, TRUTH.gamma_ms * factor)


def test_three_loads_give_the_truth_after_three_observations():
    calibration = Calibration(PRIOR, inferno_latencies)
    for each in range(12):
        found = calibration.observe(served(LOADS[each % 3]))
        if each >= 2:
            assert over(found) == pytest.approx((1.0, 1.0, 1.0), abs=0.01)
    assert found.unidentified == ()
    assert all(covers(found, TRUTH))
    assert calibration.num_drifts == 0


def test_one_load_leaves_gamma_open_and_says_so():
    calibration = Calibration(PRIOR, inferno_latencies)
    for _ in range(30):
        found = calibration.observe(served(LOADS[0]))
    assert found.unidentified == ("gamma_ms",)
    assert over(found)[0] == pytest.approx(1.0, abs=0.15)
    assert covers(found, TRUTH)[2]
    assert found.high.gamma_ms > 1000.0 * found.low.gamma_ms
    # The latencies at that load are right all the same.
    again = inferno_latencies([served(LOADS[0])], [found.times])[0, 0]
    assert again == pytest.approx((served(LOADS[0]).ttft_ms, served(LOADS[0]).itl_ms), rel=0.01)


def test_without_points_the_prior_holds():
    found = Calibration(PRIOR).known
    assert found.times == PRIOR.times
    assert found.log_sd == pytest.approx((8.0**0.5,) * 3)
    assert len(found.unidentified) == 3


@pytest.mark.parametrize("seed", with_long(range(3), (1, 2)))
def test_noise_of_five_percent_leaves_the_parameters_within_ten(seed):
    rng = np.random.default_rng(seed)
    calibration = Calibration(PRIOR, inferno_latencies)
    for each in range(30):
        found = calibration.observe(served(LOADS[each % 3], factors=noisy(rng)))
    assert over(found) == pytest.approx((1.0, 1.0, 1.0), abs=0.1)
    assert over(found)[2] == pytest.approx(1.0, abs=0.02)
    assert calibration.num_drifts == 0
    assert all(covers(found, TRUTH))


@pytest.mark.parametrize(("seed", "factor"), [(0, 1.5), (4, 1.5), (1, 1.0 / 1.5)])
def test_a_drift_is_followed_within_three_observations(seed, factor):
    rng = np.random.default_rng(seed)
    calibration = Calibration(PRIOR, inferno_latencies)
    for each in range(15):
        calibration.observe(served(LOADS[each % 3], factors=noisy(rng)))
    after = times_of(factor)
    for each in range(8):
        found = calibration.observe(served(LOADS[each % 3], after, factors=noisy(rng)))
        if each >= 2:
            assert over(found, after) == pytest.approx((1.0, 1.0, 1.0), abs=0.15)
    assert calibration.num_drifts == 1
    assert len(calibration.points) == 8  # all from before the change are dropped, none after it


def test_a_drift_is_followed_where_the_load_stays_the_same():
    calibration = Calibration(PRIOR, inferno_latencies)
    for each in range(12):
        calibration.observe(served(LOADS[each % 3]))
    for _ in range(3):
        found = calibration.observe(served(LOADS[0], times_of(1.5)))
    assert over(found, times_of(1.5)) == pytest.approx((1.0, 1.0, 1.0), abs=0.15)
    assert max(found.log_sd) > 0.2  # one load does not tell that all three drifted alike


def test_one_bad_observation_is_no_drift_and_hardly_moves_the_estimate():
    calibration = Calibration(PRIOR, inferno_latencies)
    for each in range(18):
        calibration.observe(served(LOADS[each % 3]))
    found = calibration.observe(served(LOADS[0], factors=(5.0, 5.0)))
    assert calibration.num_drifts == 0
    assert over(found) == pytest.approx((1.0, 1.0, 1.0), abs=0.1)


def test_cold_replicas_and_missing_latencies_are_left_out():
    calibration = Calibration(PRIOR, inferno_latencies)
    before = calibration.known
    cold = replace(served(LOADS[0]), served_s=20.0)
    for point in (cold, replace(cold, ttft_ms=nan, served_s=900.0),
                  replace(cold, rate_per_s=0.0, served_s=900.0)):
        assert calibration.observe(point) is before
    assert calibration.points == ()


def test_a_prior_that_takes_the_engine_for_overloaded_is_left():
    slow = Prior(IterationTimes(100.0, 1.0, 0.01))
    points = [served(load) for load in LOADS]
    found = fit(points * 3, slow, inferno_latencies, SETTINGS)
    assert over(found) == pytest.approx((1.0, 1.0, 1.0), abs=0.05)


def test_points_that_the_model_cannot_explain_widen_the_interval():
    points = [served(LOADS[each % 3], factors=((1.4, 0.7), (0.7, 1.4))[each % 2])
              for each in range(12)]
    found = fit(points, PRIOR, inferno_latencies, SETTINGS)
    sound = fit([served(LOADS[each % 3]) for each in range(12)], PRIOR, inferno_latencies, SETTINGS)
    assert found.noise > 2.0
    assert sound.noise == 1.0
    assert max(found.log_sd) > 2.0 * max(sound.log_sd)


def test_rare_loads_outlive_usual_ones():
    calibration = Calibration(PRIOR, inferno_latencies, CalibrationSettings(most_points=4))
    calibration.observe(served(LOADS[1]))
    calibration.observe(served(LOADS[2]))
    for _ in range(6):
        found = calibration.observe(served(LOADS[0]))
    lengths = [point.size.input_tokens for point in calibration.points]
    assert lengths == [1024, 512, 256, 256]
    assert found.unidentified == ()
    assert older_of_nearest(list(calibration.points)) == 2


def test_surprise_is_small_where_the_parameters_are_open():
    known = fit([], PRIOR, inferno_latencies, SETTINGS)
    point = served(LOADS[0])
    assert abs(surprise(point, known, inferno_latencies, SETTINGS).itl) < 1.0
    sure = fit([point] * 9, PRIOR, inferno_latencies, SETTINGS)
    slower = replace(point, itl_ms=1.2 * point.itl_ms)
    assert surprise(slower, sure, inferno_latencies, SETTINGS).itl > 3.0


def test_the_chain_of_penstock_is_a_model_too():
    loads = [(60, 100, 100), (60, 4000, 50), (120, 500, 200)]
    points = [served(load, model=chain_latencies, max_batch=16) for load in loads]
    found = fit(points, PRIOR, chain_latencies, SETTINGS)
    assert over(found) == pytest.approx((1.0, 1.0, 1.0), abs=0.05)


def test_a_change_is_dated_by_the_errors_that_differ_most_surely():
    sums = Cusum()
    for error in (0.9, 0.8, 1.0):
        sums = sums.add(error)
    assert num_changed([sums]) == 0
    sums = sums.add(50.0)
    assert num_changed([sums]) == 0  # one error alone is no change
    assert num_changed([Cusum(), sums.add(50.0)]) == 2


def test_errors_that_lie_around_nothing_are_no_change():
    sums = Cusum()
    for error in np.random.default_rng(0).normal(size=500):
        sums = sums.add(float(error))
        assert num_changed([sums]) == 0


def test_a_change_downwards_is_found_too():
    sums = Cusum()
    for _ in range(3):
        sums = sums.add(-4.0)
    assert num_changed([sums]) == 3
