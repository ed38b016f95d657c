"""Explanations of steps: which models tell operations, and what the others tell."""

import math

import pytest

from penstock.catalog import load_catalog
from penstock.core.hardware import Parallelism
from penstock.core.step import StepFeatures, StepTime
from penstock.fleet.lone_replica import step_of
from penstock.perf.explain import explained
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.registry.step_times import make_step_time
from support.strategies import EVIDENCE

MIXED = step_of(512, 1000, 64, 2000)
LINEAR = LinearStepTime(0.01, 1e-5, 1e-9, 1e-4, 1e-8, EVIDENCE)


def made(kind: str | dict[str, object]) -> StepTimeModel:
    catalog = load_catalog()
    return make_step_time(kind, catalog.model("llama-3-8b"), catalog.accelerator("a100-80gb"))


def test_a_chunk_behind_tokens_and_decodes_are_one_step() -> None:
    assert tuple(MIXED) == (512, 512 * 1256.0, 64, 128_000)


def test_a_mixed_step_is_told_beside_two_passes() -> None:
    model = made("roofline")
    found = explained(model, MIXED)
    assert found.passes_s == (model.seconds(512, 512 * 1256.0, 0, 0),
                              model.seconds(0, 0.0, 64, 128_000))
    assert sum(found.passes_s) > found.told.total_s + 0.005  # the weights are read twice
    assert explained(model, step_of(512, 0, 0, 1)).passes_s is None
    assert explained(model, step_of(0, 0, 64, 100)).passes_s is None


def test_a_formula_tells_its_own_parts_and_no_bound() -> None:
    found = explained(LINEAR, MIXED)
    assert not found.by_operation
    assert found.bound_s == 0.0
    assert {part.name: part.seconds for part in found.parts} == pytest.approx({
        "overhead": 0.01, "dense": 512e-5 + 64e-4, "prefill attention": 512 * 1256e-9,
        "decode attention": 128e-5})


@pytest.mark.parametrize("kind", ["niyama", "vidur-a100-llama-3-8b", {
    "kind": "tabulated", "coefficients": {"knot_tokens": [1, 1000], "knot_s": [0.01, 0.1],
                                          "decode_seq_s": 0, "work_s": 1e-9, "context_s": 1e-8}}])
def test_coarse_parts_sum_to_the_step(kind: str | dict[str, object]) -> None:
    model = made(kind)
    found = explained(model, MIXED)
    assert not found.by_operation
    assert math.fsum(part.seconds for part in found.parts) == pytest.approx(model.seconds(*MIXED))


def test_a_factor_lengthens_every_part() -> None:
    plain, slow = (explained(model, MIXED) for model in (
        made("roofline"), made({"kind": "roofline", "factor": 1.5})))
    assert slow.by_operation
    assert slow.bound_s == plain.bound_s
    for before, after in zip(plain.parts, slow.parts, strict=True):
        assert after.seconds == pytest.approx(1.5 * before.seconds)
        assert after.bound_s == before.bound_s
        assert after.source.endswith(" x 1.5")
    twice = explained(BiasedStepTime(made({"kind": "roofline", "factor": 1.5}), 2.0), MIXED)
    assert twice.told.total_s == pytest.approx(3.0 * plain.told.total_s)
    assert math.fsum(part.seconds for part in twice.parts) == pytest.approx(twice.told.total_s)


class Silent:
    """A model that tells a part of its time."""

    slopes = None

    def seconds(self, *_: float) -> float:
        return 0.02

    def predict(self, features: StepFeatures) -> StepTime:
        return StepTime(0.02, 0.02, 0.02, {"dense": 0.015}, "nobody")


def test_the_time_that_a_model_does_not_tell_apart_is_a_part() -> None:
    found = explained(Silent(), MIXED)
    assert [(part.name, part.seconds) for part in found.parts] == [
        ("dense", 0.015), ("not told apart", pytest.approx(0.005))]


def test_a_pipeline_sends_and_ranks_reduce() -> None:
    catalog = load_catalog()
    model = make_step_time("roofline", catalog.model("llama-3-8b"),
                           catalog.accelerator("a100-80gb"), Parallelism(2, 2))
    found = {part.name: part for part in explained(model, MIXED).parts}
    hidden_bytes = 4096 * 2
    assert found["sends between stages"].sent_bytes == 576 * hidden_bytes
    assert found["all-reduces of attention"].sent_bytes == 576 * 32 * hidden_bytes / 2
    assert found["all-reduces of attention"].seconds == pytest.approx(
        found["all-reduces of feed-forward"].seconds)
    assert {found[name].binds for name in found if "all-reduces" in name} == {"link"}
