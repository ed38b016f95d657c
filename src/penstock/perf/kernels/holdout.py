"""How far interpolation is off: every other point hidden, interpolated, and compared.

What is hidden is every second value of one axis (rows, columns, batch sizes, lengths), never the
last, so each hidden point lies among points that are kept. Values within 2 % of each other, such
as 256 and 257 rows, are hidden together: one would give away the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.perf.kernels.attention import decode_plane, prefill_plane
from penstock.perf.kernels.dense import (
    DTYPES,
    GRAPH_BACKEND,
    SKEWED,
    all_reduce_curve,
    gemm_curve,
    moe_curve,
)
from penstock.perf.kernels.shapes import Floats
from penstock.perf.kernels.tables import KernelTable, KernelTables

_NEAR = 1.02
_HEAD_DIM = 128
# Prompts below this fill no tile; many of them in one step are approximated, see ``attention``.
SHORTEST_PROMPT = 64
# Precisions whose rows are checked, where a table has them; DTYPES has the tables' names.
_PRECISIONS = ("bf16", "fp8")

@dataclass(frozen=True, slots=True)
class HeldOut:
    """Relative errors |interpolated / measured - 1| on the hidden points of one table and axis."""

    table: str
    precision: str
    axis: str
    num_points: int
    mean: float
    median: float
    p95: float
    bias: float


@dataclass(frozen=True, slots=True)
class _Check:
    """Rows of ``table`` that match ``where``, split along ``axes`` in turn, shape by shape."""

    table: str
    precision: str
    where: dict[str, float | str]
    shape: tuple[str, ...]
    axes: tuple[str, ...]


def held_out_errors(tables: KernelTables, accelerator: Accelerator) -> list[HeldOut]:
    """The errors of every table and axis of a system; an axis of two values or fewer has none."""
    found = []
    for check in _checks(tables):
        table = tables.table(check.table)
        rows = table.where(**check.where)
        if check.table == "context_attention":
            rows = rows.rows(rows.columns["isl"] >= SHORTEST_PROMPT)
        for axis in check.axes:
            kept, hidden = split(rows, axis)
            if len(kept) and len(hidden):
                thin = replace(tables, tables={**tables.tables, check.table: kept})
                errors = _errors(check, thin, hidden, accelerator)
                if len(errors):
                    found.append(_summary(check, axis, errors))
    return found


def split(rows: KernelTable, axis: str) -> tuple[KernelTable, KernelTable]:
    """Rows kept and rows hidden: every second value of ``axis`` but the last."""
    groups: list[list[float]] = []
    for value in rows.values(axis):
        if groups and value <= _NEAR * groups[-1][-1]:
            groups[-1].append(value)
        else:
            groups.append([value])
    hidden = [value for group in groups[1:-1:2] for value in group]
    mask = np.isin(rows.columns[axis], hidden)
    return rows.rows(~mask), rows.rows(mask)


def thinned(tables: KernelTables) -> KernelTables:
    """All tables of a step with every second value of what varies from step to step left out."""
    axes = {"gemm": "m", "context_attention": "isl", "generation_attention": "step",
            "custom_allreduce": "message_size"}
    return replace(tables, tables={
        name: split(table, axes[name])[0] if name in axes else table
        for name, table in tables.tables.items()})


def _checks(tables: KernelTables) -> Iterator[_Check]:
    heads = ("num_heads", "num_key_value_heads")
    attention: dict[str, float | str] = {"window_size": 0.0, "head_dim": float(_HEAD_DIM)}
    experts = ("hidden_size", "inter_size", "num_experts", "topk", "moe_tp_size")
    checks: list[_Check] = []
    for precision in _PRECISIONS:
        name = DTYPES[precision]
        checks += [
            _Check("gemm", precision, {"gemm_dtype": name}, ("n", "k"), ("m", "n", "k")),
            _Check("context_attention", precision, {**attention, "kv_cache_dtype": name}, heads,
                   ("isl", "batch_size", "num_heads")),
            _Check("generation_attention", precision, {**attention, "kv_cache_dtype": name}, heads,
                   ("step", "batch_size", "num_heads")),
            _Check("moe", precision, {"moe_dtype": name, "moe_ep_size": 1.0,
                                      "distribution": SKEWED}, experts, ("num_tokens",))]
    checks += [_Check("custom_allreduce", "bf16", {"backend": GRAPH_BACKEND}, ("num_gpus",),
                      ("message_size",)),
               _Check("nccl", "bf16", {"op_name": "all_reduce", "nccl_dtype": "half"},
                      ("num_gpus",), ("message_size",))]
    for check in checks:
        if check.table in tables.tables and len(tables.table(check.table).where(**check.where)):
            yield check


def _errors(check: _Check, tables: KernelTables, hidden: KernelTable,
            accelerator: Accelerator) -> list[float]:
    if check.table == "nccl":  # asked only where there is no other all-reduce
        tables = replace(tables, tables={"nccl": tables.table("nccl")})
    found: list[float] = []
    shapes = np.unique(np.column_stack([hidden.columns[name] for name in check.shape]), axis=0)
    for shape in shapes.tolist():
        rows = hidden.where(**dict(zip(check.shape, shape, strict=True)))
        try:
            predicted = _predicted(check, tables, shape, rows, accelerator)
        except InputError:
            continue  # nothing is left around this shape: no interpolation to judge
        found += (predicted / rows.seconds - 1.0).tolist()
    return found


def _predicted(check: _Check, tables: KernelTables, shape: list[float], rows: KernelTable,
               accelerator: Accelerator) -> Floats:
    columns, precision = rows.columns, check.precision
    if check.table == "gemm":
        curve, _ = gemm_curve(tables, shape[0], shape[1], precision, accelerator)
        return np.array([curve.at(m) for m in columns["m"].tolist()])
    if check.table == "moe":
        hidden, width, experts, active, tensor = (int(value) for value in shape)
        curve, _ = moe_curve(tables, hidden, width, experts, active, tensor, precision, accelerator)
        return np.array([curve.at(tokens) for tokens in columns["num_tokens"].tolist()])
    if check.table in ("custom_allreduce", "nccl"):
        curve = all_reduce_curve(tables, int(shape[0]), accelerator)
        return np.array([curve.at(size) for size in columns["message_size"].tolist()])
    heads, kv_heads = int(shape[0]), int(shape[1])
    batches = columns["batch_size"]
    if check.table == "context_attention":
        prompts, _ = prefill_plane(tables, heads, kv_heads, _HEAD_DIM, precision, accelerator)
        tokens = batches * columns["isl"]
        return np.array([prompts.at(p, w) for p, w in zip(
            tokens.tolist(), (tokens * columns["isl"] / 2.0).tolist(), strict=True)])
    decodes, _ = decode_plane(tables, heads, kv_heads, _HEAD_DIM, precision, accelerator)
    context = batches * (columns["isl"] + columns["step"])
    return np.array([decodes.at(d, k) for d, k in zip(batches.tolist(), context.tolist(),
                                                      strict=True)])


def _summary(check: _Check, axis: str, errors: list[float]) -> HeldOut:
    size = np.abs(errors)
    return HeldOut(check.table, check.precision, axis, len(errors), float(size.mean()),
                   float(np.median(size)), float(np.quantile(size, 0.95)),
                   float(np.mean(errors)))
