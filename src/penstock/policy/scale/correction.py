"""Correction of the believed rate of a replica by what saturated replicas finish."""

from math import exp, log, sqrt
from typing import NamedTuple

from penstock.policy.scale.history import History

SETTLE_S = 30.0
"""Least time for which replicas must have been saturated before their finished requests count."""

RESIDENCES = 2.0
"""The same time in mean durations of an answer: answers that end sooner began at a lower load."""

WINDOW_S = 20.0
"""Time over which finished requests are counted."""

LONG_WINDOW_S = 120.0
"""Time over which finished requests are counted that show a higher rate than believed. The lengths
of the requests of a shorter time differ from the mean by chance."""

_KEEP_S = 600.0
_DOWN_S, _UP_S = 30.0, 600.0
"""Time constants with which a lower and a higher observation replace the correction. Too low a rate
costs replicas; too high a rate costs objectives."""

MEMORY_S = 24 * 3600.0
"""Time constant with which the belief comes back, where replicas are not saturated again."""

OTHER_WORK = 0.7
"""Difference of the logarithms of the mean works of requests at which a correction has lost most of
its weight: replicas that were slow with long prompts are not known to be slow with short ones."""

_SIGMAS = 3.0
_LEAST, _MOST = 0.5, 10.0
"""Bounds of the correction. A few requests of much longer prompts than those that ended before look
like slow replicas; a belief that is more than twice too high shows in the requests that miss."""

_FEWEST = 20  # finished requests below which chance decides


class Served(NamedTuple):
    """Counters and gauges of all replicas of a model: requests that ended since the start of the
    run, the work that was done since then, ready replicas, their running and waiting requests,
    their believed rate together, in the unit of ``done``, and the mean work of a request."""

    num_finished: int
    done: float
    num_ready: int
    num_running: int
    num_waiting: int
    believed_per_s: float
    work: float = 1.0


class _Window(NamedTuple):
    num_ended: int
    rate_per_s: float
    ratio: float  # work done over work believed


class RateCorrection:
    """Learns the ratio of the observed over the believed rate at which a queue would grow.

    Replicas are saturated while requests wait for ``wait_s`` or longer, by Little's law. Then they
    finish as many requests as they can, so their rate is the observation. Replicas that finish more
    than believed without such a queue give a lower bound, less what chance may add.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._learned = 1.0  # the factor at the work at which it was learned
        self._learned_work = 1.0
        self._work = 1.0
        self._seen = History[Served](_KEEP_S)
        self._saturated_s: float | None = None  # since when, with the same replicas
        self._learned_s = 0.0

    @property
    def factor(self) -> float:
        """Ratio of the observed over the believed rate, for requests of the present work."""
        return float(self._learned ** exp(-abs(log(self._work / self._learned_work)) / OTHER_WORK))

    def add(self, now_s: float, load: Served, *, steady: bool = True) -> float:
        """Add what is seen now, and learn from it. Return the weight of an observation by which
        saturated replicas finish less than was learned, 0 without one.

        Replicas whose requests are not ``steady`` are not taken to be saturated: their work is not
        known yet.
        """
        before = self._seen.at(now_s)
        self._seen.add(now_s, load)
        elapsed_s, self._learned_s = now_s - self._learned_s, now_s
        self._learned **= exp(-elapsed_s / MEMORY_S)
        self._work = load.work
        if before is None or before[1].num_ready != load.num_ready or not steady:
            self._saturated_s = None
            return 0.0
        short, long = self._ratio(now_s, WINDOW_S), self._ratio(now_s, LONG_WINDOW_S)
        if short is not None:
            self._follow_queue(now_s, load, short)
            if self._is_settled(now_s, load, short) and short.ratio < self.factor:
                return self._follow(short.ratio, elapsed_s, _DOWN_S)
        if long is not None:
            least = long.ratio * (1.0 - _SIGMAS / sqrt(long.num_ended))
            if least > self.factor:
                self._follow(least, elapsed_s, _UP_S)
        return 0.0

    def explained(self, ratio: float) -> None:
        """Take back what a change of the believed rates by ``ratio`` explains of the correction."""
        if (ratio - 1.0) * (self._learned - 1.0) <= 0.0:
            return
        nearer = self._learned / ratio
        self._learned = min(nearer, 1.0) if self._learned < 1.0 else max(nearer, 1.0)

    def _ratio(self, now_s: float, window_s: float) -> _Window | None:
        """Return the requests that the same replicas finished in a window; None where they were
        not the same, or too few requests ended."""
        then = self._seen.at(now_s - window_s)
        last = self._seen.at(now_s)
        assert last is not None, "a value was added"
        if then is None or now_s - then[0] < window_s - 1e-9:
            return None
        window = [then[1], *self._seen.since(then[0])]
        num_ended = last[1].num_finished - then[1].num_finished
        believed_per_s = sum(one.believed_per_s for one in window[1:]) / (len(window) - 1)
        if num_ended < _FEWEST or believed_per_s <= 0.0 or any(
                one.num_ready != last[1].num_ready for one in window):
            return None
        elapsed_s = now_s - then[0]
        done_per_s = (last[1].done - then[1].done) / elapsed_s
        return _Window(num_ended, num_ended / elapsed_s, done_per_s / believed_per_s)

    def _follow_queue(self, now_s: float, load: Served, window: _Window) -> None:
        if load.num_waiting < self._wait_s * window.rate_per_s:
            self._saturated_s = None
        elif self._saturated_s is None:
            self._saturated_s = now_s

    def _is_settled(self, now_s: float, load: Served, window: _Window) -> bool:
        """Whether the replicas were saturated when the answers of the window began."""
        settle_s = max(SETTLE_S, RESIDENCES * load.num_running / window.rate_per_s)
        return self._saturated_s is not None and now_s - self._saturated_s >= settle_s

    def _follow(self, ratio: float, elapsed_s: float, time_s: float) -> float:
        """Move towards ``ratio``, and return the weight of this step."""
        weight = 1.0 - exp(-elapsed_s / time_s)
        factor = self.factor * exp(weight * log(ratio / self.factor))
        self._learned, self._learned_work = min(max(factor, _LEAST), _MOST), self._work
        return weight
