"""Endpoints as Inferno's programs have them: ``/optimizeOne``, ``/solve``, ``/target``,
``/optimize``.

Names, units and status codes are those of llm-inferno/optimizer-light and queue-analysis; keys
match in any case and unknown ones are ignored.
"""

from dataclasses import replace
from typing import Any

from penstock.core.errors import InputError, fields_called
from penstock.fleet.request_queue import QueueAtRate, QueueTargets, StepTimes
from penstock.fleet.schema import query_schemas
from penstock.perf.queueing.parameters import (
    MAX_BATCH,
    MAX_QUEUE,
    IterationTimes,
    QueueSpec,
    RequestSize,
)
from penstock.published.inferno.export import shortest, solution
from penstock.published.inferno.fields import Fields
from penstock.published.inferno.queueing.analysis import MeanMetrics, analyze
from penstock.published.inferno.queueing.concurrency import optimal_concurrency
from penstock.published.inferno.queueing.sizing import size_one
from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.solve import settings_of, solve
from penstock.published.inferno.values import Targets
from penstock.serving.planning.operation import (
    Answer,
    Operation,
    failure,
    object_schema,
)

# As upstream gives its integer program.
TIME_LIMIT_S = 60.0

# A field here -> the field of ours with the same meaning and range.
_OURS = {"RPS": "rate_per_s", "maxBatchSize": "max_batch", "maxQueueSize": "max_queue",
         "avgInputTokens": "input_tokens", "avgOutputTokens": "output_tokens",
         "alpha": "alpha_ms", "beta": "beta_ms", "gamma": "gamma_ms", "targetTTFT": "ttft_ms",
         "targetITL": "itl_ms"}
_SCHEMAS = query_schemas(QueueAtRate) | query_schemas(StepTimes) | query_schemas(QueueTargets)
PROBLEM = {name: {key: value for key, value in _SCHEMAS[ours].items() if key != "title"}
           for name, ours in _OURS.items()}
EXAMPLE = {"RPS": 1.5, "maxBatchSize": 64, "maxQueueSize": 128, "avgInputTokens": 256,
           "avgOutputTokens": 1024, "alpha": 8, "beta": 0.033, "gamma": 0.000333,
           "targetTTFT": 60, "targetITL": 20}
# How errors of the queue model call a field -> how these endpoints do.
_CALLED = {"rate": "body: RPS", "largest batch": "body: maxBatchSize",
           **{ours: f"body: {name}" for name, ours in _OURS.items()}}
MEANS = {"offeredRPS": "offered_per_s", "throughput": "throughput_per_s",
         "avgRespTime": "response_ms", "avgWaitTime": "wait_ms", "avgNumInServ": "in_service",
         "avgTTFT": "ttft_ms", "avgITL": "itl_ms", "maxRPS": "max_rate_per_s"}
BUNDLE_EXAMPLE = {"system": {
    "acceleratorData": {"accelerators": [
        {"name": "A100", "type": "A100", "multiplicity": 1, "cost": 40.0}]},
    "capacityData": {"count": [{"type": "A100", "count": 8}]},
    "modelData": {"models": [
        {"name": "granite_13b", "acc": "A100", "accCount": 1, "maxBatchSize": 64, "atTokens": 512,
         "perfParms": {"alpha": 20.58, "beta": 0.041, "gamma": 0.00128}}]},
    "serviceClassData": {"serviceClasses": [
        {"name": "Premium", "priority": 1, "modelTargets": [
            {"model": "granite_13b", "slo-itl": 40, "slo-ttft": 1000}]}]},
    "serverData": {"servers": [
        {"name": "chat", "class": "Premium", "model": "granite_13b", "currentAlloc": {
            "load": {"arrivalRate": 60, "avgInTokens": 128, "avgOutTokens": 1024}}}]},
    "optimizerData": {"optimizer": {"saturationPolicy": "RoundRobin"}}}}


def optimize_one(body: Any) -> Answer:
    """Allocations of a whole bundle. Schema v2 answers 404 when a server would have none."""
    system = parse_bundle(body, "body")
    plan = solve(system, replace(settings_of(system.options), time_limit_s=TIME_LIMIT_S))
    if plan.upstream_error is not None:
        return failure(404, plan.upstream_error)
    if plan.status == "infeasible" or (plan.status == "time_limit" and not plan.parts):
        return failure(404, next(iter(plan.unserved.values()), "no plan was found"))
    return Answer(solution(plan))


def solve_queue(body: Any) -> Answer:
    """Means of one replica at a given rate."""
    fields = Fields(body, "body")
    with fields_called(_CALLED):
        return Answer(_dependencies(analyze(_queue(fields), fields.number("RPS"))))


def target_queue(body: Any) -> Answer:
    """The highest rate at which both targets hold, and the means there."""
    fields = Fields(body, "body")
    with fields_called(_CALLED):
        sizing = size_one(_queue(fields), _targets(fields))
    if sizing.metrics is None:
        raise InputError(sizing.error or "no rate meets the targets")
    return Answer(_dependencies(sizing.metrics) | {
        "RPSTargetTTFT": shortest(sizing.rate_ttft_per_s),
        "RPSTargetITL": shortest(sizing.rate_itl_per_s)})


def optimize_queue(body: Any) -> Answer:
    """The least batch limit that nearly reaches the best throughput within the targets."""
    fields = Fields(body, "body")
    with fields_called(_CALLED):
        queue = _queue(fields)
        onset = optimal_concurrency(queue, _targets(fields), queue.max_batch)
    dependencies = _dependencies(onset.metrics) if onset.metrics else dict.fromkeys(MEANS, 0.0)
    del dependencies["offeredRPS"]
    return Answer({"concurrency": onset.max_batch} | dependencies | {
        "throughput": shortest(onset.throughput_per_s), "M_ITL": onset.itl_batch,
        "M_TPF": onset.prefill_batch, "oracleCalls": onset.calls, "feasible": onset.feasible})


def _queue(fields: Fields) -> QueueSpec:
    times = IterationTimes(fields.number("alpha"), fields.number("beta"), fields.number("gamma"))
    size = RequestSize(fields.number("avgInputTokens"), fields.number("avgOutputTokens"))
    return QueueSpec(times, size, fields.count("maxBatchSize", most=MAX_BATCH),
                     fields.count("maxQueueSize", most=MAX_QUEUE))


def _targets(fields: Fields) -> Targets:
    return Targets(fields.number("targetTTFT") or None, fields.number("targetITL") or None)


def _dependencies(metrics: MeanMetrics) -> dict[str, Any]:
    return {name: shortest(getattr(metrics, field)) for name, field in MEANS.items()}


_NUMBERS = {name: {"type": "number"} for name in MEANS}
_QUEUE_ANSWER = object_schema(_NUMBERS)
_ONSET_ANSWER = object_schema(
    {name: schema for name, schema in _NUMBERS.items() if name != "offeredRPS"}
    | {name: {"type": "integer"} for name in ("concurrency", "M_ITL", "M_TPF", "oracleCalls")}
    | {"feasible": {"type": "boolean"}})
_NOT_SERVED = {404: "schema v2, a server would be left without an allocation; or no integer "
                    "program's solution"}
OPERATIONS = (
    Operation("/optimizeOne", "Allocations of a whole Inferno bundle, by its own options",
              optimize_one, object_schema({"system": {"type": "object"}}, ("system",)),
              object_schema({"allocations": {"type": "object"}}), BUNDLE_EXAMPLE, _NOT_SERVED),
    Operation("/solve", "Means of one replica at a rate, as queue-analysis computes them",
              solve_queue, object_schema(PROBLEM), _QUEUE_ANSWER, EXAMPLE, {}),
    Operation("/target", "The highest rate at which both targets hold, as queue-analysis sizes",
              target_queue, object_schema(PROBLEM), _QUEUE_ANSWER, EXAMPLE, {}),
    Operation("/optimize", "The least batch limit near the best throughput, by its onset search",
              optimize_queue, object_schema(PROBLEM), _ONSET_ANSWER, EXAMPLE, {}))
