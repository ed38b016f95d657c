"""Small kernel tables that tests write: times of a chip with known rates, in the real columns."""

import csv
import gzip
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.hardware import Accelerator
from penstock.core.model import ModelSpec
from penstock.perf.kernels.layout import LAYOUTS
from penstock.perf.kernels.tables import KernelTable, KernelTables

Change = Callable[[str, float], float]

FLOPS, BANDWIDTH, LINK = 100e12, 1e12, 100e9
CHIP = Accelerator("toy-40gb", "nobody", 40 << 30, BANDWIDTH, {"bf16": FLOPS}, 300.0, LINK, 32e9,
                   1.0)
MODEL = ModelSpec("tiny", 4, 1024, 16, 4, 64, 2048, 4096, 8192)
MIXTURE = ModelSpec("tiny-moe", 4, 1024, 16, 4, 64, 2048, 4096, 8192, num_experts=8,
                    experts_per_token=2, expert_intermediate_size=512)
ROWS = (1, 8, 64, 512, 4096)
SIDES = (512, 1024, 2048, 4096)
BATCHES = (1, 4, 16, 64, 256)
LENGTHS = (1, 16, 64, 256, 1024, 4096)
STEPS = (1, 15, 127, 1023, 8191)
HEADS = ((8, 2), (8, 4), (16, 2), (16, 4))
ELEMENTS = tuple(2**power for power in range(7, 26, 3))
LAUNCH_MS = 0.004
# The constants of CHIP in the form of AIConfigurator's system files.
SYSTEM = f"""\
gpu: {{mem_bw: {BANDWIDTH:.0f}, mem_capacity: {40 << 30}, bfloat16_tc_flops: {FLOPS:.0f},
      power: 300}}
node: {{num_gpus_per_node: 8, intra_node_bw: {LINK:.0f}, pcie_bw: 32000000000}}
"""


def gemm_ms(m: float, n: float, k: float) -> float:
    """Eight tenths of the peaks, summed, and a launch."""
    return LAUNCH_MS + 1e3 * (2 * m * n * k / (0.8 * FLOPS) + 2 * n * k / (0.8 * BANDWIDTH))


def prefill_ms(batch: float, length: float, heads: float, kv_heads: float) -> float:
    pairs = batch * length * length / 2
    return (LAUNCH_MS + 1e3 * (4 * heads * 64 * pairs / (0.6 * FLOPS)
                               + 4 * batch * length * kv_heads * 64 / BANDWIDTH))


def decode_ms(batch: float, step: float, kv_heads: float) -> float:
    return (LAUNCH_MS + 1e3 * batch * 1e-7
            + 1e3 * 4 * batch * (step + 1) * kv_heads * 64 / (0.8 * BANDWIDTH))


def all_reduce_ms(ranks: int, elements: float) -> float:
    return LAUNCH_MS * ranks + 1e3 * 2 * elements / (0.5 * LINK)


def moe_ms(tokens: float, tensor: int) -> float:
    return LAUNCH_MS + 1e3 * 3 * 1024 * 512 / tensor * (16 / BANDWIDTH + 4 * tokens / (0.5 * FLOPS))


def table_rows(change: Change) -> dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
    """Column names and rows of all six tables; ``change`` may alter a time by its table's name."""
    attention = ("num_heads", "num_key_value_heads", "head_dim", "attn_dtype", "kv_cache_dtype")
    kind = (64, "bfloat16", "bfloat16")
    return {
        "gemm": (("gemm_dtype", "m", "n", "k", "latency_ms"), [
            ("bfloat16", m, n, k, change("gemm", gemm_ms(m, n, k)))
            for m, n, k in product(ROWS, SIDES, SIDES)]),
        "context_attention": (("batch_size", "isl", *attention, "latency_ms"), [
            (b, s, h, kv, *kind, change("context_attention", prefill_ms(b, s, h, kv)))
            for b, s, (h, kv) in product(BATCHES, LENGTHS, HEADS)]),
        "generation_attention": (("batch_size", "step", *attention, "latency_ms"), [
            (b, s, h, kv, *kind, change("generation_attention", decode_ms(b, s, kv)))
            for b, s, (h, kv) in product(BATCHES, STEPS, HEADS)]),
        "custom_allreduce": (
            ("allreduce_dtype", "num_gpus", "message_size", "backend", "latency_ms"), [
                ("bfloat16", ranks, e, backend,
                 change("custom_allreduce", slower * all_reduce_ms(ranks, e)))
                for ranks, e, (backend, slower) in product(
                    (2, 4), ELEMENTS, (("vllm_graph", 1.0), ("vllm_eager", 3.0)))]),
        "nccl": (("op_name", "nccl_dtype", "num_gpus", "message_size", "latency"), [
            ("all_reduce", "half", ranks, e, change("nccl", 1.5 * all_reduce_ms(ranks, e)))
            for ranks, e in product((2, 4, 8), ELEMENTS)]),
        "moe": (
            ("moe_dtype", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts",
             "moe_tp_size", "moe_ep_size", "distribution", "latency_ms"), [
                ("bfloat16", t, 1024, 512, 2, 8, tp, 1, "power_law_1.01",
                 change("moe", moe_ms(t, tp))) for t, tp in product(ROWS, (1, 2))]),
    }


def write_tables(folder: Path, system: str = "toy", version: str = "1.0",
                 change: Change = lambda _, ms: ms) -> Path:
    """All six tables of one system as files, and its constants."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (columns, rows) in table_rows(change).items():
        start = f"{system}_nccl2.0" if name == "nccl" else f"{system}_vllm{version}_{name}"
        with gzip.open(folder / f"{start}.csv.gz", "wt", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
    (folder / f"{system}.system.yaml").write_text(SYSTEM)
    return folder


def made_tables(change: Change) -> KernelTables:
    """The same without files."""
    tables = {}
    for name, (columns, rows) in table_rows(change).items():
        named = {column: np.array(values) for column, values
                 in zip(columns, zip(*rows, strict=True), strict=True)}
        milliseconds = named.pop(columns[-1])
        layout = LAYOUTS[name]
        full = {column: named.get(column, np.full(len(rows), layout.defaults.get(column)))
                for column in (*layout.numbers, *layout.words)}
        tables[name] = KernelTable(full, milliseconds / 1e3, name)
    return KernelTables("toy", tables, ("made up",))
