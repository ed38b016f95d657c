"""Correction of the believed rate of a replica by what saturated replicas finish."""

from math import exp, log
from typing import NamedTuple

from penstock.policy.scale.history import History

SETTLE_S = 30.0
"""Least time for which replicas must have been saturated before their finished requests count."""

RESIDENCES = 2.0
"""The same time in mean durations of an answer: answers that end sooner began at a lower load."""

WINDOW_S = 20.0
"""Time over which finished requests are counted."""

_KEEP_S = 600.0
_TIME_S = 30.0  # time constant with which an observation replaces the correction
_LEAST, _MOST = 0.1, 10.0
_FEWEST = 20  # finished requests below which chance decides


class Served(NamedTuple):
    """Counters and gauges of all replicas of a model: requests that ended since the start of the
    run, ready replicas, their running and waiting requests, and their believed rate together."""

    num_finished: int
    num_ready: int
    num_running: int
    num_waiting: int
    believed_per_s: float


class RateCorrection:
    """Learns the ratio of the observed over the believed rate at which a queue would grow.

    Replicas are saturated while requests wait for ``wait_s`` or longer, by Little's law. Then they
    finish as many requests as they can, so their rate is the observation. Replicas that finish more
    than believed without such a queue give a lower bound.
    """

    def __init__(self, wait_s: float) -> None:
        self.factor = 1.0
        self._wait_s = wait_s
        self._seen = History[Served](_KEEP_S)
        self._saturated_s: float | None = None  # since when, with the same replicas
        self._learned_s = 0.0

    def add(self, now_s: float, load: Served) -> None:
        """Add what is seen now, and learn from it."""
        before = self._seen.at(now_s)
        self._seen.add(now_s, load)
        then = self._seen.at(now_s - WINDOW_S)
        elapsed_s, self._learned_s = now_s - self._learned_s, now_s
        if then is None or before is None or before[1].num_ready != load.num_ready:
            self._saturated_s = None
            return
        window = self._seen.since(then[0])
        num_ended = load.num_finished - then[1].num_finished
        span_s = now_s - then[0]
        if span_s < WINDOW_S - 1e-9 or num_ended < _FEWEST or load.believed_per_s <= 0.0 or any(
                one.num_ready != load.num_ready for one in (then[1], *window)):
            return
        rate_per_s = num_ended / span_s
        if load.num_waiting < self._wait_s * rate_per_s:
            self._saturated_s = None
        elif self._saturated_s is None:
            self._saturated_s = now_s
        settle_s = max(SETTLE_S, RESIDENCES * load.num_running / rate_per_s)
        saturated = self._saturated_s is not None and now_s - self._saturated_s >= settle_s
        ratio = rate_per_s * len(window) / sum(one.believed_per_s for one in window)
        if saturated or ratio > self.factor:
            self._follow(ratio, elapsed_s)

    def _follow(self, ratio: float, elapsed_s: float) -> None:
        weight = 1.0 - exp(-elapsed_s / _TIME_S)
        factor = self.factor * exp(weight * log(ratio / self.factor))
        self.factor = min(max(factor, _LEAST), _MOST)
