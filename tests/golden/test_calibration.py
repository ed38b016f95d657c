"""Calibration beside Inferno's filter on the derived trajectory: same points, same first belief."""

import json

import pytest

from penstock.perf.calibration.calibration import Calibration
from penstock.perf.calibration.values import ServedPoint
from penstock.perf.queueing.parameters import RequestSize
from support.served_points import PRIOR, TRUTH, inferno_latencies


@pytest.fixture(scope="module")
def derived(shared_data):
    path = shared_data / "inferno" / "derived_ekf_trajectory.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return json.loads(path.read_text())


def calibrated(records):
    calibration = Calibration(PRIOR, inferno_latencies)
    for record in records:
        rate_per_min, max_batch, max_queue, prompt, answer = record["env"]
        calibration.observe(ServedPoint(rate_per_min / 60.0, RequestSize(prompt, answer), max_batch,
                                        *record["z"], max_queue))
    return calibration.known


def test_three_points_are_enough_where_the_filter_is_still_off(derived):
    found = calibrated(derived["three_points"])
    truth = TRUTH.alpha_ms, TRUTH.beta_ms, TRUTH.gamma_ms
    assert derived["truth"] == list(truth)
    assert (found.times.alpha_ms, found.times.beta_ms, found.times.gamma_ms) == pytest.approx(
        truth, rel=0.01)
    alpha, _, gamma = derived["three_points"][-1]["x"]
    assert alpha > 1.9 * truth[0]  # the filter after the same 30 observations
    assert gamma < 0.5 * truth[2]


def test_one_point_leaves_gamma_as_far_off_as_the_filter_but_says_so(derived):
    found = calibrated(derived["single_point"])
    assert found.unidentified == ("gamma_ms",)
    assert found.low.gamma_ms < TRUTH.gamma_ms < found.high.gamma_ms
    assert derived["single_point"][-1]["x"][2] < TRUTH.gamma_ms / 6.0
