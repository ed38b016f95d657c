"""MaverIQ's formulas: exact on data that obeys them, and its learner."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.perf.fingerprint.cuts import Cuts
from penstock.perf.profiles.rows import ProfiledRun
from penstock.published.maveriq.fingerprints import Exponents, MaveriqEstimator, extrapolated
from penstock.published.maveriq.learner import FINGERPRINT_START, Point, learn_exponents

POWERS = Exponents(0.05, 0.7, 0.2, 0.5)
small = st.floats(0.001, 1.0)


def cut(tensor: int, layers: int, output: int, latency_s: float, memory: float = 1e9,
        pipeline: int = 1, batch: int = 1) -> ProfiledRun:
    return ProfiledRun("m", tensor, pipeline, (layers - pipeline + 1, *[1] * (pipeline - 1)),
                       "fp16", "fp16", None, output, batch, latency_s, memory, None, "here")


def configuration(tensor: int = 1, pipeline: int = 1) -> Configuration:
    return Configuration(Parallelism(tensor, pipeline), "fp16", "fp16")


@given(small, small, small, small)
def test_what_is_bilinear_in_layers_and_tokens_is_found_exactly(
        ttft_layer: float, ttft_rest: float, tpot_layer: float, tpot_rest: float) -> None:
    def latency(layers: int, output: int) -> float:
        return layers * ttft_layer + ttft_rest + output * (layers * tpot_layer + tpot_rest)

    whole = extrapolated({output: {layers: latency(layers, output) for layers in (1, 2)}
                          for output in (10, 20)}, 40)
    assert whole is not None
    assert whole.ttft_s == pytest.approx(40 * ttft_layer + ttft_rest, rel=1e-6, abs=1e-9)
    assert whole.tpot_s == pytest.approx(40 * tpot_layer + tpot_rest, rel=1e-6, abs=1e-9)


def test_one_size_or_one_length_is_not_enough() -> None:
    assert extrapolated({10: {1: 1.0, 2: 2.0}}, 40) is None
    assert extrapolated({10: {1: 1.0}, 20: {1: 2.0}}, 40) is None


def estimator(ranks: bool = True) -> MaveriqEstimator:
    runs = [cut(tensor, layers, output, (0.001 * layers * output) / (0.6 * tensor + 0.4), batch=b)
            for tensor in ((1, 2) if ranks else (1,)) for layers in (1, 2) for output in (10, 20)
            for b in (1, 2)]
    runs += [cut(1, layers, 10, 0.1, 2e9 + 1e8 * layers, pipeline=2) for layers in (2, 3)]
    return MaveriqEstimator(Cuts(runs), {("fp16", "fp16"): POWERS})


def test_the_formula_of_the_paper() -> None:
    found = estimator()
    l11 = 40 * 0.001 * 100
    l21 = l11 / 1.6
    assert found.latency_s("m", 40, configuration(), 100) == pytest.approx(l11)
    expected = (l11 / (4 * 2**0.05) + (l21 - l11 / 2) * 3**0.7 / 2**0.2
                + (l11 - l11 / 2**0.05) * 1.0)
    assert found.latency_s("m", 40, configuration(4, 2), 100) == pytest.approx(expected)


def test_a_model_without_runs_on_two_ranks_has_nothing_added_by_ranks() -> None:
    found = estimator(ranks=False).latency_s("m", 40, configuration(2), 100)
    assert found == pytest.approx(2.0)


def test_batches_grow_as_the_second_request_did() -> None:
    one = estimator().latency_s("m", 40, configuration(), 100, 1)
    assert one is not None
    assert estimator().latency_s("m", 40, configuration(), 100, 64) == pytest.approx(one)


def test_memory_grows_with_ranks_and_stages() -> None:
    found = estimator()
    base, staged = 1e9, 2e9 + 1e8 * 40
    assert found.memory_bytes("m", 40, configuration()) == pytest.approx(base)
    assert found.memory_bytes("m", 40, configuration(2, 3)) == pytest.approx(
        base + 2 * 2 * (staged - base))


def test_what_was_not_measured_is_not_estimated() -> None:
    found = estimator()
    assert found.latency_s("other", 40, configuration(), 100) is None
    assert found.memory_bytes("other", 40, configuration()) is None
    other = Configuration(Parallelism(1, 1), "int8", "fp16")
    assert found.latency_s("m", 40, other, 100) is None


def points(powers: Exponents) -> list[Point]:
    found = []
    spreads = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 4), (4, 1), (4, 2), (8, 1))
    for tensor, pipeline in spreads:
        for alone, rank in ((2.0, 0.4), (5.0, 0.7), (0.8, 0.3)):
            ranks = rank * (tensor - 1) ** powers.beta / pipeline**powers.gamma if tensor > 1 else 0
            stages = (alone * (1 - 2**-powers.alpha) * (pipeline - 1) ** powers.delta
                      if pipeline > 1 else 0)
            latency = alone / (tensor * pipeline**powers.alpha) + ranks + stages
            found.append(Point(tensor, pipeline, alone, rank, latency))
    return found


def loss(powers: Exponents, rows: list[Point]) -> float:
    errors = []
    for row in rows:
        ranks = row.rank_s * (row.tensor - 1) ** powers.beta / row.pipeline**powers.gamma \
            if row.tensor > 1 else 0.0
        stages = row.alone_s * (1 - 2**-powers.alpha) * (row.pipeline - 1) ** powers.delta \
            if row.pipeline > 1 else 0.0
        guess = row.alone_s / (row.tensor * row.pipeline**powers.alpha) + ranks + stages
        errors.append(abs(guess / row.latency_s - 1))
    return math.fsum(errors) / len(errors)


@pytest.mark.parametrize("truth", [Exponents(0.1, 0.5, 0.6, 0.3), Exponents(0.02, 1.1, 0.2, 0.6)])
def test_the_learner_comes_close_to_what_made_the_points(truth: Exponents) -> None:
    rows = points(truth)
    learnt = learn_exponents(rows)
    assert loss(learnt, rows) < 0.3 * loss(FINGERPRINT_START, rows)
    assert learnt.beta == pytest.approx(truth.beta, abs=0.1)
    assert min(learnt.alpha, learnt.beta, learnt.gamma, learnt.delta) >= 1e-6
