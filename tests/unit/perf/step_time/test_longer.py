"""Step times that are longer by a constant."""

import pytest

from penstock.core.step import StepFeatures
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.longer import longer
from support.strategies import EVIDENCE

MODEL = LinearStepTime(0.01, 1e-4, 1e-7, 1e-4, 1e-6, EVIDENCE)


def test_every_step_is_longer_by_the_same() -> None:
    found = longer(MODEL, 0.002)
    assert found.slopes == MODEL.slopes
    assert found.seconds(10, 50.0, 4, 100) == pytest.approx(
        MODEL.seconds(10, 50.0, 4, 100) + 0.002)
    features = StepFeatures(10, 50.0, 4, 100)
    inner, outer = MODEL.predict(features), found.predict(features)
    for name in ("total_s", "low_s", "high_s"):
        assert getattr(outer, name) == pytest.approx(getattr(inner, name) + 0.002)
    assert outer.parts["adapters"] == 0.002


def test_nothing_more_is_the_model_itself() -> None:
    assert longer(MODEL, 0.0) is MODEL
