"""Speculative decoding of measured points: from notes of a row, or from its source's scripts."""

import re
from collections.abc import Mapping
from typing import Any

from penstock.core.draft_depth import DraftDepth
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.fleet.values_speculation import Speculation
from penstock.perf.speculation.acceptance import Acceptance
from penstock.perf.speculation.published import acceptance_of, published_acceptance
from penstock.perf.step_time.work import step_work
from penstock.published.measured.rows import Measured

NONE = ("none", "")
_METHODS = {"mtp": "mtp", "eagle/mtp": "mtp"}
_STATED = re.compile(r"num_speculative_tokens\"?:\s*(\d+)|--speculative-num-steps (\d+)")
_ATTENTION_DATA_PARALLEL = "attention data parallel"
_DRAFTS = {"tensorrt-llm": 3, "sglang": 2, "atom": 1}
"""Drafted tokens in InferenceX's scripts of DeepSeek-R1 (SemiAnalysisAI/InferenceX, Apache-2.0,
benchmarks/dsr1_*_mtp.sh): TensorRT-LLM 3, with data-parallel attention 1; SGLang 2 on NVIDIA, on
AMD its own default of 3; ATOM its default of 1."""

_NEAREST = {"qwen3.5-9b": "qwen3.5-397b-a17b-mtp", "deepseek-v3.2": "deepseek-v3-mtp"}
"""Models whose acceptance is not published, and the nearest model of which it is."""


def speculation_of(row: Measured, engine: str, model: ModelSpec, accelerator: Accelerator,
                   drafts: int | None = None) -> Speculation | str:
    """Return how the engine of a row drafts, or why that is not known. ``drafts`` are the drafted
    tokens where another source than the row states them."""
    method = _METHODS.get(row.spec_decode)
    acceptance = None if method is None else _acceptance(model, method)
    tokens = drafts or _tokens(row, engine, accelerator)
    if method is None or acceptance is None or tokens is None:
        unknown = "method" if method is None else "depth" if tokens is None else "acceptance"
        return f"speculative decoding ({row.spec_decode}) of unknown {unknown}"
    found: Mapping[str, Any] = {"": acceptance}
    return Speculation("mtp", DraftDepth(tokens), found)


def is_too_fast(row: Measured, speculation: Speculation, model: ModelSpec,
                accelerator: Accelerator, parallelism: Parallelism, precision: str) -> bool:
    """Whether a row's TPOT is below that of turns that accept all drafts and only read the weights,
    as where a load tool takes a streamed chunk of tokens for one token."""
    read_s = step_work(model, parallelism, precision, "fp8").touched_bytes(1) \
        / accelerator.bandwidth_bytes_per_s
    return row.tpot_s is not None and row.tpot_s < read_s / (speculation.depth.tokens + 1)


def _acceptance(model: ModelSpec, method: str) -> Acceptance | None:
    nearest = _NEAREST.get(model.name)
    if nearest is not None:
        return published_acceptance(nearest)
    published = acceptance_of(model.name, method)
    return None if published is None else published.acceptance


def _tokens(row: Measured, engine: str, accelerator: Accelerator) -> int | None:
    stated = _STATED.search(row.notes)
    if stated is not None:
        return int(stated[1] or stated[2])
    if "of that project" not in row.notes:
        return None
    if engine == "tensorrt-llm" and _ATTENTION_DATA_PARALLEL in row.notes:
        return 1
    if engine == "sglang" and accelerator.vendor == "amd":
        return 3
    return _DRAFTS.get(engine)
