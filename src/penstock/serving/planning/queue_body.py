"""Bodies of the queue endpoints: schema and values. Errors use the schema's names."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from penstock.core.errors import InputError, fields_called, kind_of, nearest, quote
from penstock.perf.queueing.mode import QueueMode, QueueProblem
from penstock.perf.queueing.parameters import (
    DEFAULT_STEP_TOKENS,
    MAX_BATCH,
    MAX_NUMBER,
    MAX_QUEUE,
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
    Variability,
)
from penstock.registry.sources import QUEUE_MODES, inputs_of_other_modes
from penstock.serving.planning.operation import number_schema, object_schema

PENSTOCK = "penstock"
TIMES = {"alpha_ms": number_schema("per iteration, or per decode step"),
         "beta_ms": number_schema("per computed token, or per request in the batch"),
         "gamma_ms": number_schema("per KV token touched, or per prefill"),
         "delta_ms": number_schema("per prompt token and request in the batch; stating it selects "
                                   "the first generation of parameters"),
         "max_step_tokens": {"type": "integer", "minimum": 1,
                             "description": f"token budget of a step; {DEFAULT_STEP_TOKENS}"}}
TARGETS = {"ttft_ms": number_schema("TTFT; without it, none"),
           "itl_ms": number_schema("ITL; without it, none"),
           "tokens_per_s": number_schema("of a whole replica"),
           "percentile": number_schema("mode penstock: what ttft_ms and itl_ms bind, such as 99; "
                                       "without it, means", exclusiveMaximum=100)}
QUEUE = {"mode": {"enum": list(QUEUE_MODES.names()), "default": PENSTOCK, "description":
                  "penstock (default): percentiles, KV memory, no losses; inferno: as published"},
         "times": object_schema(TIMES, ("alpha_ms", "beta_ms"), more=False),
         "input_tokens": number_schema("mean prompt"),
         "output_tokens": number_schema("mean answer", minimum=1),
         "max_batch": {"type": "integer", "minimum": 1, "maximum": MAX_BATCH,
                       "description": "most requests in service"},
         "max_queue": {"type": "integer", "minimum": 0, "maximum": MAX_QUEUE,
                       "description": "mode inferno: most requests waiting"},
         "kv_tokens": number_schema("mode penstock: room of the KV cache"),
         "arrivals_scv": number_schema("mode penstock: squared coefficient of variation of gaps "
                                       "between arrivals; 1"),
         "prompt_scv": number_schema("mode penstock: the same of prompts; 0"),
         "output_scv": number_schema("mode penstock: the same of answers; 0")}
REQUIRED = ("times", "input_tokens", "output_tokens", "max_batch")
_SCVS = ("arrivals_scv", "prompt_scv", "output_scv")


class QueueBody:
    """The body of a request. ``more`` are the operation's keys in addition to the queue's.

    Raises InputError for keys that are unknown, missing or only valid in another mode.
    """

    def __init__(self, body: Any, more: tuple[str, ...]) -> None:
        required = (*REQUIRED, *more)
        self._values = _object(body, "body", (*QUEUE, *more), required)
        mode = self._values.get("mode", PENSTOCK)
        if mode not in QUEUE_MODES.names():
            raise InputError(f"body: mode: found {quote(mode)}"
                             f"{nearest(str(mode)[:60], QUEUE_MODES.names())}")
        self._targets = _object(self._values.get("targets", {}), "targets", tuple(TARGETS))
        for values, where in ((self._values, "body"), (self._targets, "targets")):
            for name, other in inputs_of_other_modes(mode).items():
                if name in values:
                    raise InputError(f"{where}: {name}: only mode {other} has it; leave it out")
        self.mode: QueueMode = QUEUE_MODES.load(mode)

    def fields_called(self) -> AbstractContextManager[None]:
        """Return a context in which errors about fields name their place in the body."""
        return fields_called({
            "rate": "body: rate_per_s", "optimal concurrency": "times: delta_ms",
            **{name: f"body: {name}" for name in QUEUE if name != "times"},
            **{name: f"times: {name}" for name in TIMES},
            **{name: f"targets: {name}" for name in TARGETS}})

    @property
    def rate_per_s(self) -> float:
        return _number(self._values, "rate_per_s", "body")

    def problem(self) -> QueueProblem:
        """The queue with its targets, for the mode to answer."""
        given = {name: _number(self._values, name, "body") for name in ("kv_tokens", *_SCVS)
                 if name in self._values}
        kv_tokens = given.pop("kv_tokens", None)
        targets = {name: _number(self._targets, name, "targets") for name in self._targets}
        return QueueProblem(self._spec(), kv_tokens=kv_tokens, variability=Variability(**given),
                            **targets)

    def _spec(self) -> QueueSpec:
        values = self._values
        size = RequestSize(_number(values, "input_tokens", "body"),
                           _number(values, "output_tokens", "body"))
        return QueueSpec(_times(values["times"]), size,
                         _whole(values, "max_batch", "body", MAX_BATCH),
                         _whole(values, "max_queue", "body", MAX_QUEUE, 0))


def _times(value: Any) -> DecodePrefillTimes | IterationTimes:
    values = _object(value, "times", tuple(TIMES), ("alpha_ms", "beta_ms"))
    alpha, beta, gamma, delta = (_number(values, name, "times", 0.0) for name in (
        "alpha_ms", "beta_ms", "gamma_ms", "delta_ms"))
    if "delta_ms" not in values:
        budget = _whole(values, "max_step_tokens", "times", int(MAX_NUMBER), DEFAULT_STEP_TOKENS)
        return IterationTimes(alpha, beta, gamma, budget)
    if "max_step_tokens" in values:
        raise InputError("times: found max_step_tokens and delta_ms; expected one of them")
    return DecodePrefillTimes(alpha, beta, gamma, delta)


def _object(value: Any, where: str, names: tuple[str, ...],
            required: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: found {kind_of(value)}; expected an object with "
                         f"{', '.join(required or names)}")
    for name in value:
        if name not in names:
            raise InputError(f"{where}: unknown key {str(name)[:60]!r}"
                             f"{nearest(str(name)[:60], names)}")
    for name in required:
        if name not in value:
            raise InputError(f"{where}: {name!r} is missing")
    return value


def _number(values: Mapping[str, Any], name: str, where: str,
            default: float | None = None) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: {name}: found {quote(value)}; expected a number")
    if not math.isfinite(value) or value > MAX_NUMBER:
        raise InputError(f"{where}: {name}: found {value:g}; expected at most {MAX_NUMBER:g}")
    return float(value)


def _whole(values: Mapping[str, Any], name: str, where: str, most: int,
           default: int | None = None) -> int:
    value = _number(values, name, where, default)
    if abs(value) > most or value != int(value):
        raise InputError(f"{where}: {name}: found {value:g}; expected a whole number up to {most}")
    return int(value)
