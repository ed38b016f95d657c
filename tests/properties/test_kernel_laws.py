"""What holds of every composed step time, however rough the measured tables are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.hardware import Parallelism
from penstock.core.step import StepFeatures
from penstock.perf.kernels.attention import decode_plane, prefill_plane
from penstock.perf.kernels.compose import kernel_step_time
from penstock.perf.kernels.dense import all_reduce_curve, gemm_curve
from penstock.perf.step_time.work import bound_seconds, step_work
from support.kernel_tables import (
    BANDWIDTH,
    BATCHES,
    CHIP,
    FLOPS,
    LENGTHS,
    LINK,
    MIXTURE,
    MODEL,
    ROWS,
    STEPS,
    made_tables,
)
from support.scaled_examples import examples

# Sums of the same curves in another order differ by a rounding.
CLOSE = 1.0 + 1e-12


def rough_tables(seed: int, spread: float, scale: float):
    rng = np.random.default_rng(seed)
    return made_tables(lambda _, ms: ms * scale * float(rng.lognormal(0.0, spread)))


rough = st.builds(rough_tables, st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 0.5]),
                  st.sampled_from([0.001, 0.5, 1.0, 4.0]))
models = st.sampled_from([MODEL, MIXTURE, replace(MODEL, num_kv_heads=2),
                          replace(MODEL, vocab_size=128_000)])
parallelisms = st.sampled_from([Parallelism(), Parallelism(2), Parallelism(1, 2),
                                Parallelism(2, 2)])
# Small sizes are where rough tables fall most.
tokens = st.integers(0, 70) | st.integers(0, 20_000)
steps = st.lists(st.builds(
    lambda p, past, prompts, d, c: StepFeatures(p, p * (past + p / (2.0 * prompts)) if p else 0.0,
                                                d, d * c),
    tokens, tokens, st.integers(1, 300), st.integers(0, 70) | st.integers(0, 1000),
    st.integers(1, 50_000)).filter(lambda f: f.prefill_tokens + f.decode_seqs > 0),
    min_size=1, max_size=20)


@examples(60)
@given(tables=rough, model=models, parallelism=parallelisms, features=steps)
def test_no_step_is_faster_than_the_physical_bound(tables, model, parallelism, features):
    composed = kernel_step_time(tables, model, CHIP, parallelism, host_overhead_s=0.0)
    for step in features:
        seconds = composed.seconds(*step)
        assert seconds * CLOSE >= composed.bound_seconds(step)
        found = composed.predict(step)
        assert found.low_s <= seconds * CLOSE
        assert found.low_s * CLOSE >= composed.bound_seconds(step)
        assert sum(found.parts.values()) == pytest.approx(seconds)


@examples(40)
@given(tables=rough, parallelism=parallelisms, features=steps)
def test_a_dense_model_keeps_the_bound_of_the_roofline(tables, parallelism, features):
    composed = kernel_step_time(tables, MODEL, CHIP, parallelism, host_overhead_s=0.0)
    work = step_work(MODEL, parallelism, "bf16", "bf16")
    for step in features:
        assert composed.seconds(*step) * CLOSE >= bound_seconds(work, composed.peak, step)


@examples(60)
@given(tables=rough, model=models, features=steps, more=st.integers(1, 60) | st.integers(1, 3000))
def test_more_never_takes_less(tables, model, features, more):
    composed = kernel_step_time(tables, model, CHIP)
    for step in features:
        seconds = composed.seconds(*step)
        # More tokens or pairs of prompts, longer contexts of decodes.
        for name in ("prefill_tokens", "prefill_attention_work", "decode_context_tokens"):
            if step.decode_seqs if name == "decode_context_tokens" else step.prefill_tokens:
                larger = step._replace(**{name: getattr(step, name) + more})
                assert composed.seconds(*larger) * CLOSE >= seconds
        # One more token of a chunk, and more sequences of the same mean context.
        tokens, work, seqs, context = step
        if tokens:
            past = work / tokens - tokens / 2.0
            longer = (tokens + 1) * (past + (tokens + 1) / 2.0)
            assert composed.seconds(tokens + 1, longer, seqs, context) * CLOSE >= seconds
        if seqs:
            grown = composed.seconds(tokens, work, seqs + more, context * (seqs + more) // seqs + 1)
            assert grown * CLOSE >= seconds


@examples(60)
@given(tables=rough, n=st.integers(300, 9000), k=st.integers(300, 9000), ranks=st.sampled_from(
    [2, 4, 8]))
def test_curves_rise_and_keep_their_bound(tables, n, k, ranks):
    gemm, _ = gemm_curve(tables, n, k, "bf16", CHIP)
    reduce = all_reduce_curve(tables, ranks, CHIP)
    for curve in (gemm, reduce):
        assert list(curve.seconds) == sorted(curve.seconds)
        assert curve.beyond_s > 0.0
    for m in (*ROWS, 300, 20_000):
        assert gemm.at(m) * CLOSE >= max(2.0 * m * n * k / FLOPS, 2.0 * n * k / BANDWIDTH)
        sent = 2.0 * 1024 * m * (ranks - 1) / ranks
        assert reduce.at(1024 * m) * CLOSE >= sent / LINK


@examples(20)
@given(scale=st.sampled_from([1.0, 1.7, 4.0]))
def test_rising_tables_are_met_at_every_point(scale):
    tables = made_tables(lambda _, ms: ms * scale)
    curve, _ = gemm_curve(tables, 1024, 2048, "bf16", CHIP)
    gemm = tables.table("gemm").where(n=1024, k=2048)
    assert [curve.at(m) for m in ROWS] == pytest.approx(
        [float(gemm.where(m=m).seconds[0]) for m in ROWS], rel=1e-12)
    prefill, _ = prefill_plane(tables, 16, 4, 64, "bf16", CHIP)
    decode, _ = decode_plane(tables, 16, 4, 64, "bf16", CHIP)
    heads = {"num_heads": 16, "num_key_value_heads": 4}
    for batch in BATCHES:
        context = tables.table("context_attention").where(batch_size=batch, **heads)
        for s in LENGTHS:
            assert prefill.at(batch * s, batch * s * s / 2) == pytest.approx(
                float(context.where(isl=s).seconds[0]), rel=1e-12)
        generation = tables.table("generation_attention").where(batch_size=batch, **heads)
        for step in STEPS:
            assert decode.at(batch, batch * (step + 1)) == pytest.approx(
                float(generation.where(step=step).seconds[0]), rel=1e-12)


@examples(30)
@given(tables=rough, model=models, features=steps)
def test_one_rank_communicates_nothing_and_ranks_do(tables, model, features):
    alone = kernel_step_time(tables, model, CHIP, Parallelism(1))
    two = kernel_step_time(tables, model, CHIP, Parallelism(2))
    for step in features:
        assert alone.predict(step).parts["communication"] == 0.0
        assert two.predict(step).parts["communication"] > 0.0
