"""Reads what GuideLLM measured (github.com/vllm-project/guidellm).

Two layouts of a request are read. Releases 0.4 to 0.8 nest its moments under ``info.timings``.
Releases 0.2 and 0.3 write them flat beside the numbers of tokens.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass, Slo
from penstock.experiment.load.bench import BenchRun, finished_run
from penstock.experiment.load.guidellm_request import MeasuredRequest, read_request
from penstock.experiment.load.outcomes import Outcomes
from penstock.experiment.load.plan import UNNAMED_CLASS, LoadPlan
from penstock.workload.workload import Workload

_MOST_BYTES = 2 << 30
_LAYOUTS = (None, 1, 2)  # releases before 0.4 state none
_NEWEST = (0, 8)
# Strategies that appoint a time for every request, whatever the server does.
_OPEN = ("constant", "poisson", "async", "trace", "replay")


def read_guidellm(path: Path, slo: Slo, class_name: str = UNNAMED_CLASS) -> list[BenchRun]:
    """A run per benchmark of the file, all requests in one class with these targets.

    GuideLLM keeps the first and last token's moments only: gaps are known by their mean, and a pace
    is judged as if tokens had come evenly. Raises InputError for what is no such file.
    """
    document = _document(path)
    notes = _version_notes(path, document)
    benchmarks = document.get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise InputError(f"{path}: not GuideLLM's JSON; expected a list of benchmarks")
    runs = []
    for number, benchmark in enumerate(benchmarks):
        where = f"{path}: benchmarks[{number}]"
        try:
            runs.append(_run(where, path.stem, document, benchmark, slo, class_name, notes))
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


def _version_notes(path: Path, document: Mapping[str, Any]) -> list[str]:
    """Notes on the version of the file. Raises InputError for an unknown layout."""
    layout = _at(document, "metadata", "version")
    if layout not in _LAYOUTS:
        raise InputError(f"{path}: metadata.version: {layout!r} is an unknown layout of GuideLLM's "
                         "reports; expected 1 or 2, which releases up to 0.8 write")
    release = _at(document, "metadata", "guidellm_version")
    numbers = re.match(r"(\d+)\.(\d+)", str(release))
    if numbers and (int(numbers[1]), int(numbers[2])) > _NEWEST:
        return [f"written by GuideLLM {release}, which is newer than {_NEWEST[0]}.{_NEWEST[1]}, "
                "the newest release that this reader was tested with"]
    return []


def _run(where: str, name: str, document: Mapping[str, Any], benchmark: Mapping[str, Any],
         slo: Slo, class_name: str, notes: Sequence[str]) -> BenchRun:
    strategy = _strategy(benchmark)
    is_open = strategy.get("type_") in _OPEN
    groups = benchmark["requests"]
    found = [read_request(f"{where}.requests.{kind}[{row}]", entry, kind, is_open=is_open)
             for kind in ("successful", "errored", "incomplete")
             for row, entry in enumerate(groups.get(kind) or [])]
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
    notes = [*notes, "read from GuideLLM's file: of the gaps between tokens only the means are "
             "known"]
    if isinstance(total, int) and total != len(found):
        notes.append(f"the file holds {len(found)} of {total} requests")
    lost = sum(one.lost_target for one in found)
    if lost:
        notes.append(f"{lost} of {len(found)} requests have a targeted_start that is no moment of "
                     "the run; they count from when they were sent")
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


def _workload(found: Sequence[MeasuredRequest], origin_s: float, class_name: str) -> Workload:
    num = len(found)
    none = np.zeros(num, dtype=np.int64)
    outputs = np.array([max(1, one.answer.num_tokens) for one in found], dtype=np.int64)
    return Workload(
        np.array([one.due_s - origin_s for one in found]),
        np.array([max(1, one.prompt_tokens) for one in found], dtype=np.int64), outputs, outputs,
        ("",), none, (class_name,), none, ("default",), none, np.zeros(0, dtype=np.int64),
        np.zeros(0, dtype=np.int64))


def _at(document: Any, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


