"""Step-time models as parameters, and calibrated parameters as a model."""

from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.perf.calibration.fit import fit
from penstock.perf.calibration.step_time import parameters_of, step_time_of
from penstock.perf.calibration.table import read_points
from penstock.perf.calibration.values import CalibrationSettings, Prior
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.store import load_step_time, save_step_time
from support.served_points import LOADS, PRIOR, TRUTH, lone_latencies, served

HEADER = "rate_per_s,prompt_tokens,output_tokens,max_batch,ttft_s,itl_s\n"


def known():
    points = [served(load, model=lone_latencies) for load in LOADS * 2]
    return points, fit(points, PRIOR, lone_latencies, CalibrationSettings())


def test_calibrated_parameters_are_a_linear_model_that_can_be_saved(tmp_path):
    points, found = known()
    model = step_time_of(found, points, lone_latencies)
    assert model.seconds(1000, 0.0, 0, 0) == pytest.approx(
        (TRUTH.alpha_ms + 1000 * (TRUTH.beta_ms + TRUTH.gamma_ms)) / 1e3, rel=0.01)
    assert model.seconds(0, 0.0, 8, 4000) == pytest.approx(
        (TRUTH.alpha_ms + 8 * TRUTH.beta_ms + 4000 * TRUTH.gamma_ms) / 1e3, rel=0.15)
    save_step_time(model, tmp_path / "served.yaml")
    assert load_step_time(tmp_path / "served.yaml") == model
    assert model.evidence.source == "calibrated while serving, 6 points"
    assert model.evidence.mean_error < 0.01
    assert model.evidence.p95_error > model.evidence.mean_error


def test_more_decodes_than_seen_are_extrapolated():
    points, found = known()
    model = step_time_of(found, points, lone_latencies)
    inside, outside = (model.predict(StepFeatures(512, 0.0, decodes, 1000))
                       for decodes in (1, 10_000))
    assert not inside.extrapolated
    assert outside.extrapolated


def test_a_prior_alone_says_that_it_knows_nothing():
    found = fit([], PRIOR, lone_latencies, CalibrationSettings())
    assert step_time_of(found, [], lone_latencies).evidence.p95_error > 1.0


def test_a_linear_model_has_its_own_parameters():
    evidence = Evidence("test", 0.0, 0.0)
    model = LinearStepTime(0.008, 3.4e-5, 0.0, 3.4e-5, 5e-8, evidence)
    found = parameters_of(model, 2048)
    assert (found.alpha_ms, found.beta_ms, found.gamma_ms) == pytest.approx(
        (8.0, 0.034, 5e-5), rel=1e-6)
    assert found.max_step_tokens == 2048
    flat = parameters_of(LinearStepTime(0.008, 0.0, 0.0, 0.0, 0.0, evidence))
    assert min(flat.alpha_ms, flat.beta_ms, flat.gamma_ms) > 0.0
    assert Prior(flat).state[0] == pytest.approx(8.0, rel=0.01)


def test_points_are_read_in_their_units(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(f"{HEADER}1.5,256,512,64,0.03,0.01\n")
    (point,) = read_points(path)
    assert (point.rate_per_s, point.ttft_ms, point.itl_ms) == (1.5, 30.0, 10.0)
    assert (point.size.input_tokens, point.size.output_tokens, point.max_batch) == (256, 512, 64)
    assert replace(point, rate_per_s=0.0).usable is False


@pytest.mark.parametrize(("row", "problem"), [
    ("0,256,512,64,0.03,0.01", "rate_per_s"), ("1,256,0,64,0.03,0.01", "output_tokens"),
    ("1,256,512,0,0.03,0.01", "max_batch"), ("1,256,512,64,x,0.01", "ttft_s")])
def test_a_broken_point_is_refused_with_its_column(tmp_path, row, problem):
    path = tmp_path / "points.csv"
    path.write_text(f"{HEADER}{row}\n")
    with pytest.raises(InputError, match=f"points.csv:2: {problem}"):
        read_points(path)
