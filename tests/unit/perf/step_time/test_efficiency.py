"""Shares of the peaks that kernels reach: the shipped bounds are those of the timed kernels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import csv

from penstock.perf.step_time.efficiency import fastest_kernels

TABLES = {"a100": "a100_sxm_vllm0.14.0", "h100": "h100_sxm_vllm0.24.0",
          "h200": "h200_sxm_vllm0.24.0", "l40s": "l40s_vllm0.22.0"}
PEAKS = {"a100": (312e12, 2.039e12), "h100": (989e12, 3.35e12), "h200": (989e12, 4.8e12),
         "l40s": (362.05e12, 0.864e12)}
HEAD = 128  # values of a head


def read(folder: Path, chip: str, kind: str) -> dict[str, Any]:
    table = csv.read_csv(folder / f"{TABLES[chip]}_{kind}.csv.gz")
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


def whole_attention(folder: Path, chip: str, kind: str) -> dict[str, Any]:
    """The rows of 16-bit attention over all keys, with heads of the usual size."""
    rows = read(folder, chip, kind)
    kept = rows["kv_cache_dtype"] == "bfloat16"
    for name, value in (("window_size", 0), ("head_dim", HEAD)):
        kept &= rows.get(name, value) == value
    return {name: column[kept] for name, column in rows.items()}


def high(shares: Any) -> float:
    return float(np.quantile(shares, 0.9))


@pytest.mark.parametrize("chip", TABLES)
def test_products_and_weights_are_those_of_the_tables(shared_data: Path, chip: str) -> None:
    rows = read(shared_data / "aiconfigurator", chip, "gemm")
    flops, bandwidth = PEAKS[chip]
    tokens, wide, deep = (rows[name].astype(float) for name in "mnk")
    seconds = rows["latency_ms"] / 1e3
    reached = 2.0 * tokens * wide * deep / seconds
    large = (tokens >= 2048) & (wide >= 4096) & (deep >= 4096)
    sixteen_bit = rows["gemm_dtype"] == "bfloat16"
    kernels = fastest_kernels(chip, "bf16")
    assert kernels.products == pytest.approx(high((reached / flops)[large & sixteen_bit]), abs=0.01)
    eight_bit = [high((reached / (2.0 * flops))[large & (rows["gemm_dtype"] == kind)])
                 for kind in ("fp8", "fp8_block") if (rows["gemm_dtype"] == kind).any()]
    if eight_bit:
        assert fastest_kernels(chip, "fp8").products == pytest.approx(max(eight_bit), abs=0.01)
    few = (tokens <= 16) & (wide * deep > 1e8) & sixteen_bit
    read_bytes = 2.0 * wide * deep + 2.0 * tokens * (wide + deep)
    assert kernels.weights == pytest.approx(high((read_bytes / seconds / bandwidth)[few]), abs=0.01)


@pytest.mark.parametrize("chip", TABLES)
def test_attention_is_that_of_the_tables(shared_data: Path, chip: str) -> None:
    folder = shared_data / "aiconfigurator"
    flops, bandwidth = PEAKS[chip]
    rows = whole_attention(folder, chip, "context_attention")
    pairs = rows["isl"].astype(float)**2 / 2.0 * rows["batch_size"]
    shares = 4.0 * rows["num_heads"] * HEAD * pairs / (rows["latency_ms"] / 1e3) / flops
    kernels = fastest_kernels(chip, "bf16")
    assert kernels.prompts == pytest.approx(high(shares[rows["isl"] >= 4096]), abs=0.01)
    rows = whole_attention(folder, chip, "generation_attention")
    heads = np.where(rows["num_key_value_heads"] > 0, rows["num_key_value_heads"],
                     rows["num_heads"])
    read_bytes = 2.0 * 2 * heads * HEAD * rows["batch_size"] * rows["step"]
    shares = read_bytes / (rows["latency_ms"] / 1e3) / bandwidth
    if (read_bytes > 1e9).any():
        assert kernels.context == pytest.approx(high(shares[read_bytes > 1e9]), abs=0.01)


def test_an_untimed_chip_or_format_has_the_widest_bounds() -> None:
    unknown = fastest_kernels("my-chip", "bf16")
    assert all(0.0 < share < 1.0 for share in unknown)
    for chip in ("h100", "h200", "l40s"):
        assert all(known <= bound for known, bound in
                   zip(fastest_kernels(chip, "bf16"), unknown, strict=True))
    assert fastest_kernels("h100-80gb", "nvfp4") == fastest_kernels("h100", "int4")
