"""Mixtures whose first layers are dense: cuts must hold the kind of layer that is repeated."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from penstock.catalog.catalog import load_catalog
from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.core.units import GIB
from penstock.perf.fingerprint.advice import advice
from penstock.perf.fingerprint.cuts import Cuts
from penstock.perf.fingerprint.estimator import Estimator, usual_estimator
from penstock.perf.fingerprint.physics import Subject
from penstock.perf.profiles.rows import ProfiledRun
from penstock.published.maveriq.estimates import PublishedEstimator
from penstock.published.maveriq.fingerprints import MaveriqEstimator
from support.fingerprint_world import SUBJECTS, run

V3 = Subject(load_catalog().model("deepseek-v3"), load_catalog().accelerator("h200-141gb"))
LEAD, LAYERS = 3, 61
ONE = Configuration(Parallelism(), "fp8", "fp16")
DENSE_S, EXPERTS_S, REST_S = 0.02, 0.05, 0.3


def cut(num_layers: int, output_tokens: int = 20) -> ProfiledRun:
    """Dense layers take less than half as long; bytes are weights and 2 GiB."""
    dense = min(LEAD, num_layers)
    seconds = REST_S + dense * DENSE_S + (num_layers - dense) * EXPERTS_S
    num_bytes = V3.layers_params(num_layers, first=True) + 2.0 * GIB
    return ProfiledRun(V3.model.name, 1, 1, (num_layers,), "fp8", "fp16", 32, output_tokens, 1,
                       seconds * output_tokens / 20, num_bytes, None, "the world")


def known(*sizes: int) -> Estimator:
    return usual_estimator({V3.model.name: V3}, [cut(size) for size in sizes])


def test_weights_of_the_first_and_the_last_layers_are_all_weights() -> None:
    total = V3.model.num_params - V3.model.embedding_params
    for num in (0, 1, 3, 4, 60, LAYERS):
        assert V3.layers_params(num, first=True) + V3.layers_params(LAYERS - num) == pytest.approx(
            total)
    assert V3.layers_params(1) > 15 * V3.layers_params(1, first=True)
    dense = SUBJECTS["llama-2-7b"]
    assert dense.layers_params(7) == dense.layers_params(7, first=True) == 7 * dense.layer_params


def test_the_line_is_of_layers_with_experts() -> None:
    cuts = Cuts([cut(size) for size in (1, 2, 4, 5)])
    line = cuts.line(cuts.keys[0], LEAD)
    assert line is not None
    assert line.layer_s == pytest.approx(EXPERTS_S)
    assert line.rest_s + LAYERS * line.layer_s == pytest.approx(
        REST_S + LEAD * DENSE_S + (LAYERS - LEAD) * EXPERTS_S)


def test_dense_cuts_beside_others_change_nothing() -> None:
    alone, beside = (known(*sizes).estimate(V3.model.name, ONE, 20) for sizes in
                     ((4, 5), (1, 2, 4, 5)))
    assert beside.latency_s.value == alone.latency_s.value
    # Of all layers alike, as much as the dense ones take would be missing from the others.
    assert alone.latency_s.value == pytest.approx(
        REST_S + LEAD * DENSE_S + (LAYERS - LEAD) * EXPERTS_S, rel=0.06)
    least = V3.layers_params(LAYERS)
    for found in (alone, beside):
        assert found.memory_bytes.value == pytest.approx(least + 2.0 * GIB, rel=0.03)


@pytest.mark.parametrize("sizes", [(1, 2), (1, 2, 4), (2,)])
def test_cuts_without_experts_are_refused(sizes: Sequence[int]) -> None:
    with pytest.raises(InputError, match=r"first 3 layers of deepseek-v3 are dense.* of the 58 "
                                         "with experts; measure runs of 4 and 5 layers"):
        known(*sizes).estimate(V3.model.name, ONE, 20)


def test_a_cut_of_all_dense_layers_is_on_the_line() -> None:
    assert known(3, 4).estimate(V3.model.name, ONE, 20).latency_s.value == pytest.approx(
        known(4, 5).estimate(V3.model.name, ONE, 20).latency_s.value)


def test_maveriqs_rule_does_not_take_them_for_alike() -> None:
    cuts = Cuts([cut(size, output) for size in (1, 2) for output in (10, 20)])
    rule = PublishedEstimator({V3.model.name: V3}, cuts, MaveriqEstimator(cuts, {}))
    with pytest.raises(InputError, match="takes all layers for alike: the first 3 layers"):
        rule.estimate(V3.model.name, ONE, 20)


def test_what_to_measure_next_holds_experts() -> None:
    estimator = known(4, 5)
    wide = Configuration(Parallelism(2), "fp8", "fp16")
    found = estimator.estimate(V3.model.name, wide, 20)
    said = advice(V3.model.name, LAYERS, {wide: replace(found, latency_s=replace(
        found.latency_s, coverage=0.9))}, LEAD)
    assert said[0].startswith("cuts of deepseek-v3 to 4 and 5 layers on 2 ranks")


def test_models_of_one_kind_of_layer_are_as_before() -> None:
    cuts = Cuts([run("llama-2-7b", Configuration(Parallelism(), "fp16", "fp16"), size, 20)
                 for size in (1, 2)])
    assert cuts.line(cuts.keys[0], 0) == cuts.line(cuts.keys[0])
