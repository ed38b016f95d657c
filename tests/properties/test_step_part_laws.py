"""What holds of the parts of every step: they sum to its time, and none beats the hardware."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penstock.catalog import load_catalog
from penstock.core.hardware import Parallelism
from penstock.core.step import StepFeatures, StepPlan
from penstock.fleet.groups import spread_problem
from penstock.fleet.lone_replica import step_of
from penstock.perf.explain import explained
from penstock.perf.kernels.compose import kernel_step_time
from penstock.perf.step_time.breakdown import COMMUNICATION
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.registry.step_times import make_step_time
from support.kernel_tables import CHIP, MIXTURE, MODEL, made_tables
from support.scaled_examples import examples

CLOSE = 1.0 + 1e-9
CATALOG = load_catalog()

steps = st.builds(step_of, st.integers(0, 20_000), st.integers(0, 30_000), st.integers(0, 1_000),
                  st.integers(1, 60_000)).filter(lambda step: step[0] + step[2] > 0)
spreads = st.builds(Parallelism, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2]),
                    st.sampled_from([1, 4]), st.sampled_from([1, 2]))
cases = st.tuples(st.sampled_from(sorted(CATALOG.models)),
                  st.sampled_from(sorted(CATALOG.accelerators)), spreads,
                  st.sampled_from(["bf16", "fp8", "int4"]), st.sampled_from(["bf16", "fp8"]))
# All kinds whose parts are told: by operation, and the parts of a formula.
kinds = st.sampled_from(["roofline", {"kind": "roofline", "factor": 1.7},
                         {"kind": "measured", "engine": "vllm"},
                         {"kind": "measured", "engine": "sglang"},
                         "vidur-a100-llama-3-8b", "vidur-a100-llama-3-8b-linear"])


def model_of(kind, case) -> StepTimeModel:
    name, chip, spread, precision, kv_precision = case
    model, accelerator = CATALOG.model(name), CATALOG.accelerator(chip)
    assume(spread_problem(model, accelerator, spread) is None)
    return make_step_time(kind, model, accelerator, spread, precision, kv_precision)


def check_sums(model: StepTimeModel, step: StepFeatures) -> None:
    found = explained(model, step)
    seconds = model.seconds(*step)
    assert found.told.total_s == seconds
    assert math.fsum(part.seconds for part in found.parts) == pytest.approx(seconds, rel=1e-9)
    groups: dict[str, float] = {}
    for part in found.parts:
        assert part.seconds >= 0.0
        assert 0.0 <= part.fixed_s <= part.seconds * CLOSE
        assert part.num_bytes >= 0.0
        assert part.flops >= 0.0
        groups[part.group] = groups.get(part.group, 0.0) + part.seconds
    told = {name: value for name, value in found.told.parts.items() if value}
    assert groups == pytest.approx(told, rel=1e-9)
    if found.passes_s is not None:
        assert sum(found.passes_s) * CLOSE >= seconds  # two passes read the weights twice


@examples(150)
@given(kind=kinds, case=cases, step=steps)
def test_parts_sum_to_the_time_that_the_simulator_takes(kind, case, step):
    model = model_of(kind, case)
    check_sums(model, step)
    # The clock rounds rates to whole picoseconds per half pair and per token of context.
    rounding_s = (step.prefill_attention_work + step.decode_context_tokens / 2.0 + 1.0) * 1e-12
    clock_s = StepClock(model).duration_ps(StepPlan(0, (), (), step)) / 1e12
    total_s = math.fsum(part.seconds for part in explained(model, step).parts)
    assert clock_s == pytest.approx(total_s, rel=1e-9, abs=rounding_s)


@examples(150)
@given(case=cases, step=steps)
def test_no_part_of_a_roofline_alone_is_faster_than_the_hardware(case, step):
    model = model_of("roofline", case)
    found = explained(model, step)
    assert found.by_operation
    assert found.bound_s <= found.told.total_s * CLOSE
    for part in found.parts:
        # A link's measured rate may be of another link than the catalog's.
        if part.group != COMMUNICATION:
            assert part.bound_s <= part.alone_s * CLOSE
        for rate, peak in ((part.bytes_per_s, model.peak.bandwidth),
                           (part.flops_per_s, max(model.peak.flops, model.peak.flops_16bit))):
            assert rate is None or rate <= peak * CLOSE


@examples(100)
@given(case=cases, step=steps, more=st.integers(1, 4_000))
def test_more_tokens_never_take_less(case, step, more):
    model = model_of("roofline", case)
    prefill, work, decodes, context = step
    seconds = model.seconds(*step)
    assert model.seconds(prefill + more, work, decodes, context) * CLOSE >= seconds
    assert model.seconds(prefill, work, decodes + more, context) * CLOSE >= seconds
    assert model.seconds(prefill, work, decodes, context + more) * CLOSE >= seconds


@examples(60)
@given(seed=st.integers(0, 10**6), spread=st.sampled_from([0.0, 0.5]), step=steps,
       model=st.sampled_from([MODEL, MIXTURE, replace(MODEL, vocab_size=128_000)]),
       parallelism=st.sampled_from([Parallelism(), Parallelism(2), Parallelism(2, 2)]))
def test_parts_of_composed_kernels_sum_and_keep_their_bounds(seed, spread, step, model,
                                                             parallelism):
    rng = np.random.default_rng(seed)
    tables = made_tables(lambda _, ms: ms * float(rng.lognormal(0.0, spread)))
    composed = kernel_step_time(tables, model, CHIP, parallelism)
    found = explained(composed, step)
    seconds = composed.seconds(*step)
    assert math.fsum(part.seconds for part in found.parts) == pytest.approx(seconds, rel=1e-9)
    for part in found.parts:
        assert part.seconds >= 0.0
        assert part.bound_s <= part.seconds * CLOSE
    told = {name: value for name, value in found.told.parts.items() if value}
    groups = dict.fromkeys(told, 0.0)
    for part in found.parts:
        groups[part.group] += part.seconds
    assert groups == pytest.approx(told, rel=1e-9)
