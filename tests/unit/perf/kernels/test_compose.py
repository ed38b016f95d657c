"""A model composed from tables whose times are known in closed form."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.core.step import StepFeatures
from penstock.perf.kernels.attention import decode_plane, prefill_plane
from penstock.perf.kernels.compact import check_steps, compact, designed_steps, table_of
from penstock.perf.kernels.compose import kernel_step_time
from penstock.perf.kernels.dense import all_reduce_curve, best_share, gemm_curve, moe_curve
from penstock.perf.kernels.tables import KernelTable, KernelTables, read_kernel_tables
from penstock.perf.step_time.roofline import roofline_step_time
from support.kernel_tables import (
    BANDWIDTH,
    BATCHES,
    CHIP,
    LENGTHS,
    LINK,
    MIXTURE,
    MODEL,
    ROWS,
    STEPS,
    all_reduce_ms,
    decode_ms,
    gemm_ms,
    moe_ms,
    prefill_ms,
    write_tables,
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return read_kernel_tables(write_tables(tmp_path_factory.mktemp("tables")), "toy")


def without(tables: KernelTables, name: str) -> KernelTables:
    return replace(tables, tables={n: t for n, t in tables.tables.items() if n != name})


@pytest.mark.parametrize("m", ROWS)
def test_gemm_is_exact_at_measured_points(tables, m):
    curve, notes = gemm_curve(tables, 2048, 1024, "bf16", CHIP)
    assert curve.at(m) == pytest.approx(gemm_ms(m, 2048, 1024) / 1e3, rel=1e-12)
    assert notes == ()


def test_gemm_between_and_beyond_rows_follows_the_operations(tables):
    curve, _ = gemm_curve(tables, 2048, 1024, "bf16", CHIP)
    assert curve.at(300) == pytest.approx(gemm_ms(300, 2048, 1024) / 1e3)
    # The best row reaches just under 80 % of peak.
    assert curve.at(16_384) == pytest.approx(gemm_ms(16_384, 2048, 1024) / 1e3, rel=0.05)


def test_a_wider_gemm_than_measured_takes_more_and_is_noted(tables):
    inside, _ = gemm_curve(tables, 4096, 1024, "bf16", CHIP)
    outside, notes = gemm_curve(tables, 8192, 1024, "bf16", CHIP)
    assert notes == ("GEMM of 8192 x 1024 taken from 4096 x 1024",)
    assert outside.at(4096) == pytest.approx(gemm_ms(4096, 8192, 1024) / 1e3, rel=0.05)
    assert outside.at(1) >= 8192 * 1024 * 2 / BANDWIDTH
    assert outside.at(1) > inside.at(1)


def test_times_below_the_physical_bound_are_raised_to_it(tmp_path):
    fast = read_kernel_tables(write_tables(tmp_path, change=lambda _, ms: ms / 1000), "toy")
    curve, _ = gemm_curve(fast, 2048, 1024, "bf16", CHIP)
    assert curve.at(1) == 2048 * 1024 * 2 / BANDWIDTH
    reduce = all_reduce_curve(fast, 2, CHIP)
    assert reduce.at(2**22) >= 2**22 * 2 / 2 / LINK
    plane, _ = decode_plane(fast, 16, 4, 64, "bf16", CHIP)
    assert plane.at(64, 64 * 1024) == pytest.approx(64 * 1024 * 4 * 64 * 2 * 2 / BANDWIDTH)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("length", LENGTHS)
def test_prompt_attention_is_exact_at_measured_points(tables, batch, length):
    plane, notes = prefill_plane(tables, 16, 4, 64, "bf16", CHIP)
    assert plane.at(batch * length, batch * length**2 / 2) == pytest.approx(
        prefill_ms(batch, length, 16, 4) / 1e3, rel=1e-9)
    assert plane.covers(batch * length, batch * length**2 / 2)
    assert notes == ()


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("step", STEPS)
def test_decode_attention_is_exact_at_measured_points(tables, batch, step):
    plane, notes = decode_plane(tables, 8, 2, 64, "bf16", CHIP)
    assert plane.at(batch, batch * (step + 1)) == pytest.approx(
        decode_ms(batch, step, 2) / 1e3, rel=1e-9)
    assert plane.covers(batch, batch * (step + 1))
    assert notes == ()


def test_prompts_of_a_few_tokens_do_not_spoil_longer_ones(tables):
    rows = tables.table("context_attention")
    batch, length = rows.columns["batch_size"], rows.columns["isl"]
    # They take nearly as long as prompts of 64 tokens, which fill a tile.
    padded = np.array([prefill_ms(b, 64, h, kv) / 1e3 for b, h, kv in zip(
        batch, rows.columns["num_heads"], rows.columns["num_key_value_heads"], strict=True)])
    slow = KernelTable(rows.columns, np.where(
        (length < 64) & (batch >= 64), (0.9 + length / 1000) * padded, rows.seconds), rows.source)
    plane, _ = prefill_plane(replace(tables, tables={"context_attention": slow}), 16, 4, 64,
                             "bf16", CHIP)
    # As many tokens and more pairs in less time: four prompts of 256 after 64 of 16.
    assert 0.9 * prefill_ms(64, 64, 16, 4) > prefill_ms(4, 256, 16, 4)
    for b, s in ((4, 256), (1, 1024), (16, 64), (64, 64)):
        assert plane.at(b * s, b * s**2 / 2) * 1e3 == pytest.approx(prefill_ms(b, s, 16, 4))


def test_decodes_between_batches_and_beyond_contexts_follow_their_bytes(tables):
    plane, _ = decode_plane(tables, 16, 4, 64, "bf16", CHIP)
    assert plane.at(40, 40 * 500) == pytest.approx(decode_ms(40, 499, 4) / 1e3, rel=1e-6)
    assert plane.at(512, 512 * 8192) == pytest.approx(decode_ms(512, 8191, 4) / 1e3, rel=0.02)
    assert not plane.covers(512, 512 * 10)
    assert not plane.covers(1, 10_000)


def test_a_chunk_behind_a_cache_costs_its_pairs(tables):
    plane, _ = prefill_plane(tables, 16, 4, 64, "bf16", CHIP)
    fresh = plane.at(2048, 2048.0**2 / 2)
    assert plane.at(256, 2048.0**2 / 2) == pytest.approx(fresh, rel=0.02)
    assert plane.at(256, 256 * (4000 + 128)) > plane.at(256, 256 * 128)


def test_heads_between_and_beyond_the_measured_ones(tables):
    between, _ = prefill_plane(tables, 12, 4, 64, "bf16", CHIP)
    point = (4096, 4096.0**2 / 2)
    assert (prefill_ms(1, 4096, 8, 4) < between.at(*point) * 1e3 < prefill_ms(1, 4096, 16, 4))
    beyond, notes = prefill_plane(tables, 32, 4, 64, "bf16", CHIP)
    assert beyond.at(*point) * 1e3 == pytest.approx(prefill_ms(1, 4096, 32, 4), rel=0.05)
    assert "32 heads over 4 taken from 16 over 4" in notes[0]
    more, _ = decode_plane(tables, 16, 8, 64, "bf16", CHIP)
    assert more.at(16, 16 * 8192) * 1e3 == pytest.approx(decode_ms(16, 8191, 8), rel=0.05)


def test_all_reduce_counts_elements_in_graphs(tables):
    curve = all_reduce_curve(tables, 4, CHIP)
    assert curve.at(2**13) == pytest.approx(all_reduce_ms(4, 2**13) / 1e3)
    # Eight ranks are in NCCL's table alone.
    assert all_reduce_curve(tables, 8, CHIP).at(2**13) == pytest.approx(
        1.5 * all_reduce_ms(8, 2**13) / 1e3)
    with pytest.raises(InputError, match="no all-reduce over 16 GPUs was measured; expected one"):
        all_reduce_curve(tables, 16, CHIP)


def test_experts_are_taken_at_their_very_shape(tables):
    curve, notes = moe_curve(tables, 1024, 512, 8, 2, 2, "bf16", CHIP)
    assert curve.at(64) == pytest.approx(moe_ms(64, 2) / 1e3)
    assert notes == ("experts loaded as in power_law_1.01",)
    with pytest.raises(InputError, match=r"2 of 8 experts of 1024 x 512 over 4 ranks \(measured "
                                         r"with 1, 2\)"):
        moe_curve(tables, 1024, 512, 8, 2, 4, "bf16", CHIP)


def layers_ms(tokens: int, tensor: int = 1) -> float:
    """Written apart from the package: four GEMMs a layer of MODEL."""
    shapes = ((16 * 64 + 2 * 4 * 64, 1024, True), (1024, 1024, False), (2 * 2048, 1024, True),
              (1024, 2048, False))
    return 4 * sum(gemm_ms(tokens, n / tensor if columns else n, k if columns else k / tensor)
                   for n, k, columns in shapes)


def test_a_step_is_the_sum_of_its_kernels(tables):
    composed = kernel_step_time(tables, MODEL, CHIP, host_overhead_s=0.001)
    features = StepFeatures(448, 448.0**2 / 2, 64, 64 * 1024)
    parts = composed.predict(features).parts
    assert composed.matrices.at(512) * 1e3 == pytest.approx(layers_ms(512), rel=0.01)
    assert composed.head.at(65) * 1e3 == pytest.approx(gemm_ms(65, 4096, 1024), rel=1e-6)
    assert parts["prefill_attention"] * 1e3 == pytest.approx(4 * prefill_ms(1, 448, 16, 4), rel=0.1)
    assert parts["decode_attention"] * 1e3 == pytest.approx(4 * decode_ms(64, 1023, 4), rel=1e-6)
    assert parts["communication"] == 0.0
    assert parts["overhead"] == 0.001
    assert sum(parts.values()) == pytest.approx(composed.seconds(*features))


def test_tensor_parallelism_shards_shapes_and_adds_two_all_reduces_a_layer(tables):
    two = kernel_step_time(tables, MODEL, CHIP, Parallelism(2))
    assert two.matrices.at(512) * 1e3 == pytest.approx(layers_ms(512, 2), rel=0.01)
    assert two.communication.at(64) * 1e3 == pytest.approx(8 * all_reduce_ms(2, 64 * 1024))
    parts = two.predict(StepFeatures(0, 0.0, 64, 64 * 1024)).parts
    assert parts["decode_attention"] * 1e3 == pytest.approx(4 * decode_ms(64, 1023, 2))


def test_pipeline_stages_send_and_add_up(tables):
    alone = kernel_step_time(tables, MODEL, CHIP)
    staged = kernel_step_time(tables, MODEL, CHIP, Parallelism(1, 2))
    sent = 10e-6 + 100 * 1024 * 2 / LINK
    assert staged.seconds(100, 5000.0, 0, 0) - alone.seconds(100, 5000.0, 0, 0) == pytest.approx(
        sent)


def test_a_mixture_has_a_router_and_experts(tables):
    dense = kernel_step_time(tables, replace(MODEL, intermediate_size=0), CHIP)
    mixture = kernel_step_time(tables, MIXTURE, CHIP)
    more = mixture.matrices.at(64) - dense.matrices.at(64)
    # The router is narrower than any measured GEMM and counts as the narrowest.
    assert more * 1e3 == pytest.approx(4 * (moe_ms(64, 1) + gemm_ms(64, 512, 1024)))
    assert "GEMM of 8 x 1024 taken from 512 x 1024" in mixture.evidence.source


def test_a_prediction_says_where_it_left_the_tables(tables):
    composed = kernel_step_time(tables, MODEL, CHIP)
    inside = composed.predict(StepFeatures(512, 512.0**2 / 2, 16, 16 * 100))
    assert not inside.extrapolated
    for features, said in ((StepFeatures(5000, 5000.0**2 / 20, 0, 0), "GEMM at 5,000 tokens"),
                           (StepFeatures(4000, 4000 * 10_000.0, 0, 0),
                            "prompt attention at 4,000 tokens and 40,000,000 pairs"),
                           (StepFeatures(0, 0.0, 2, 40_000),
                            "decode attention at 2 sequences and 40,000 context tokens")):
        found = composed.predict(features)
        assert found.extrapolated
        assert found.source.endswith(f"beyond the table: {said}")
        assert found.high_s / found.total_s > inside.high_s / inside.total_s
        assert found.low_s >= composed.bound_seconds(features)


@pytest.mark.parametrize(("changes", "options", "message"), [
    ({}, {"precision": "fp8"}, "no rows in fp8"),
    ({}, {"precision": "bf61"}, "'bf61' is unknown"),
    ({}, {"kv_precision": "fp8"}, "no rows in fp8"),
    ({"head_dim": 128}, {}, "no rows with head_dim 128 and bf16 keys and values; measured: 64"),
    ({"kv_latent_size": 512}, {}, "multi-head latent attention cannot be composed"),
    ({}, {"parallelism": Parallelism(16)}, "no all-reduce over 16 GPUs")])
def test_what_tables_do_not_hold_is_told(tables, changes, options, message):
    with pytest.raises(InputError, match=message):
        kernel_step_time(tables, replace(MODEL, **changes), CHIP, **options)


@pytest.mark.parametrize("name", ["gemm", "context_attention", "generation_attention"])
def test_tables_that_every_model_needs(tables, name):
    with pytest.raises(InputError, match=f"no {name} table"):
        kernel_step_time(without(tables, name), MODEL, CHIP)


def test_one_gpu_needs_no_table_of_collectives(tables):
    lone = without(without(tables, "custom_allreduce"), "nccl")
    assert kernel_step_time(lone, MODEL, CHIP).communication.at(1000) == 0.0
    with pytest.raises(InputError, match="no all-reduce over 2 GPUs"):
        kernel_step_time(lone, MODEL, CHIP, Parallelism(2))


def test_a_table_of_few_sequences_charges_more_of_them_their_bytes_only(tables):
    rows = tables.table("generation_attention")
    few = rows.rows(rows.columns["batch_size"] <= 4)
    plane, _ = decode_plane(replace(tables, tables={"generation_attention": few}), 16, 4, 64,
                            "bf16", CHIP)
    assert plane.plane.beyond_x_s == 0.0
    assert plane.at(100, 4 * 8192) == pytest.approx(
        plane.at(4, 4 * 4 * 8192 / 100) + plane.beyond_s * 96 * 4 * 8192 / 100)
    assert plane.at(100, 100_000) > plane.at(4, 4 * 8192)


def test_the_best_share_is_a_share():
    seconds = np.array([1.0, 2.0])
    assert best_share(3.0 * seconds, seconds) == 1.0
    assert best_share(0.001 * seconds, seconds) == 0.05


def test_the_compact_form_is_near_and_states_its_error(tables):
    composed = kernel_step_time(tables, MODEL, CHIP)
    found = compact(composed)
    assert found.model.slopes is not None
    assert found.errors.mean < 0.05
    assert set(found.by_kind) == {"prefill", "decode", "mixed"}
    evidence = found.model.evidence
    assert evidence.p95_error >= composed.evidence.p95_error
    assert f"{found.errors.mean:.1%} from it" in evidence.source
    assert found.model.predict(StepFeatures(20_000, 1e9, 0, 0)).extrapolated


def test_the_compact_form_covers_what_the_tables_cover(tables):
    rows = tables.table("generation_attention")
    few = replace(tables, tables={**tables.tables, "generation_attention": rows.rows(
        rows.columns["batch_size"] <= 4)})
    largest = compact(kernel_step_time(few, MODEL, CHIP)).model.evidence.largest
    assert largest.decode_seqs == 4
    whole = compact(kernel_step_time(tables, MODEL, CHIP)).model.evidence.largest
    assert whole.decode_seqs == 256
    assert whole.prefill_tokens == largest.prefill_tokens == 4096


def test_steps_to_check_are_not_those_to_fit(tables):
    composed = kernel_step_time(tables, MODEL, CHIP)
    fitted = {step for steps in designed_steps((7, 300)).values() for step in steps}
    checked = [step for steps in check_steps().values() for step in steps]
    assert len(set(checked)) > 440
    assert sum(step in fitted for step in checked) < 5
    assert StepFeatures(300, 300.0**2 / 2, 0, 0) in fitted
    table = table_of(composed, check_steps(10))
    assert table.seconds[0] == composed.seconds(*check_steps(10)["prefill"][0])


def test_the_roofline_of_the_same_chip_is_of_the_same_size(tables):
    composed = kernel_step_time(tables, MODEL, CHIP)
    roofline = roofline_step_time(MODEL, CHIP)
    for features in (StepFeatures(0, 0.0, 16, 16_000), StepFeatures(2048, 2048.0**2 / 2, 0, 0)):
        assert 0.5 < composed.seconds(*features) / roofline.seconds(*features) < 2.0
