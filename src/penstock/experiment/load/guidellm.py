"""Reads what GuideLLM measured (github.com/vllm-project/guidellm).

The layout is that of its releases 0.3 to 0.7, whose ``requests`` hold the moments of every request
under ``info.timings``; the flat moments of 0.2 are understood as well.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass, Slo
from penstock.engines.client.answer import (
    BROKEN,
    FAILED,
    OUTCOMES,
    TIMED_OUT,
    UNREACHABLE,
    Answer,
    TokenEvent,
    refusal,
)
from penstock.experiment.load.bench import BenchRun, finished_run
from penstock.experiment.load.outcomes import Outcomes
from penstock.experiment.load.plan import UNNAMED_CLASS, LoadPlan
from penstock.workload.workload import Workload

_MOST_BYTES = 2 << 30
# Strategies that appoint a time for every request, whatever the server does.
_OPEN = ("constant", "poisson", "async", "trace", "replay")


@dataclass(frozen=True, slots=True)
class _Request:
    due_s: float
    answer: Answer
    prompt_tokens: int


def read_guidellm(path: Path, slo: Slo, class_name: str = UNNAMED_CLASS) -> list[BenchRun]:
    """A run per benchmark of the file, all requests in one class with these targets.

    GuideLLM keeps the first and last token's moments only: gaps are known by their mean, and a pace
    is judged as if tokens had come evenly. Raises InputError for what is no such file.
    """
    document = _document(path)
    benchmarks = document.get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise InputError(f"{path}: not GuideLLM's JSON; expected a list of benchmarks")
    runs = []
    for number, benchmark in enumerate(benchmarks):
        where = f"{path}: benchmarks[{number}]"
        try:
            runs.append(_run(where, path.stem, document, benchmark, slo, class_name))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{where}: lacks something of GuideLLM's layout "
                             f"({type(error).__name__}: {error})") from error
    return runs


def _document(path: Path) -> dict[str, Any]:
    import orjson

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: larger than {_MOST_BYTES:,} bytes")
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: not GuideLLM's JSON; expected an object with benchmarks")
    return document


def _run(where: str, name: str, document: Mapping[str, Any], benchmark: Mapping[str, Any],
         slo: Slo, class_name: str) -> BenchRun:
    strategy = _strategy(benchmark)
    is_open = strategy.get("type_") in _OPEN
    groups = benchmark["requests"]
    found = [_request(entry, kind, is_open) for kind in ("successful", "errored", "incomplete")
             for entry in groups.get(kind) or []]
    if not found:
        raise InputError(f"{where}: holds no requests; GuideLLM keeps them unless told otherwise "
                         "by sample_size")
    found.sort(key=lambda one: one.due_s)
    origin_s = found[0].due_s
    workload = _workload(found, origin_s, class_name)
    classes = (ServiceClass(class_name, slo),)
    outcomes = Outcomes(workload, {class_name: classes[0]}, origin_s)
    for number, one in zip(count(), found, strict=False):
        outcomes.take(number, one.due_s, one.answer)
    total = _at(benchmark, "metrics", "request_totals", "total")
    notes = ["read from GuideLLM's file: of the gaps between tokens only the means are known"]
    if isinstance(total, int) and total != len(found):
        notes.append(f"the file holds {len(found)} of {total} requests")
    plan = LoadPlan(name, workload, classes, 0, {})
    return finished_run(plan, outcomes, {
        "url": _at(document, "config", "spec", "backend", "target")
        or _at(benchmark, "config", "backend", "target") or _at(document, "args", "target")
        or "an unnamed server",
        "loop": "open" if is_open else "closed", "from": "guidellm",
        "concurrency": strategy.get("streams") or strategy.get("max_concurrency"),
        "strategy": dict(strategy), "guidellm_version": _at(document, "metadata",
                                                            "guidellm_version"),
        "notes": notes}, gaps_known=False)


def _strategy(benchmark: Mapping[str, Any]) -> Mapping[str, Any]:
    for path in (("config", "strategy"), ("scheduler", "strategy"), ("args", "strategy")):
        found = _at(benchmark, *path)
        if isinstance(found, dict):
            return found
    return {}


def _request(entry: Mapping[str, Any], kind: str, is_open: bool) -> _Request:
    info = entry.get("info") or entry.get("scheduler_info") or {}
    timings = info.get("timings") or {}
    sent_s = _first(timings.get("request_start"), timings.get("resolve_start"),
                    entry.get("start_time"), timings.get("targeted_start"))
    end_s = _first(timings.get("request_end"), timings.get("resolve_end"), entry.get("end_time"),
                   sent_s)
    if sent_s is None or end_s is None:
        raise ValueError("a request without a beginning")
    due_s = _first(timings.get("targeted_start") if is_open else None, sent_s)
    first_s = _first(timings.get("first_token_iteration"), entry.get("first_token_time"))
    last_s = _first(timings.get("last_token_iteration"), entry.get("last_token_time"), first_s)
    prompt = _tokens(entry, "prompt_tokens", "input_metrics")
    output = _tokens(entry, "output_tokens", "output_metrics")
    answer = Answer(sent_s, end_s, prompt_tokens=prompt, output_tokens=output)
    if first_s is None and output and kind == "successful":
        answer.streamed = False
        first_s = last_s = end_s
    if first_s is not None and last_s is not None:
        num = output if output else max(1, int(timings.get("token_iterations") or 1))
        answer.events = [TokenEvent(float(at_s), "") for at_s in np.linspace(first_s, last_s, num)]
    if kind != "successful":
        answer.output_tokens = len(answer.events)
        answer.end(*_failure(str(info.get("error") or entry.get("error") or ""), kind))
    return _Request(sent_s if due_s is None else due_s, answer, prompt or 1)


def _failure(error: str, kind: str) -> tuple[str, str]:
    outcome, colon, reason = error.partition(": ")
    if colon and outcome in OUTCOMES:  # written by Penstock
        return outcome, reason
    status = re.search(r"'([345]\d\d) ", error)
    if status:
        return refusal(int(status[1]), error)
    if kind == "incomplete" and not error:
        return BROKEN, "cut off by the end of the benchmark"
    lower = error.lower()
    if "timeout" in lower or "timed out" in lower:
        return TIMED_OUT, error
    if "connect" in lower:
        return UNREACHABLE, error
    return FAILED, error or "an error that the file does not tell"


def _workload(found: Sequence[_Request], origin_s: float, class_name: str) -> Workload:
    num = len(found)
    none = np.zeros(num, dtype=np.int64)
    outputs = np.array([max(1, one.answer.num_tokens) for one in found], dtype=np.int64)
    return Workload(
        np.array([one.due_s - origin_s for one in found]),
        np.array([max(1, one.prompt_tokens) for one in found], dtype=np.int64), outputs, outputs,
        ("",), none, (class_name,), none, ("default",), none, np.zeros(0, dtype=np.int64),
        np.zeros(0, dtype=np.int64))


def _tokens(entry: Mapping[str, Any], name: str, metrics: str) -> int | None:
    value = entry.get(name)
    if value is None:
        usage = entry.get(metrics) or {}
        value = usage.get("total_tokens") or usage.get("text_tokens")
    return int(value) if isinstance(value, int | float) and value >= 0 else None


def _first(*values: Any) -> float | None:
    return next((float(value) for value in values if isinstance(value, int | float)), None)


def _at(document: Any, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


