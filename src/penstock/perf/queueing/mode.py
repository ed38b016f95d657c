"""Queue modes: models of one replica that users choose by name, and the problem that they take."""

from dataclasses import dataclass
from typing import Any, Protocol

from penstock.perf.queueing.parameters import POISSON, QueueSpec, Variability


@dataclass(frozen=True, slots=True)
class QueueProblem:
    """One replica as a user describes it, with the targets of a sizing; ``None`` is not given.

    A mode checks the numbers that it reads. Callers refuse those that only other modes read.
    """

    queue: QueueSpec
    ttft_ms: float | None = None
    itl_ms: float | None = None
    tokens_per_s: float | None = None
    percentile: float | None = None
    kv_tokens: float | None = None
    variability: Variability = POISSON


class QueueMode(Protocol):
    """A model of one replica. It answers with documents whose times are in ms.

    Each method raises InputError that begins with the field of ``QueueProblem`` at fault, or with
    ``rate``.
    """

    def solve(self, problem: QueueProblem, rate_per_s: float) -> dict[str, Any]:
        """Throughput, waiting and latencies at a rate."""

    def size(self, problem: QueueProblem) -> dict[str, Any]:
        """The highest rate at which the targets hold. ``feasible`` says whether there is one."""

    def optimize(self, problem: QueueProblem) -> dict[str, Any]:
        """The fewest requests in service, up to ``max_batch``, near the best rate under the
        targets."""
