"""A user's own measurements: results of load tools as points."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.published.measured.rows import Measured

_FRAMEWORKS = {"tensorrt-llm": "trtllm"}
_EXPECTED = ("expected a result of `vllm bench serve --save-result`, of SGLang's bench_serving or "
             "of GuideLLM (JSON)")


@dataclass(frozen=True, slots=True)
class OwnDeployment:
    """The replica that a load tool measured. ``version`` is empty for the newest release."""

    model: str
    accelerator: str
    engine: str
    version: str = ""
    tensor: int = 1
    precision: str = "bf16"


def read_own(path: Path, at: OwnDeployment) -> list[Measured]:
    """Return the points of a load tool's result. Raises InputError for a file of another kind."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    points = [point for record in _records(path, text) for point in _points(path, record)]
    if not points:
        raise InputError(f"{path}: holds no result; {_EXPECTED}")
    return [_row(path, number, at, point) for number, point in enumerate(points, 1)]


def _records(path: Path, text: str) -> list[Any]:
    """The JSON document of a file, or one a line."""
    for parts in ([text], text.splitlines()):
        try:
            return [json.loads(part) for part in parts if part.strip()]
        except json.JSONDecodeError:
            continue
    raise InputError(f"{path}: is not JSON; {_EXPECTED}")


def _points(path: Path, record: Any) -> Iterator[dict[str, Any]]:
    try:
        if isinstance(record, dict) and "benchmarks" in record:
            for benchmark in record["benchmarks"]:
                yield _of_guidellm(benchmark)
            return
        if isinstance(record, dict) and "mean_tpot_ms" in record:
            yield _of_bench_serving(record)
            return
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path}: a result lacks {error}; {_EXPECTED}") from None
    raise InputError(f"{path}: {_EXPECTED}")


def _of_bench_serving(record: Mapping[str, Any]) -> dict[str, Any]:
    """A result of vLLM's or SGLang's load tool."""
    completed, clients = int(record["completed"]), record.get("max_concurrency")
    rate_per_s = float(record.get("request_rate") or inf)
    kind, value = (("rate", rate_per_s) if rate_per_s < inf else
                   ("concurrency", float(clients)) if clients else ("burst", float(completed)))
    return {"load_kind": kind, "load_value": value, "num_requests": float(completed),
            "isl": record["total_input_tokens"] / completed,
            "osl": record["total_output_tokens"] / completed,
            "ttft_s": record["mean_ttft_ms"] / 1e3, "tpot_s": record["mean_tpot_ms"] / 1e3,
            "output_tok_per_s": float(record["output_throughput"])}


def _of_guidellm(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark of a GuideLLM report. Its inter-token latency is the TPOT of this project."""
    metrics, strategy = benchmark["metrics"], benchmark["config"]["strategy"]

    def mean(name: str) -> float:
        return float(metrics[name]["successful"]["mean"])

    completed, kind = float(metrics["request_totals"]["successful"]), strategy["type_"]
    loads = {"concurrent": ("concurrency", strategy.get("streams")), "synchronous": (
        "concurrency", 1), "constant": ("rate", strategy.get("rate")), "poisson": (
        "rate", strategy.get("rate")), "throughput": ("burst", completed)}
    if kind not in loads:
        raise ValueError(f"a strategy of {', '.join(loads)}; found {kind!r}")
    name, value = loads[kind]
    return {"load_kind": name, "load_value": float(value), "num_requests": completed,
            "isl": mean("prompt_token_count"), "osl": mean("output_token_count"),
            "ttft_s": mean("time_to_first_token_ms") / 1e3,
            "tpot_s": mean("inter_token_latency_ms") / 1e3,
            "output_tok_per_s": mean("output_tokens_per_second")}


def _row(path: Path, number: int, at: OwnDeployment, point: Mapping[str, Any]) -> Measured:
    return Measured(
        file=path.name, row=number, hardware=at.accelerator, model=at.model,
        precision=at.precision, kv_precision="",
        framework=_FRAMEWORKS.get(at.engine, at.engine), version=at.version, spec_decode="none",
        disaggregated=False, length_kind="dataset", notes="", num_gpus=float(at.tensor),
        tp=float(at.tensor), pp=1.0, ep=1.0, dp=1.0, e2e_s=None, is_median=False, own=True,
        **point)
