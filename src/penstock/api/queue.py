"""Penstock's own queue endpoints: ``/v1/queue/solve``, ``size`` and ``optimize``.

Unlike the endpoints that follow Inferno, names carry units, both generations of parameters are
taken, and an unknown key is an error that names the nearest valid one.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from penstock.api.operation import Answer, Operation, number_schema, object_schema
from penstock.core.errors import InputError, nearest
from penstock.perf.queueing.concurrency import optimal_concurrency
from penstock.perf.queueing.inferno import analyze
from penstock.perf.queueing.inferno_sizing import size_one
from penstock.perf.queueing.parameters import (
    DEFAULT_STEP_TOKENS,
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
    Targets,
)

MODES = ("inferno",)
# A replica's states are held in memory, all at once.
MAX_WHOLE = 500_000
TIMES = {"alpha_ms": number_schema("per iteration, or per decode step"),
         "beta_ms": number_schema("per computed token, or per request in the batch"),
         "gamma_ms": number_schema("per KV token touched, or per prefill"),
         "delta_ms": number_schema("per prompt token and request in the batch; stating it selects "
                                   "the first generation of parameters"),
         "max_step_tokens": {"type": "integer", "minimum": 1}}
TARGETS = {"ttft_ms": number_schema("mean"), "itl_ms": number_schema("mean"),
           "tokens_per_s": number_schema("of a whole replica")}
QUEUE = {"mode": {"enum": list(MODES), "description": "how to compute; inferno: as published"},
         "times": object_schema(TIMES, ("alpha_ms", "beta_ms"), more=False),
         "input_tokens": number_schema("mean prompt"),
         "output_tokens": number_schema("mean answer", minimum=1),
         "max_batch": {"type": "integer", "minimum": 1},
         "max_queue": {"type": "integer", "minimum": 0}}
REQUIRED = ("mode", "times", "input_tokens", "output_tokens", "max_batch")
EXAMPLE = {"mode": "inferno", "times": {"alpha_ms": 8, "beta_ms": 0.033, "gamma_ms": 0.000333},
           "input_tokens": 256, "output_tokens": 1024, "max_batch": 64, "max_queue": 128}


def solve(body: Any) -> Answer:
    """Means of one replica at a rate."""
    values = _object(body, "body", (*QUEUE, "rate_per_s"), (*REQUIRED, "rate_per_s"))
    return Answer(asdict(analyze(_queue(values), _number(values, "rate_per_s", "body"))))


def size(body: Any) -> Answer:
    """The highest rate at which the targets hold; not feasible is an answer, not an error."""
    values = _object(body, "body", (*QUEUE, "targets"), (*REQUIRED, "targets"))
    sizing = size_one(_queue(values), _targets(values))
    return Answer({"feasible": sizing.feasible, "reason": sizing.error,
                   "rate_per_s": sizing.rate_per_s, "rate_ttft_per_s": sizing.rate_ttft_per_s,
                   "rate_itl_per_s": sizing.rate_itl_per_s,
                   "rate_tokens_per_s": sizing.rate_tps_per_s,
                   "max_rate_per_s": sizing.max_rate_per_s, "tokens_per_s": sizing.tokens_per_s,
                   "means": asdict(sizing.metrics) if sizing.metrics else None})


def optimize(body: Any) -> Answer:
    """The least batch limit up to ``max_batch`` near the best throughput within the targets."""
    values = _object(body, "body", (*QUEUE, "targets"), (*REQUIRED, "targets"))
    queue = _queue(values)
    onset = optimal_concurrency(queue, _targets(values), queue.max_batch)
    return Answer({"feasible": onset.feasible, "max_batch": onset.max_batch,
                   "throughput_per_s": onset.throughput_per_s, "itl_batch": onset.itl_batch,
                   "prefill_batch": onset.prefill_batch, "calls": onset.calls,
                   "probes": list(onset.probes),
                   "means": asdict(onset.metrics) if onset.metrics else None})


def _queue(values: Mapping[str, Any]) -> QueueSpec:
    if values["mode"] not in MODES:
        raise InputError(f"body: mode: found {values['mode']!r}"
                         f"{nearest(str(values['mode']), MODES)}")
    form = _times(_object(values["times"], "times", tuple(TIMES), ("alpha_ms", "beta_ms")))
    return QueueSpec(form, RequestSize(_number(values, "input_tokens", "body"),
                                       _number(values, "output_tokens", "body")),
                     _whole(_number(values, "max_batch", "body"), "max_batch"),
                     _whole(_number(values, "max_queue", "body", 0.0), "max_queue"))


def _times(values: Mapping[str, Any]) -> DecodePrefillTimes | IterationTimes:
    alpha, beta, gamma, delta = (_number(values, name, "times", 0.0) for name in (
        "alpha_ms", "beta_ms", "gamma_ms", "delta_ms"))
    if "delta_ms" not in values:
        budget = _number(values, "max_step_tokens", "times", DEFAULT_STEP_TOKENS)
        return IterationTimes(alpha, beta, gamma, _whole(budget, "max_step_tokens"))
    if "max_step_tokens" in values:
        raise InputError("times: max_step_tokens beside delta_ms; expected one of them")
    return DecodePrefillTimes(alpha, beta, gamma, delta)


def _targets(values: Mapping[str, Any]) -> Targets:
    targets = _object(values["targets"], "targets", tuple(TARGETS))
    return Targets(**{name: _number(targets, name, "targets") for name in targets})


def _object(value: Any, where: str, names: tuple[str, ...],
            required: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: found {type(value).__name__}; expected an object with "
                         f"{', '.join(required or names)}")
    for name in value:
        if name not in names:
            raise InputError(f"{where}: unknown key {name!r}{nearest(str(name), names)}")
    for name in required:
        if name not in value:
            raise InputError(f"{where}: {name!r} is missing")
    return value


def _number(values: Mapping[str, Any], name: str, where: str,
            default: float | None = None) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: {name}: found {value!r}; expected a number")
    return float(value)


def _whole(value: float, name: str) -> int:
    if value != value or abs(value) > MAX_WHOLE or value != int(value):
        raise InputError(f"{name}: found {value:g}; expected a whole number up to {MAX_WHOLE}")
    return int(value)


_MEANS = {"type": ["object", "null"], "description": "means at that rate, times in ms"}
OPERATIONS = (
    Operation("/v1/queue/solve", "Means of one replica at a rate", solve,
              object_schema(QUEUE | {"rate_per_s": number_schema("arrivals")},
                            (*REQUIRED, "rate_per_s"), more=False),
              object_schema({"ttft_ms": {"type": "number"}, "itl_ms": {"type": "number"}}),
              EXAMPLE | {"rate_per_s": 1.5}, {}),
    Operation("/v1/queue/size", "The highest rate at which mean targets hold", size,
              object_schema(QUEUE | {"targets": object_schema(TARGETS, more=False)},
                            (*REQUIRED, "targets"), more=False),
              object_schema({"feasible": {"type": "boolean"}, "rate_per_s": {"type": "number"},
                             "means": _MEANS}),
              EXAMPLE | {"targets": {"ttft_ms": 60, "itl_ms": 20}}, {}),
    Operation("/v1/queue/optimize", "The least batch limit near the best throughput", optimize,
              object_schema(QUEUE | {"targets": object_schema(TARGETS, more=False)},
                            (*REQUIRED, "targets"), more=False),
              object_schema({"feasible": {"type": "boolean"}, "max_batch": {"type": "integer"},
                             "means": _MEANS}),
              EXAMPLE | {"max_batch": 256, "targets": {"ttft_ms": 60, "itl_ms": 20}}, {}))
