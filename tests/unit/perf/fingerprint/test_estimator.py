"""Estimates in a world whose law is known: close for models never seen, honest about the rest."""

from dataclasses import replace
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.perf.fingerprint.advice import advice
from penstock.perf.fingerprint.cuts import Cuts, Session
from penstock.perf.fingerprint.estimator import Estimator, fit_estimator
from penstock.perf.fingerprint.intervals import (
    AT_BOUND,
    COVERAGE,
    FEW,
    UNKNOWN,
    Intervals,
    Residual,
    group_of,
    intervals_of,
)
from penstock.perf.fingerprint.latency import TOO_FAST, bound_s
from penstock.perf.fingerprint.physics import Subject, width_of
from support.fingerprint_world import (
    MODELS,
    SUBJECTS,
    configurations,
    cuts_of,
    num_bytes,
    seconds,
    session,
    whole_runs,
)

HELD_OUT = "llama-2-13b"
OTHERS = tuple(model for model in MODELS if model != HELD_OUT)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return fit_estimator([Session(whole_runs(OTHERS), Cuts(cuts_of()))], SUBJECTS, Cuts(cuts_of()))


def one(tensor: int = 1, pipeline: int = 1, precision: str = "fp16",
        kv: str = "fp16") -> Configuration:
    return Configuration(Parallelism(tensor, pipeline), precision, kv)


def without_four_ranks(estimator: Estimator) -> Estimator:
    return estimator.with_cuts(Cuts(run for run in cuts_of([HELD_OUT]) if run.tensor != 4))


@pytest.mark.parametrize("configuration", list(configurations()), ids=lambda c: c.name)
def test_a_model_never_seen_whole_is_estimated_closely(estimator: Estimator,
                                                       configuration: Configuration) -> None:
    layers = SUBJECTS[HELD_OUT].model.num_layers
    for output in (10, 100, 200):
        found = estimator.estimate(HELD_OUT, configuration, output)
        truth = seconds(HELD_OUT, configuration, layers, output)
        assert found.latency_s.value == pytest.approx(truth, rel=0.08)
        assert not found.latency_s.extrapolated
        assert found.memory_bytes.value == pytest.approx(
            num_bytes(HELD_OUT, configuration, layers), rel=0.03)


@given(st.sampled_from(list(configurations())), st.integers(1, 4000), st.integers(1, 256))
def test_intervals_hold_the_value_and_nothing_beats_physics(
        estimator: Estimator, configuration: Configuration, output: int, batch: int) -> None:
    found = estimator.estimate(HELD_OUT, configuration, output, batch)
    for prediction in (found.latency_s, found.memory_bytes):
        assert 0.0 < prediction.low <= prediction.value <= prediction.high
        assert prediction.coverage == COVERAGE
    assert found.latency_s.low >= bound_s(SUBJECTS[HELD_OUT], configuration, output)
    longer = estimator.estimate(HELD_OUT, configuration, output + 1, batch)
    assert longer.latency_s.value >= found.latency_s.value
    more = estimator.estimate(HELD_OUT, configuration, output, batch + 1)
    assert more.latency_s.value >= found.latency_s.value


def test_what_was_not_measured_is_said_and_widens_the_interval(estimator: Estimator) -> None:
    inside = estimator.estimate(HELD_OUT, one(2), 100)
    beyond = estimator.estimate(HELD_OUT, one(2), 1000, 4)
    assert [note.split(" (")[0] for note in beyond.latency_s.extrapolated] == [
        "1000 output tokens", "4 requests at once"]
    assert (beyond.latency_s.high / beyond.latency_s.value
            > inside.latency_s.high / inside.latency_s.value)
    four = without_four_ranks(estimator).estimate(HELD_OUT, one(4), 100)
    assert four.latency_s.extrapolated == ("fingerprints of 2 ranks for 4",)


def test_longer_prompts_cost_what_other_sessions_say() -> None:
    longer = Session((), Cuts(cuts_of(OTHERS, prompt_tokens=2048)))
    found = fit_estimator([session(OTHERS), longer], SUBJECTS, Cuts(cuts_of()))
    for prompt_tokens in (256, 1024, 2048):
        estimate = found.estimate(HELD_OUT, one(2), 100, prompt_tokens=prompt_tokens).latency_s
        assert estimate.value == pytest.approx(
            seconds(HELD_OUT, one(2), 40, 100, prompt_tokens=prompt_tokens), rel=0.08)
        assert not estimate.extrapolated
    same = found.estimate(HELD_OUT, one(2), 100, prompt_tokens=512).latency_s
    assert same == found.estimate(HELD_OUT, one(2), 100).latency_s
    far = found.estimate(HELD_OUT, one(2), 100, prompt_tokens=8192).latency_s
    assert far.extrapolated == ("prompts of 8192 tokens (measured with 512)",)


def test_few_fingerprints_serve_for_all_configurations_and_it_is_said() -> None:
    few = Cuts(cuts_of([HELD_OUT], [Parallelism(1, 1), Parallelism(1, 2), Parallelism(2, 1)]))
    found = fit_estimator([session(OTHERS)], SUBJECTS, few)
    layers = SUBJECTS[HELD_OUT].model.num_layers
    for configuration in (one(4), one(8), one(2, 2), one(1, 4, "int4", "int8")):
        estimate = found.estimate(HELD_OUT, configuration, 100)
        assert estimate.latency_s.value == pytest.approx(
            seconds(HELD_OUT, configuration, layers, 100), rel=0.15)
        assert estimate.memory_bytes.value == pytest.approx(
            num_bytes(HELD_OUT, configuration, layers), rel=0.05)
    assert found.estimate(HELD_OUT, one(8), 100).latency_s.extrapolated == (
        "fingerprints of 2 ranks for 8",)
    assert "memory from the fingerprint of" in found.estimate(HELD_OUT, one(2, 2),
                                                   100).memory_bytes.extrapolated[0]


def test_another_precision_stands_in_and_it_is_said() -> None:
    only = Cuts(run for run in cuts_of([HELD_OUT]) if run.precision == "fp16")
    found = fit_estimator([session(OTHERS)], SUBJECTS, only).estimate(HELD_OUT, one(1, 1, "int8"),
                                                                      100)
    layers = SUBJECTS[HELD_OUT].model.num_layers
    assert found.latency_s.extrapolated == ("fingerprints of fp16 for int8",)
    assert found.latency_s.value == pytest.approx(
        seconds(HELD_OUT, one(1, 1, "int8"), layers, 100), rel=0.1)
    assert found.memory_bytes.value == pytest.approx(
        num_bytes(HELD_OUT, one(1, 1, "int8"), layers), rel=0.05)


@pytest.mark.parametrize(("model", "configuration", "message"), [
    ("nobody", one(), "nothing is known"),
    (HELD_OUT, one(3), "3 ranks do not divide the 40 attention heads of llama-2-13b"),
    (HELD_OUT, one(5), "5 ranks do not divide the feed-forward of 13824 of llama-2-13b"),
    (HELD_OUT, one(1, 41), "41 stages are more than its 40"),
    (HELD_OUT, one(1, 1, "int5"), "'int5' is unknown"),
])
def test_what_cannot_be_is_refused(estimator: Estimator, model: str, configuration: Configuration,
                                   message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimator.estimate(model, configuration, 100)


def test_without_fingerprints_there_is_no_estimate(estimator: Estimator) -> None:
    with pytest.raises(InputError, match="no fingerprints of two sizes"):
        estimator.with_cuts(Cuts(())).estimate(HELD_OUT, one(), 100)


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to learn from"):
        fit_estimator([Session((), Cuts(cuts_of()))], SUBJECTS, Cuts(cuts_of()))


def test_one_model_leaves_none_out_and_intervals_are_wide() -> None:
    found = fit_estimator([session(("llama-2-7b",))], SUBJECTS, Cuts(cuts_of()))
    estimate = found.estimate(HELD_OUT, one(), 100).latency_s
    assert estimate.high / estimate.value == pytest.approx(2.0)


def test_the_widest_interval_says_what_to_measure(estimator: Estimator) -> None:
    estimates = {configuration: without_four_ranks(estimator).estimate(HELD_OUT, configuration, 100)
                 for configuration in (one(), one(4), one(8))}
    said = advice(HELD_OUT, 40, estimates)
    assert len(said) == 3
    assert any("1 and 2 layers on 4 ranks" in line for line in said)
    assert all("known to" in line for line in said)


def test_ninety_per_cent_of_what_was_left_out_lies_within() -> None:
    residuals = [Residual(f"m{i % 4}", "g", (-1) ** i * i / 100) for i in range(100)]
    found = intervals_of(residuals).half_widths["g"]
    assert sum(abs(r.log_ratio) <= found for r in residuals) == 91


def test_few_runs_or_one_model_make_wider_intervals() -> None:
    many = [Residual(f"m{i % 2}", "g", 0.1) for i in range(40)]
    assert intervals_of(many).half_widths["g"] == pytest.approx(0.1)
    assert intervals_of(many[:10]).half_widths["g"] == pytest.approx(0.1 * FEW)
    alone = [Residual("m", "g", 0.1) for _ in range(40)]
    assert intervals_of(alone).half_widths["g"] == pytest.approx(0.1 * FEW)


def test_a_group_that_nobody_saw_gets_the_widest() -> None:
    found = Intervals({"a": 0.1}, 0.3)
    assert found.around(1.0, "b", "s", ()).high == pytest.approx(2.718281828**0.3)
    assert intervals_of([]).widest == UNKNOWN
    assert found.around(1.0, "a", "s", (), bound=0.99).low == 0.99


def test_below_the_bound_there_is_nothing_and_it_is_said() -> None:
    found = Intervals({"a": 0.1}, 0.3).around(1.0, "a", "s", (), bound=2.0)
    assert found.low == found.value == 2.0 < found.high
    assert found.extrapolated == (AT_BOUND,)


@given(st.sampled_from(list(configurations())), st.floats(1e-6, 1e6), st.floats(0.0, 1e6),
       st.randoms(use_true_random=False))
def test_whatever_fingerprints_say_no_estimate_is_below_physics(
        estimator: Estimator, configuration: Configuration, slower: float, larger: float,
        rng: Random) -> None:
    odd = Cuts(replace(run, latency_s=(run.latency_s or 1.0) * slower ** rng.random(),
                       memory_bytes=(run.memory_bytes or 0.0) * larger * rng.random())
               for run in cuts_of([HELD_OUT]))
    found = estimator.with_cuts(odd).estimate(HELD_OUT, configuration, 100)
    weights = 40 * SUBJECTS[HELD_OUT].layer_params * width_of(configuration.precision)
    for one_of_two, bound in ((found.latency_s, bound_s(SUBJECTS[HELD_OUT], configuration, 100)),
                              (found.memory_bytes, weights)):
        assert bound <= one_of_two.low <= one_of_two.value <= one_of_two.high < inf
        assert (AT_BOUND in one_of_two.extrapolated) == (one_of_two.value == bound)


def test_cuts_that_are_faster_than_memory_are_told(estimator: Estimator) -> None:
    same = Cuts(replace(run, latency_s=0.5) for run in cuts_of([HELD_OUT]))
    found = estimator.with_cuts(same).estimate(HELD_OUT, one(2, 2), 100).latency_s
    assert found.extrapolated[0] == TOO_FAST
    assert "1 and 2 layers" in advice(HELD_OUT, 40, {one(2, 2): estimator.with_cuts(
        same).estimate(HELD_OUT, one(2, 2), 100)})[0]


def test_figures_too_large_to_calculate_with_are_refused(estimator: Estimator) -> None:
    huge = Cuts(replace(run, latency_s=4e307) for run in cuts_of([HELD_OUT]))
    with pytest.raises(InputError, match="too large"):
        estimator.with_cuts(huge).estimate(HELD_OUT, one(8), 100)


def test_of_a_mixture_a_token_reads_its_own_experts_and_a_batch_more() -> None:
    mixture = SUBJECTS[HELD_OUT].model
    mixture = replace(mixture, num_experts=8, experts_per_token=2,
                      expert_intermediate_size=mixture.intermediate_size)
    subject = Subject(mixture, SUBJECTS[HELD_OUT].accelerator)
    assert subject.read_params() == subject.token_params < 0.4 * subject.layer_params
    read = [subject.read_params(batch) for batch in (1, 2, 4, 64, 4096)]
    assert read == sorted(read)
    assert read[-1] == pytest.approx(subject.layer_params)
    reading = subject.read_ms(2.0 * 40 * subject.token_params)
    assert bound_s(subject, one(), 10) == pytest.approx(1e-2 * reading)
    dense = SUBJECTS[HELD_OUT]
    assert dense.read_params(64) == dense.token_params == dense.layer_params


def test_groups_are_by_ranks_and_batches() -> None:
    assert group_of(one(2), 1) == group_of(one(1, 8), 1)
    assert len({group_of(one(2), 1), group_of(one(4), 1), group_of(one(8), 1),
                group_of(one(2), 2)}) == 4
