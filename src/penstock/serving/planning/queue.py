"""Penstock's own queue endpoints: ``/v1/queue/solve``, ``size`` and ``optimize``.

Unlike Inferno's endpoints, names have units, both generations of parameters are accepted, and an
unknown key is an error that names the nearest valid key. Without ``mode`` they answer as ``penstock
lab queue --json`` prints.
"""

from typing import Any

from penstock.serving.planning.operation import Answer, Operation, number_schema, object_schema
from penstock.serving.planning.queue_body import QUEUE, REQUIRED, TARGETS, QueueBody

EXAMPLE = {"mode": "inferno", "times": {"alpha_ms": 8, "beta_ms": 0.033, "gamma_ms": 0.000333},
           "input_tokens": 256, "output_tokens": 1024, "max_batch": 64, "max_queue": 128}


def solve(body: Any) -> Answer:
    """Solve one replica at a rate."""
    given = QueueBody(body, ("rate_per_s",))
    with given.fields_called():
        return Answer(given.mode.solve(given.problem(), given.rate_per_s))


def size(body: Any) -> Answer:
    """Return the highest rate at which the targets hold. An infeasible target is an answer, not an
    error."""
    given = QueueBody(body, ("targets",))
    with given.fields_called():
        return Answer(given.mode.size(given.problem()))


def optimize(body: Any) -> Answer:
    """Return the least batch limit up to ``max_batch`` near the best throughput within the
    targets."""
    given = QueueBody(body, ("targets",))
    with given.fields_called():
        return Answer(given.mode.optimize(given.problem()))


_MEANS = {"type": ["object", "null"],
          "description": "mode inferno: means at that rate, times in ms"}
_MS = {"type": ["number", "null"]}
OPERATIONS = (
    Operation("/v1/queue/solve", "One replica at a rate: throughput, waiting and latencies", solve,
              object_schema(QUEUE | {"rate_per_s": number_schema("arrivals")},
                            (*REQUIRED, "rate_per_s"), more=False),
              object_schema({"ttft_ms": _MS, "itl_ms": _MS}), EXAMPLE | {"rate_per_s": 1.5}, {}),
    Operation("/v1/queue/size", "The highest rate at which targets hold", size,
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
