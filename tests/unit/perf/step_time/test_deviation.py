"""How far real step times are drawn from their model."""

import numpy as np
import pytest

from penstock.core.step import StepFeatures
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.deviation import deviating
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.store import published_step_time

FEATURES = StepFeatures(700, 2.0**18, 30, 2**15)


def factors(model, num: int = 400) -> np.ndarray:
    return np.array([deviating(model, np.random.default_rng(seed)).seconds(*FEATURES)
                     / model.seconds(*FEATURES) for seed in range(num)])


def test_draws_fill_the_stated_interval_around_the_model() -> None:
    model = published_step_time("vidur-a100-llama-3-8b")
    usual = model.predict(StepFeatures(256, 2.0**15, 16, 2**14))
    low, high = usual.low_s / usual.total_s, usual.high_s / usual.total_s
    drawn = factors(model)
    assert (low - 1e-9 <= drawn).all()
    assert (drawn <= high + 1e-9).all()
    assert np.median(drawn) == pytest.approx(1.0, abs=0.2 * (high - 1.0))
    assert 0.01 < np.mean(drawn > 1.0 + 0.99 * (high - 1.0)) < 0.05  # the draws that are cut


def test_every_kind_of_step_is_off_by_the_same_factor() -> None:
    model = published_step_time("vidur-a100-llama-3-8b")
    off = deviating(model, np.random.default_rng(3))
    ratios = {round(off.seconds(*one) / model.seconds(*one), 12)
              for one in (FEATURES, StepFeatures(0, 0.0, 1, 100), StepFeatures(8000, 1e7, 0, 0))}
    assert len(ratios) == 1


def test_a_model_that_states_no_error_is_taken_at_its_word() -> None:
    model = LinearStepTime(0.01, 1e-4, 0.0, 1e-4, 1e-7, Evidence("made up", 0.0, 0.0))
    assert deviating(model, np.random.default_rng(0)) is model


def test_no_device_is_faster_than_its_physical_bound() -> None:
    class Bounded:
        """A model whose low end is the bound."""

        def predict(self, features: StepFeatures):
            return Evidence("made up", 0.1, 0.5).step_time(features, 1.0, {}, bound_s=0.95)

        def seconds(self, *features: float) -> float:
            return 1.0

    assert factors(Bounded(), 100).min() == pytest.approx(0.95)
