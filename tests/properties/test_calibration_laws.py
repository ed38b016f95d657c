"""Laws of the calibration while serving, on observations that need not make sense."""

from math import hypot, isfinite

from hypothesis import given
from hypothesis import strategies as st

from penstock.perf.calibration.calibration import Calibration
from penstock.perf.calibration.values import CalibrationSettings
from support.scaled_examples import examples
from support.served_points import inferno_latencies, lone_latencies
from support.strategies import calibration_priors, served_points

runs = st.lists(served_points(), max_size=8)


def check(calibration, prior, points):
    for point in points:
        found = calibration.observe(point)
        for low, value, high in zip(*(
                (times.alpha_ms, times.beta_ms, times.gamma_ms)
                for times in (found.low, found.times, found.high)), strict=True):
            assert 0.0 < low <= value <= high
            assert isfinite(value)
        assert found.noise >= 1.0
        if not calibration.num_drifts:  # else the prior is another one
            assert all(sd <= most * (1.0 + 1e-9) for sd, most in zip(
                found.log_sd, (hypot(prior.common_sd, each) for each in prior.each_sd),
                strict=True))
        assert found.num_points == len(calibration.points) <= 5


@given(calibration_priors(), runs)
def test_all_proposals_are_positive_and_finite(prior, points):
    check(Calibration(prior, lone_latencies, CalibrationSettings(most_points=5)),
          prior, points)


@examples(30)
@given(calibration_priors(), runs)
def test_all_proposals_are_positive_with_a_queue_as_the_model(prior, points):
    check(Calibration(prior, inferno_latencies, CalibrationSettings(most_points=5)),
          prior, points)


@given(calibration_priors(), runs)
def test_the_same_points_give_the_same_estimate(prior, points):
    first, again = (Calibration(prior, lone_latencies) for _ in range(2))
    for point in points:
        assert first.observe(point) == again.observe(point)
