"""Reads one request of a GuideLLM report and refuses values that cannot be."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from penstock.core.errors import InputError
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

_LONGEST_S = 86_400.0
_MOST_TOKENS = 100_000_000
# GuideLLM takes all moments of a request from the wall clock of one machine.
_CLOCK_SLACK_S = 0.01
# Moments of a Unix clock are later than this (March 1973).
_UNIX_CLOCK_S = 1e8


@dataclass(frozen=True, slots=True)
class MeasuredRequest:
    """A request with the moment at which it was due.

    ``lost_target`` says that the file holds no usable moment for which the request was scheduled,
    though its strategy scheduled one. The request then counts from when it was sent.
    """

    due_s: float
    answer: Answer
    prompt_tokens: int
    lost_target: bool


@dataclass(frozen=True, slots=True)
class _Moment:
    field: str
    at_s: float


def read_request(where: str, entry: Mapping[str, Any], kind: str, *,
                 is_open: bool) -> MeasuredRequest:
    """The request ``entry`` of the group ``kind``.

    ``where`` names the file and the request in messages. Raises InputError that also names the
    field.
    """
    fields = _Fields(where, entry)
    sent = fields.moment("request_start", "resolve_start", "start_time", "targeted_start")
    if sent is None:
        raise InputError(f"{where}: has no moment at which it was sent; expected "
                         "info.timings.request_start or start_time")
    end = fields.moment("request_end", "resolve_end", "end_time") or sent
    first = fields.moment("first_token_iteration", "first_token_time")
    last = fields.moment("last_token_iteration", "last_token_time") or first
    due, lost_target = _due(fields, sent) if is_open else (sent, False)
    _check_order(where, [moment for moment in (due, sent, first, last, end) if moment])
    prompt = fields.tokens("prompt_tokens", "input_metrics")
    output = fields.tokens("output_tokens", "output_metrics")
    answer = Answer(sent.at_s, end.at_s, prompt_tokens=prompt or None, output_tokens=output)
    if first is None and output and kind == "successful":
        answer.streamed = False
        first = last = end
    if first is not None and last is not None:
        num = output or max(1, fields.count("token_iterations"))
        answer.events = [TokenEvent(float(at_s), "")
                         for at_s in np.linspace(first.at_s, last.at_s, num)]
    if kind != "successful":
        answer.output_tokens = len(answer.events)
        answer.end(*_failure(fields.error(), kind))
    return MeasuredRequest(due.at_s, answer, prompt or 1, lost_target)


def _due(fields: "_Fields", sent: _Moment) -> tuple[_Moment, bool]:
    """When the strategy scheduled the request, and whether that moment was lost.

    A later turn of a conversation cannot be sent before its predecessor was answered, so it is not
    due before then. GuideLLM's Poisson strategy may hand out its first moments before it knows
    when the benchmark starts. These moments count from -1 instead of from 1970, and GuideLLM
    sends their requests at once.
    """
    target = fields.moment("targeted_start")
    if target is None:
        return sent, False
    if target.at_s < _UNIX_CLOCK_S < sent.at_s:
        return sent, True
    before = fields.moment("predecessor_completed")
    return (before if before and before.at_s > target.at_s else target), False


def _check_order(where: str, moments: list[_Moment]) -> None:
    for earlier, later in pairwise(moments):
        if later.at_s < earlier.at_s - _CLOCK_SLACK_S:
            raise InputError(f"{where}: {later.field} is {earlier.at_s - later.at_s:.6g} s before "
                             f"{earlier.field}")
    begin = moments[0]
    for moment in moments:
        if moment.at_s - begin.at_s >= _LONGEST_S:
            raise InputError(f"{where}: {moment.field} is {moment.at_s - begin.at_s:.6g} s after "
                             f"{begin.field}; expected less than a day")


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of one request, in the nested layout and in the flat layout of release 0.2."""

    where: str
    entry: Mapping[str, Any]

    def _info(self) -> Mapping[str, Any]:
        return _mapping(self.entry.get("info") or self.entry.get("scheduler_info"))

    def moment(self, *names: str) -> _Moment | None:
        """The first of these moments that the request has."""
        timings = _mapping(self._info().get("timings"))
        for name in names:
            for field, value in ((f"info.timings.{name}", timings.get(name)),
                                 (name, self.entry.get(name))):
                if value is None:
                    continue
                if not _is_number(value):
                    raise InputError(f"{self.where}: {field}: expected a moment in seconds, "
                                     f"found {value!r}")
                return _Moment(field, float(value))
        return None

    def tokens(self, name: str, metrics: str) -> int | None:
        """A count of tokens of the whole request."""
        usage = _mapping(self.entry.get(metrics))
        for field, value in ((name, self.entry.get(name)),
                             (f"{metrics}.total_tokens", usage.get("total_tokens")),
                             (f"{metrics}.text_tokens", usage.get("text_tokens"))):
            if value is not None:
                return self._counted(field, value)
        return None

    def count(self, name: str) -> int:
        """A count of the timings, 0 where there is none."""
        value = _mapping(self._info().get("timings")).get(name)
        return 0 if value is None else self._counted(f"info.timings.{name}", value)

    def _counted(self, field: str, value: Any) -> int:
        if not _is_number(value) or value != int(value) or not 0 <= value <= _MOST_TOKENS:
            raise InputError(f"{self.where}: {field}: expected a number of tokens from 0 to "
                             f"{_MOST_TOKENS:,}, found {value!r}")
        return int(value)

    def error(self) -> str:
        """Why the request failed, as GuideLLM says."""
        return str(self._info().get("error") or self.entry.get("error") or "")


def _failure(error: str, kind: str) -> tuple[str, str]:
    outcome, colon, reason = error.partition(": ")
    if colon and outcome in OUTCOMES:  # written by Penstock
        return outcome, reason
    status = re.search(r"'([345]\d\d) ", error)
    if status:
        return refusal(int(status[1]), error)
    if kind == "incomplete" and error in ("", "Request was cancelled"):
        return BROKEN, "cut off by the end of the benchmark"
    lower = error.lower()
    if "timeout" in lower or "timed out" in lower:
        return TIMED_OUT, error
    if "connect" in lower:
        return UNREACHABLE, error
    return FAILED, error or "an error that the file does not tell"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
