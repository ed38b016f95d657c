"""Hidden points against interpolation, and the constants that belong to tables."""

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.perf.kernels.compose import kernel_step_time
from penstock.perf.kernels.holdout import held_out_errors, split, thinned
from penstock.perf.kernels.system import system_accelerator
from penstock.perf.kernels.tables import KernelTable
from support.kernel_tables import CHIP, MODEL, ROWS, SYSTEM, made_tables, write_tables

AS_THEY_ARE = made_tables(lambda _, ms: ms)


def axis(*values: float) -> KernelTable:
    return KernelTable({"m": np.array(values)}, np.ones(len(values)), "x")


@pytest.mark.parametrize(("values", "hidden"), [
    ((1, 2, 4, 8, 16), [2, 8]), ((1, 2, 4, 8), [2]), ((1, 2), []), ((5,), []),
    ((256, 257, 512, 513, 1024, 1025, 4096), [512, 513]), ((100, 101, 102, 200, 400), [200])])
def test_every_second_value_is_hidden_with_its_neighbours(values, hidden):
    kept, away = split(axis(*values), "m")
    assert away.columns["m"].tolist() == hidden
    assert sorted([*kept.columns["m"], *hidden]) == list(values)


def test_affine_tables_are_interpolated_well():
    found = {(e.table, e.axis): e for e in held_out_errors(AS_THEY_ARE, CHIP)}
    # Rows of a GEMM and elements of an all-reduce are exactly affine; their products are not.
    assert found["gemm", "m"].mean < 1e-9
    assert found["custom_allreduce", "message_size"].p95 < 1e-9
    assert found["moe", "num_tokens"].mean < 1e-9
    assert found["gemm", "n"].mean < 0.05
    # The checks are of heads of 128 values, which the toy has not.
    assert not any("attention" in table for table, _ in found)
    assert found["gemm", "m"].num_points == 2 * 16


def test_errors_are_of_the_size_of_the_noise():
    rng = np.random.default_rng(7)
    noisy = made_tables(lambda _, ms: ms * float(rng.lognormal(0.0, 0.1)))
    found = {(e.table, e.axis): e for e in held_out_errors(noisy, CHIP)}
    assert 0.05 < found["gemm", "m"].mean < 0.3
    assert found["gemm", "m"].median <= found["gemm", "m"].p95


def test_attention_is_checked_where_heads_have_128_values():
    tables = {name: KernelTable(
        {**table.columns, "head_dim": np.full(len(table), 128.0)}, table.seconds, name)
        if "attention" in name else table for name, table in AS_THEY_ARE.tables.items()}
    found = {(e.table, e.axis) for e in held_out_errors(
        type(AS_THEY_ARE)("toy", tables, ()), CHIP)}
    assert {("context_attention", "isl"), ("context_attention", "batch_size"),
            ("generation_attention", "step"), ("generation_attention", "batch_size")} <= found


def test_thinned_tables_compose_nearly_the_same_step():
    thin = thinned(AS_THEY_ARE)
    assert thin.table("gemm").values("m") == [m for i, m in enumerate(ROWS) if i % 2 == 0]
    whole, part = (kernel_step_time(tables, MODEL, CHIP) for tables in (AS_THEY_ARE, thin))
    step = (300, 300.0**2 / 2, 40, 40_000)
    assert part.seconds(*step) == pytest.approx(whole.seconds(*step), rel=0.1)


def test_a_systems_constants_come_from_its_file(tmp_path):
    found = system_accelerator(write_tables(tmp_path), "toy")
    assert found is not None
    assert (found.bandwidth_bytes_per_s, found.flops("bf16"), found.link_bytes_per_s) == (
        CHIP.bandwidth_bytes_per_s, CHIP.flops("bf16"), CHIP.link_bytes_per_s)
    assert system_accelerator(tmp_path, "other") is None
    (tmp_path / "other.yaml").write_text(SYSTEM)
    assert system_accelerator(tmp_path, "other").name == "other"


@pytest.mark.parametrize(("text", "message"), [
    ("gpu: [", "is not YAML"), ("[1]", "no section 'gpu'"), ("gpu: {mem_bw: 1}", "'node'"),
    (SYSTEM.replace("mem_bw: ", "mem_bw: x"), "mem_bw is 'x"),
    (SYSTEM.replace("bfloat16", "float99"), "gpu has no bfloat16_tc_flops"),
    (SYSTEM.replace("power: 300", "power: 0"), "power is 0; expected a number above 0")])
def test_broken_constants_are_told(tmp_path, text, message):
    (tmp_path / "toy.system.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        system_accelerator(tmp_path, "toy")
