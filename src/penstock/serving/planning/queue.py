"""Penstock's own queue endpoints: ``/v1/queue/solve``, ``size`` and ``optimize``.

Unlike Inferno's endpoints, names have units, both generations of parameters are accepted, and an
unknown key is an error that names the nearest valid key. Without ``mode`` they answer as ``penstock
lab queue --json`` prints.
"""

from typing import Any

from penstock.fleet.request_queue import QueueAtRate, QueueUnderTargets
from penstock.fleet.schema import request_schema
from penstock.serving.planning.operation import Answer, Operation, object_schema
from penstock.serving.planning.queue_body import errors_called, mode_of, problem_of, read_question

EXAMPLE = {"mode": "inferno", "times": {"alpha_ms": 8, "beta_ms": 0.033, "gamma_ms": 0.000333},
           "input_tokens": 256, "output_tokens": 1024, "max_batch": 64, "max_queue": 128}


def solve(body: Any) -> Answer:
    """Solve one replica at a rate."""
    given = read_question(QueueAtRate, body)
    with errors_called("body: {}".format):
        return Answer(mode_of(given).solve(problem_of(given), given.rate_per_s))


def size(body: Any) -> Answer:
    """Return the highest rate at which the targets hold. An infeasible target is an answer, not an
    error."""
    given = read_question(QueueUnderTargets, body)
    with errors_called("body: {}".format):
        return Answer(mode_of(given).size(problem_of(given, given.targets)))


def optimize(body: Any) -> Answer:
    """Return the least batch limit up to ``max_batch`` near the best throughput within the
    targets."""
    given = read_question(QueueUnderTargets, body)
    with errors_called("body: {}".format):
        return Answer(mode_of(given).optimize(problem_of(given, given.targets)))


_MEANS = {"type": ["object", "null"],
          "description": "mode inferno: means at that rate, times in ms"}
_MS = {"type": ["number", "null"]}
OPERATIONS = (
    Operation("/v1/queue/solve", "One replica at a rate: throughput, waiting and latencies", solve,
              request_schema(QueueAtRate),
              object_schema({"ttft_ms": _MS, "itl_ms": _MS}), EXAMPLE | {"rate_per_s": 1.5}, {}),
    Operation("/v1/queue/size", "The highest rate at which targets hold", size,
              request_schema(QueueUnderTargets),
              object_schema({"feasible": {"type": "boolean"}, "rate_per_s": {"type": "number"},
                             "means": _MEANS}),
              EXAMPLE | {"targets": {"ttft_ms": 60, "itl_ms": 20}}, {}),
    Operation("/v1/queue/optimize", "The least batch limit near the best throughput", optimize,
              request_schema(QueueUnderTargets),
              object_schema({"feasible": {"type": "boolean"}, "max_batch": {"type": "integer"},
                             "means": _MEANS}),
              EXAMPLE | {"max_batch": 256, "targets": {"ttft_ms": 60, "itl_ms": 20}}, {}))
