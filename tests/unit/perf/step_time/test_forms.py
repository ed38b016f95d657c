"""The closed forms: values, affinity, intervals and the published coefficients."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.step import StepFeatures
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.knee import KneeStepTime
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.tabulated import TabulatedStepTime
from penstock.published.niyama.step_time import NiyamaStepTime
from penstock.registry.step_times import published_step_time

EVIDENCE = Evidence("test", 0.05, 0.25, StepFeatures(4096, 2e7, 256, 400_000))
LINEAR = LinearStepTime(0.01, 5e-5, 2e-9, 1e-5, 1e-7, EVIDENCE)
KNEE = KneeStepTime(0.01, 2.5e-5, 4.0, 4.8e-5, 1e-6, 2.3e-9, 7.4e-8, EVIDENCE)
TABLE = TabulatedStepTime((1.0, 64.0, 1024.0), (0.010, 0.012, 0.070), 1e-6, 2e-9, 8e-8, EVIDENCE)
AFFINE: list[StepTimeModel] = [LINEAR, KNEE, TABLE, BiasedStepTime(KNEE, 1.2)]


@pytest.mark.parametrize("model", AFFINE)
@given(prefill=st.integers(0, 16_384), work=st.floats(0, 1e9), decodes=st.integers(0, 512),
       context=st.integers(0, 2_000_000))
def test_time_is_affine_in_work_and_context(model, prefill, work, decodes, context):
    slopes = model.slopes
    expected = (model.seconds(prefill, 0.0, decodes, 0)
                + slopes.work_s * work + slopes.context_s * context)
    assert model.seconds(prefill, work, decodes, context) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("model", AFFINE)
@given(prefill=st.integers(0, 16_384), decodes=st.integers(0, 512), more=st.integers(1, 512))
def test_more_tokens_never_take_less_time(model, prefill, decodes, more):
    before = model.seconds(prefill, 0.0, decodes, 0)
    assert model.seconds(prefill + more, 0.0, decodes, 0) >= before
    assert model.seconds(prefill, 0.0, decodes + more, 0) >= before


@pytest.mark.parametrize("model", AFFINE)
def test_parts_sum_to_the_total_inside_the_interval(model):
    answer = model.predict(StepFeatures(512, 200_000.0, 20, 30_000))
    assert sum(answer.parts.values()) == pytest.approx(answer.total_s)
    assert answer.low_s < answer.total_s < answer.high_s
    assert not answer.extrapolated


def test_leaving_the_measured_range_is_said_and_widens_the_interval():
    inside = LINEAR.predict(StepFeatures(4096, 0.0, 0, 0))
    outside = LINEAR.predict(StepFeatures(4097, 0.0, 0, 0))
    assert (inside.extrapolated, outside.extrapolated) == (False, True)
    assert outside.high_s / outside.total_s == pytest.approx(1.5)
    assert inside.high_s / inside.total_s == pytest.approx(1.25)


def test_interval_never_starts_under_the_bound():
    answer = EVIDENCE.step_time(StepFeatures(1, 0.0, 0, 0), 0.010, {}, bound_s=0.0095)
    assert answer.low_s == 0.0095


def test_linear_adds_its_terms():
    assert LINEAR.seconds(100, 1e6, 10, 1000) == pytest.approx(0.01 + 0.005 + 0.002 + 1e-4 + 1e-4)


def test_knee_follows_memory_when_small_and_compute_when_large():
    assert KNEE.seconds(0, 0.0, 1, 0) == pytest.approx(0.01, rel=0.01)
    slope = (KNEE.seconds(100_000, 0.0, 0, 0) - KNEE.seconds(99_000, 0.0, 0, 0)) / 1000
    assert slope == pytest.approx(2.5e-5 + 4.8e-5, rel=1e-3)


def test_table_passes_through_its_knots_and_extends_the_last_segment():
    assert [TABLE.seconds(n, 0.0, 0, 0) for n in (1, 64, 1024)] == pytest.approx(
        [0.010, 0.012, 0.070])
    rate = (0.070 - 0.012) / 960
    assert TABLE.seconds(2048, 0.0, 0, 0) == pytest.approx(0.070 + 1024 * rate)


def test_table_never_goes_below_zero_under_its_first_knot():
    steep = TabulatedStepTime((100.0, 101.0), (0.001, 0.1), 0.0, 0.0, 0.0, EVIDENCE)
    assert steep.seconds(1, 0.0, 0, 0) == 0.0


def niyama() -> NiyamaStepTime:
    model = published_step_time("niyama-a100-llama-3-8b")
    assert isinstance(model, NiyamaStepTime)
    return model


@pytest.mark.parametrize(("batch", "milliseconds"), [
    ((0, 32, 64_000, 0), 25.1), ((512, 0, 0, 0), 56.6), ((992, 32, 64_000, 2000), 115.7),
    ((2016, 32, 64_000, 8000), 230.0)])
def test_niyama_reproduces_the_published_batches(batch, milliseconds):
    assert niyama().batch_seconds(*batch) * 1e3 == pytest.approx(milliseconds, abs=0.6)


def test_niyama_keeps_its_seam_and_its_negative_decode_slope():
    model = niyama()
    assert model.batch_seconds(512, 0, 0, 0) == pytest.approx(0.0566, abs=1e-4)
    assert model.batch_seconds(513, 0, 0, 0) == pytest.approx(0.0542, abs=1e-4)
    assert model.batch_seconds(600, 1, 0, 0) < model.batch_seconds(600, 0, 0, 0)
    assert model.slopes is None


@given(chunk=st.integers(1, 2048), past=st.integers(0, 30_000), decodes=st.integers(0, 256))
def test_niyama_recovers_the_context_of_one_chunk(chunk, past, decodes):
    model = niyama()
    work = chunk * (past + chunk / 2)
    assert model.seconds(chunk, work, decodes, 5000) == pytest.approx(
        model.batch_seconds(chunk, decodes, 5000, past), rel=1e-9)


def test_niyama_parts_sum_to_its_total():
    answer = niyama().predict(StepFeatures(512, 512 * 1256.0, 20, 30_000))
    assert sum(answer.parts.values()) == pytest.approx(answer.total_s)


def test_published_coefficients_are_those_of_the_sources(shared_data: Path):
    vidur = json.loads((shared_data / "vidur/a100_llama3_8b_batch_fit.json").read_text())
    b, g, p, a, k, t, _ = vidur["roofline7"]["b_g_p_a_k_t_s"]
    knee = published_step_time("vidur-a100-llama-3-8b")
    expected = ((b**p + (g * 532) ** p) ** (1 / p) + a * 3e5 + k * 4e4 + t * 532) / 1e3
    assert knee.seconds(512, 3e5, 20, 40_000) == pytest.approx(expected, rel=1e-8)
    linear = published_step_time("vidur-a100-llama-3-8b-linear")
    terms = np.dot(vidur["linear5"]["coef_ms"], [1, 512, 3e5, 20, 4e4]) / 1e3
    assert linear.seconds(512, 3e5, 20, 40_000) == pytest.approx(terms, rel=1e-12)
    for bin_, limits in zip(
            json.loads((shared_data / "niyama/niyama_predictor_coeffs.json").read_text())["bins"],
            ((400, 30), (900, 30)), strict=True):
        prefill, decodes = limits
        terms = np.dot(bin_["coef"], [prefill + decodes, prefill, decodes, 9000, 700])
        assert niyama().batch_seconds(prefill, decodes, 9000, 700) == pytest.approx(
            bin_["intercept"] + terms)


@pytest.mark.parametrize("name", ["vidur-a100-llama-3-8b", "vidur-a100-llama-3-8b-linear"])
def test_published_vidur_models_keep_the_error_they_state(shared_data: Path, name):
    with gzip.open(shared_data / "vidur/a100_llama3_8b_batches.csv.gz", "rt") as lines:
        rows = np.genfromtxt(lines, delimiter=",", skip_header=1)
    model = published_step_time(name)
    seconds = np.array([model.seconds(int(row[0]), row[1], int(row[2]), int(row[3]))
                        for row in rows.tolist()])
    error = np.abs(seconds * 1e3 / rows[:, 5] - 1)
    answer = model.predict(StepFeatures(0, 0.0, 8, 8000))
    stated_p95 = answer.high_s / answer.total_s - 1
    assert error.mean() < 0.017
    assert np.quantile(error, 0.95) < 1.1 * stated_p95
