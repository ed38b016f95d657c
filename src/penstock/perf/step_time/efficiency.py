"""Share of an accelerator's peaks that kernels reach: measured where tables exist, else assumed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from penstock.core.hardware import Accelerator

_WIDE = ("bf16", "fp16", "fp32")

@dataclass(frozen=True, slots=True)
class Efficiency:
    """Reachable rates of one accelerator at one precision; none exceeds the accelerator's peak.

    Rates in operations/s and bytes/s, ``*_kernel_s`` in seconds per call. ``head_flops`` is the
    16-bit matrix rate. ``mean_error`` and ``p95_error`` are relative. ``measured``
    is false where every share of a peak is assumed.
    """

    gemm_flops: float
    head_flops: float
    gemm_bandwidth: float
    gemm_kernel_s: float
    elementwise_kernel_s: float
    knee: float
    expert_flops: float
    expert_bandwidth: float
    expert_kernel_s: float
    expert_mean_error: float
    expert_p95_error: float
    prefill_flops: float
    prefill_kernel_s: float
    decode_bandwidth: float
    decode_kernel_s: float
    seq_head_s: float
    all_reduce: Mapping[int, tuple[float, float]]
    all_reduce_base_s: float
    link_bytes_per_s: float
    mean_error: float
    p95_error: float
    source: str
    measured: bool = True

    def all_reduce_time(self, ranks: int) -> tuple[float, float]:
        """Seconds per call and seconds per byte of one all-reduce over ``ranks``."""
        if ranks in self.all_reduce:
            return self.all_reduce[ranks]
        # A ring passes every byte twice, less the share that is already in place.
        return self.all_reduce_base_s, 2.0 * (ranks - 1) / ranks / self.link_bytes_per_s


def efficiency_for(accelerator: Accelerator, precision: str, kv_precision: str) -> Efficiency:
    """The measured rates of the accelerator's family scaled to its peaks, or default fractions."""
    table = _table()
    default = table["default"]
    family = _family(accelerator.name, table["families"])
    measured: dict[str, Any] = table["families"].get(family, {})
    peak_bandwidth = accelerator.bandwidth_bytes_per_s

    gemm = _gemm_fractions(measured, precision, default["gemm"])
    head = _gemm_fractions(measured, "bf16", default["gemm"])
    decode = measured.get("decode_bandwidth", {}).get(kv_precision)
    prefill = measured.get("prefill_flops")
    experts = measured.get("experts", default["experts"])
    uneven = measured.get("uneven", default["uneven"])
    link = accelerator.link_bytes_per_s or accelerator.pcie_bytes_per_s
    unmeasured = [what for what, known in
                  ((f"{precision} GEMM", gemm.get("measured")),
                   (f"decode attention on {kv_precision} KV", decode)) if not known]
    assumed = f" ({' and '.join(unmeasured)}: assumed share of peak)" if unmeasured else ""
    # The widest of what applies: kernel fits, whole dense layers, and any assumed share.
    errors = [gemm, measured.get("dense_error", gemm), default["gemm"] if unmeasured else gemm]
    return Efficiency(
        gemm_flops=accelerator.flops(precision) * min(gemm["flops"], 1.0) * uneven,
        head_flops=accelerator.flops("bf16") * min(head["flops"], 1.0) * uneven,
        gemm_bandwidth=peak_bandwidth * min(gemm["bandwidth"], 1.0),
        gemm_kernel_s=gemm["kernel_s"],
        elementwise_kernel_s=measured.get("elementwise_kernel_s",
                                          default["elementwise_kernel_s"]),
        knee=max(gemm["knee"], 1.0),
        expert_flops=accelerator.flops(precision) * experts["flops"],
        expert_bandwidth=peak_bandwidth * experts["bandwidth"],
        expert_kernel_s=experts["kernel_s"],
        expert_mean_error=experts["mean"], expert_p95_error=experts["p95"],
        prefill_flops=accelerator.flops("bf16") * min(
            1.0, prefill / measured["peaks"]["bf16"] if prefill else default["prefill_flops"]),
        prefill_kernel_s=measured.get("prefill_kernel_s", default["prefill_kernel_s"]),
        decode_bandwidth=peak_bandwidth * min(
            1.0, (decode / measured["peaks"]["bandwidth"] if decode
                  else default["decode_bandwidth"])),
        decode_kernel_s=measured.get("decode_kernel_s", default["decode_kernel_s"]),
        seq_head_s=measured.get("seq_head_s", default["seq_head_s"]),
        all_reduce={int(ranks): (pair[0], pair[1])
                    for ranks, pair in measured.get("all_reduce", {}).items()},
        all_reduce_base_s=default["all_reduce_base_s"],
        link_bytes_per_s=link * default["all_reduce_link"],
        mean_error=max(error["mean"] for error in errors),
        p95_error=max(error["p95"] for error in errors),
        source=(f"{table['source']} for {family}{assumed}" if measured
                else f"no measurement of {accelerator.name}: assumed shares of its peak rates"),
        measured=bool(measured))


class Fastest(NamedTuple):
    """Shares of a chip's peaks that hardly any large kernel call exceeds: of dense products, of
    reading weights, of the attention of prompts, and of reading keys and values."""

    products: float
    weights: float
    prompts: float
    context: float


def fastest_kernels(chip: str, number_format: str) -> Fastest:
    """Return the shares of a chip, by its name, with weights in a format such as ``bf16``."""
    table = _table()
    default = table["default"]["fastest"]
    measured = table["families"].get(_family(chip, table["families"]), {}).get("fastest", {})
    wide = number_format in _WIDE
    return Fastest(
        measured.get("bf16" if wide else number_format, default["bf16" if wide else "low"]),
        *(measured.get(name, default[name]) for name in Fastest._fields[1:]))


def _gemm_fractions(measured: Mapping[str, Any], precision: str,
                    default: Mapping[str, Any]) -> dict[str, Any]:
    """Fractions of peak at ``precision``; fp16 counts as bf16, weight-only formats are assumed."""
    name = "bf16" if precision == "fp16" else precision
    fit = measured.get("gemm", {}).get(name)
    if fit is None:
        return dict(default)
    peaks = measured["peaks"]
    return {**fit, "flops": fit["flops"] / peaks[name],
            "bandwidth": fit["bandwidth"] / peaks["bandwidth"], "measured": True}


def _family(name: str, families: Mapping[str, Any]) -> str:
    words = re.split(r"[^a-z0-9]+", name.lower())
    return next((word for word in words if word in families), "")


@cache
def _table() -> dict[str, Any]:
    text = resources.files("penstock.perf").joinpath("data/efficiencies.yaml").read_text("utf-8")
    table: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return table


