"""Matrix multiplications and mixtures of experts by tokens, and all-reduces by elements."""

import numpy as np

from penstock.core.errors import InputError, nearest, one_of
from penstock.core.hardware import Accelerator
from penstock.core.model import BYTES_PER_VALUE
from penstock.perf.kernels.curves import Curve
from penstock.perf.kernels.shapes import Floats, Times, clamped_shape, monotone, times_of_shape
from penstock.perf.kernels.tables import KernelTable, KernelTables

# What the tables call our number formats.
DTYPES = {"bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8", "fp4": "nvfp4", "int8": "int8",
          "int4": "int4_wo"}
# vLLM captures decodes and small prompts in CUDA graphs; "vllm_eager" adds launches (20-90 us).
GRAPH_BACKEND = "vllm_graph"
# Routing is never even; AIConfigurator's tables have a power law as their usual case.
SKEWED = "power_law_1.01"
_ELEMENT_BYTES = 2
_LEAST_SHARE = 0.05


def dtype_of(precision: str, table: KernelTable, column: str) -> str:
    """The table's name of a number format; InputError when the table has no such rows."""
    name = DTYPES.get(precision, precision)
    if name not in table.values(column):
        known = {ours for ours, theirs in DTYPES.items() if theirs in table.values(column)}
        raise InputError(f"precision: {table.source} has no rows in {precision}"
                         + nearest(precision, known))
    return name


def best_share(bound_s: Floats, seconds: Floats) -> float:
    """The part of the physical limit that a kernel reaches at its best (99 % of its rows reach
    less); at most 1, since some small cases are answered from a cache."""
    return float(np.clip(np.quantile(bound_s / seconds, 0.99), _LEAST_SHARE, 1.0))


def curve_of(times: Times, bound_s: Floats, beyond_s: float) -> Curve:
    """A curve through ``times`` (keys of one number) that never falls nor lies under the bound."""
    seconds = np.array([times[key] for key in sorted(times)])
    floored = np.maximum(monotone(seconds), bound_s)
    return Curve(tuple(key[0] for key in sorted(times)), tuple(floored.tolist()), beyond_s)


def gemm_curve(tables: KernelTables, n: float, k: float, precision: str,
               accelerator: Accelerator) -> tuple[Curve, tuple[str, ...]]:
    """Seconds of an (m x k)(k x n) product by m, and notes on where the table was left.

    The bound is its operations at peak rate, or reading its weights. A matrix wider or deeper than
    any in the table takes the time of the largest and, for the rest, the best rate of the table.
    """
    table = tables.table("gemm")
    table = table.where(gemm_dtype=dtype_of(precision, table, "gemm_dtype"))
    shape = clamped_shape(table, {"n": n, "k": k})
    times = times_of_shape(table, shape, ("m",))
    flops, bandwidth = accelerator.flops(precision), accelerator.bandwidth_bytes_per_s
    width = BYTES_PER_VALUE[precision]

    def bound(m: Floats, n: Floats | float, k: Floats | float) -> Floats:
        return np.asarray(np.maximum(2.0 * m * n * k / flops, n * k * width / bandwidth))

    share = best_share(bound(*(table.columns[name] for name in ("m", "n", "k"))), table.seconds)
    rows = np.array([key[0] for key in sorted(times)])
    beyond = np.maximum(bound(rows, n, k) - bound(rows, shape["n"], shape["k"]), 0.0) / share
    times = {key: times[key] + float(more) for key, more in zip(sorted(times), beyond, strict=True)}
    curve = curve_of(times, bound(rows, n, k), 2.0 * n * k / flops / share)
    notes = () if (n, k) == (shape["n"], shape["k"]) else (
        f"GEMM of {n:g} x {k:g} taken from {shape['n']:g} x {shape['k']:g}",)
    return curve, notes


def moe_curve(tables: KernelTables, hidden: int, width: int, experts: int, active: int,
              tensor: int, precision: str, accelerator: Accelerator
              ) -> tuple[Curve, tuple[str, ...]]:
    """Seconds of a layer's routed experts by tokens, each expert split over ``tensor`` ranks.

    Only the very shape will do: how tokens spread over experts is part of what was measured.
    """
    table = tables.table("moe")
    rows = table.where(moe_dtype=dtype_of(precision, table, "moe_dtype"),
                       hidden_size=hidden, inter_size=width, num_experts=experts, topk=active,
                       moe_tp_size=tensor, moe_ep_size=1)
    if not len(rows):
        degrees = {int(tp) for tp in table.where(
            hidden_size=hidden, inter_size=width, num_experts=experts, topk=active,
            moe_ep_size=1).values("moe_tp_size")}
        more = f" (measured with {_listed(degrees)})" if degrees else ""
        raise InputError(f"{table.source}: no rows in {precision} for {active} of {experts} "
                         f"experts of {hidden} x {width} over {tensor} ranks{more}")
    spreads = rows.values("distribution")
    spread = SKEWED if SKEWED in spreads else spreads[-1]
    times = times_of_shape(rows.where(distribution=spread), {}, ("num_tokens",))
    matrices = 3 * hidden * width / tensor
    flops = accelerator.flops(precision)
    tokens = np.array([key[0] for key in sorted(times)])
    compute = 2.0 * matrices * active * tokens / flops
    read = matrices * active * BYTES_PER_VALUE[precision] / accelerator.bandwidth_bytes_per_s
    seconds = np.array([times[key] for key in sorted(times)])
    share = best_share(compute, seconds)
    notes = (f"experts loaded as in {spread}",) if spread else ()
    return curve_of(times, np.maximum(compute, read),
                    2.0 * matrices * active / flops / share), notes


def all_reduce_curve(tables: KernelTables, ranks: int, accelerator: Accelerator) -> Curve:
    """Seconds of one all-reduce of 16-bit values over ``ranks``, by elements.

    ``message_size`` counts elements, not bytes (docs/reference/step-time.md says how we know). The
    bound: each rank must send its values, but for its own share, over its link.
    """
    times = times_of_shape(all_reduce_rows(tables, ranks), {}, ("message_size",))
    link = accelerator.link_bytes_per_s or accelerator.pcie_bytes_per_s
    sent = _ELEMENT_BYTES * (ranks - 1) / ranks / link
    elements = np.array([key[0] for key in sorted(times)])
    seconds = np.array([times[key] for key in sorted(times)])
    share = best_share(elements * sent, seconds)
    return curve_of(times, elements * sent, sent / share)


def all_reduce_rows(tables: KernelTables, ranks: int) -> KernelTable:
    """The rows of all-reduces over ``ranks``: vLLM's own, else NCCL's. Raises InputError where no
    table has any."""
    known: set[int] = set()
    for name, wanted in (("custom_allreduce", {"allreduce_dtype": "bfloat16"}),
                         ("nccl", {"op_name": "all_reduce", "nccl_dtype": "half"})):
        if name not in tables.tables:
            continue
        table = tables.table(name).where(**wanted)
        if name == "custom_allreduce" and GRAPH_BACKEND in table.values("backend"):
            table = table.where(backend=GRAPH_BACKEND)
        known |= {int(value) for value in table.values("num_gpus")}
        rows = table.where(num_gpus=ranks)
        if len(rows):
            return rows
    raise InputError(f"{tables.system}: no all-reduce over {ranks} GPUs was measured"
                     + one_of(str(value) for value in known))


def _listed(values: set[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))
