"""Logs of Inferno's tuner: the observations of every replica, and the parameters learned from them.

Source: llm-inferno/model-tuner ``pkg/service``; one entry a line, values as ``name=value``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import InputError
from penstock.published.inferno.loop.cycles import State
from penstock.published.inferno.tuner.values import OperatingPoint

_SEEN = "replica environment"
_LEARNED = "tuned parameters"
_OUTCOMES = (_LEARNED, "tuning failed for group")
_VALUE = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class TunedCycle:
    """Observations of one cycle of one model's replicas, and the parameters after it; None where
    the cycle taught nothing."""

    model: str
    points: tuple[OperatingPoint, ...]
    state: State | None


def read_tuner_log(path: Path, max_queue: int, *, one_chunk: bool) -> Iterator[TunedCycle]:
    """Yield the cycles of a tuner's log in order. Raises InputError with the line that lacks a
    value."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    waiting: dict[str, list[OperatingPoint]] = {}
    for number, line in enumerate(lines, 1):
        entry = next((text for text in (_SEEN, *_OUTCOMES) if text in line), None)
        if entry is None:
            continue
        try:
            values = dict(_VALUE.findall(line))
            model = values.get("model") or values["key"].partition("/")[0]
            if entry == _SEEN:
                point = _point(values, max_queue, one_chunk=one_chunk)
                waiting.setdefault(model, []).append(point)
            elif model in waiting:
                state = _state(values) if entry == _LEARNED else None
                yield TunedCycle(model, tuple(waiting.pop(model)), state)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}:{number}: expected values of {entry!r} "
                             f"({type(error).__name__}: {error})") from error


def _point(values: dict[str, str], max_queue: int, *, one_chunk: bool) -> OperatingPoint:
    rate, prompt, answer, ttft_ms, itl_ms = (float(values[name]) for name in (
        "arrivalRateRPM", "avgInTokens", "avgOutTokens", "avgTTFT", "avgITL"))
    return OperatingPoint(rate, int(values["maxBatch"]), max_queue, prompt, answer, ttft_ms, itl_ms,
                          one_chunk)


def _state(values: dict[str, str]) -> State:
    return float(values["alpha"]), float(values["beta"]), float(values["gamma"])
