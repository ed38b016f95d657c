"""Online correction and deliberate bias."""

import numpy as np
import pytest

from penstock.core.step import StepFeatures
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.calibration import BiasedStepTime, OnlineCorrection
from penstock.perf.step_time.linear import LinearStepTime
from penstock.registry.step_times import published_step_time

MODEL = LinearStepTime(0.01, 5e-5, 2e-9, 1e-5, 1e-7, Evidence("test", 0.05, 0.1))


def learn(correction: OnlineCorrection, ratios) -> OnlineCorrection:
    for ratio in ratios:
        correction.update(0.02, 0.02 * ratio)
    return correction


def test_nothing_learnt_changes_nothing():
    correction = OnlineCorrection()
    assert correction.upper_s(0.02) == 0.02
    assert correction.num_updates == 0


@pytest.mark.parametrize("bias", [0.8, 1.2, 1.5])
def test_a_constant_bias_is_learnt(bias):
    ratios = bias * (1 + 0.05 * np.random.default_rng(3).standard_normal(500))
    assert learn(OnlineCorrection(), ratios).factor == pytest.approx(bias, rel=0.03)


def test_drift_is_followed():
    correction = learn(OnlineCorrection(), [1.0] * 300)
    assert learn(correction, [1.2] * 400).factor == pytest.approx(1.2, rel=0.02)


def test_a_few_stalls_hardly_move_the_factor():
    rng = np.random.default_rng(5)
    ratios = 1 + 0.03 * rng.standard_normal(1000)
    ratios[::50] = 20.0
    assert learn(OnlineCorrection(), ratios).factor == pytest.approx(1.0, abs=0.04)


def test_margin_covers_the_stated_share():
    rng = np.random.default_rng(7)
    correction = learn(OnlineCorrection(quantile=0.95), 1.1 * (
        1 + 0.05 * rng.standard_normal(3000)))
    fresh = 1.1 * (1 + 0.05 * rng.standard_normal(3000))
    covered = np.mean(fresh * 0.02 <= correction.upper_s(0.02))
    assert 0.90 < covered < 0.99


def test_same_observations_same_state():
    ratios = np.random.default_rng(9).uniform(0.8, 1.4, 200)
    one, two = (learn(OnlineCorrection(), ratios) for _ in range(2))
    assert (one.factor, one.margin) == (two.factor, two.margin)


@pytest.mark.parametrize(("predicted", "observed"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_impossible_durations_are_ignored(predicted, observed):
    correction = OnlineCorrection()
    correction.update(predicted, observed)
    assert (correction.num_updates, correction.factor) == (0, 1.0)


def test_a_biased_model_scales_everything():
    biased, step = BiasedStepTime(MODEL, 1.2), StepFeatures(100, 1e5, 10, 1000)
    plain, answer = MODEL.predict(step), biased.predict(step)
    assert biased.seconds(*step) == pytest.approx(1.2 * MODEL.seconds(*step))
    assert biased.slopes.work_s == pytest.approx(1.2 * MODEL.work_s)
    assert (answer.low_s, answer.high_s) == pytest.approx((1.2 * plain.low_s, 1.2 * plain.high_s))
    assert answer.source == "test x 1.2"


def test_a_model_without_slopes_stays_without():
    assert BiasedStepTime(published_step_time("niyama-a100-llama-3-8b"), 1.1).slopes is None
