"""Observations that a scaler gets of a fleet, and its decisions.

Observations hold only what a live system has: counters and gauges of engines as Prometheus scrapes
them, and arrivals at the gateway. A figure that is missing is None, never zero.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

State = Literal["waiting", "starting", "ready", "draining"]
"""A replica waits for accelerators, starts, serves, or ends its last requests. The accelerators of
all but waiting replicas are held."""

TTFT_BOUNDS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
                 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)
"""Upper bounds of the buckets of vLLM's ``time_to_first_token_seconds``."""

TPOT_BOUNDS_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
                 10.0, 20.0, 40.0, 80.0)
"""Upper bounds of the buckets of vLLM's ``inter_token_latency_seconds``."""

E2E_BOUNDS_S = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
                120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)
"""Upper bounds of the buckets of vLLM's ``e2e_request_latency_seconds``."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """Present load of one engine: running and waiting requests, and the used share of its KV
    cache."""

    num_running: int
    num_waiting: int
    kv_used_share: float


@dataclass(frozen=True, slots=True)
class SeenReplica:
    """A replica: its state since ``since_s``, and its gauges as seen at ``observed_s``, None where
    no engine has answered.

    ``inflight_tokens`` are the prompt tokens of the requests that the gateway has sent and whose
    first token has not come, None where the gateway does not tell.
    """

    replica_id: int
    state: State
    since_s: float
    gauges: Gauges | None = None
    observed_s: float | None = None
    inflight_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Counters of a group's engines since the start of the run. They never fall.

    ``ttft`` and ``tpot`` count by bucket, the last without an upper bound: ``ttft`` first tokens,
    ``tpot`` later tokens by the gap before each, ``e2e`` answers. ``ttft_sum_s`` and ``tpot_sum_s``
    are the sums of these durations, None where they are missing. ``cached_tokens`` of the prompt
    tokens were found in prefix caches.
    """

    num_finished: int
    prompt_tokens: int
    output_tokens: int
    ttft: tuple[int, ...]
    tpot: tuple[int, ...]
    ttft_sum_s: float | None = None
    tpot_sum_s: float | None = None
    cached_tokens: int = 0
    e2e: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenGroup:
    """Equal replicas that are scaled together. ``target`` is the number ordered last. ``totals`` is
    None where metrics are missing."""

    target: int
    replicas: tuple[SeenReplica, ...]
    totals: Totals | None = None

    def of(self, *states: State) -> tuple[SeenReplica, ...]:
        """Return the replicas in the given states."""
        return tuple(one for one in self.replicas if one.state in states)

    @property
    def num_waiting(self) -> int:
        """Number of requests that wait at the ready replicas whose gauges are known."""
        return sum(one.gauges.num_waiting for one in self.of("ready") if one.gauges is not None)

    @property
    def num_ready(self) -> int:
        """Number of replicas that take requests."""
        return len(self.of("ready"))

    @property
    def num_ordered(self) -> int:
        """Number of replicas that wait, start or serve."""
        return len(self.of("waiting", "starting", "ready"))


@dataclass(frozen=True, slots=True)
class SeenDemand:
    """Arrivals of one model and service class at the gateway since the start of the run, and their
    ends.

    ``num_met`` of the finished requests were in time, as far as a gateway can tell; ``num_lost``
    requests were refused or given up; ``num_held`` wait for a replica, with ``held_tokens`` of
    prompts. ``recent`` has the prompt and output tokens of the latest finished requests.
    ``num_deferred`` of the arrived requests were held back at the gateway and sent into spare
    capacity: they ask for no replica of their own. Requests that are held back have not arrived.
    ``prompt_squares`` is the sum of the squares of the prompts' tokens, which the work of attention
    follows; None where prompts are not seen one by one.
    """

    model: str
    service_class: str
    num_arrived: int
    prompt_tokens: int
    num_finished: int
    output_tokens: int
    num_held: int = 0
    num_met: int = 0
    num_lost: int = 0
    recent: tuple[tuple[int, int], ...] = ()
    held_tokens: int = 0
    num_deferred: int = 0
    prompt_squares: int | None = None

    @property
    def num_ended(self) -> int:
        """Number of requests that are no longer here: finished or lost."""
        return self.num_finished + self.num_lost


@dataclass(frozen=True, slots=True)
class Observation:
    """Groups in the order of ``ScalerContext.groups``, and the demand, both as at ``observed_s``.
    ``demand`` is None where the gateway's metrics are missing."""

    observed_s: float
    groups: tuple[SeenGroup, ...]
    demand: tuple[SeenDemand, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Alternative:
    """Numbers of replicas that a policy set aside, and the share of requests in time that the
    policy predicts for them."""

    targets: tuple[int, ...]
    attainment: float | None = None


@dataclass(frozen=True, slots=True)
class LearnedTimes:
    """Step-time parameters of one group's replicas, learned while they serve.

    ``parameters`` have the value and the ends of the interval of 95 % in ms by name; those in
    ``unidentified`` are open by more than a factor of 2. ``speed`` is the rate of a replica over
    the believed rate. ``num_points`` observations are in use, after ``num_drifts`` changes of the
    engines.
    """

    group: int
    parameters: Mapping[str, tuple[float, float, float]]
    unidentified: tuple[str, ...]
    speed: float
    num_points: int
    num_drifts: int


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """Wanted number of replicas by group, in order.

    ``reason`` is the cause in words. ``terms`` are the figures that decided. ``attainment`` is the
    predicted share of requests in time, where the policy predicts one. ``next_best`` is the best
    of the numbers that were set aside, where the policy names it. ``learned`` are the step times
    that were calibrated, where the fleet calibrates.
    """

    targets: tuple[int, ...]
    reason: str
    terms: Mapping[str, float] = field(default_factory=dict)
    attainment: float | None = None
    next_best: Alternative | None = None
    learned: tuple[LearnedTimes, ...] = ()


def bucket(bounds_s: tuple[float, ...], seconds: float) -> int:
    """Return the bucket of a duration: the first whose upper bound it does not exceed."""
    return bisect_left(bounds_s, seconds)


def histogram_quantile(q: float, bounds_s: tuple[float, ...], counts: tuple[int, ...]
                       ) -> float | None:
    """Return a quantile of bucketed durations as PromQL's ``histogram_quantile`` does, in seconds.

    The quantile is interpolated within its bucket. In the bucket without an upper bound, it is the
    last bound. Returns None without counts.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = q * total, 0
    for (low, high), count in zip(pairwise((0.0, *bounds_s)), counts, strict=False):
        if count and below + count >= rank:
            return low + (high - low) * (rank - below) / count
        below += count
    return bounds_s[-1]
