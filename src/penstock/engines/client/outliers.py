"""Outlier detection: an engine that does much worse than its peers is ejected for a while.

Peers serve the same model, so a lasting difference is due to the engine. A circuit breaker detects
consecutive failures; outlier detection finds an engine that fails every third request, or answers
ten times as late.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HALF_LIFE_S = 20.0
LEAST_SEEN = 5.0
"""Requests, weighted by age, that must have ended before an engine is judged."""

MORE_FAILURES = 0.3
"""An engine is an outlier if its share of failures exceeds its peers' median by this much."""

MORE_LATENCY, LEAST_EXTRA_S = 3.0, 0.5
"""An engine is also an outlier if its time to the first byte is this many times its peers' median,
and this many seconds more."""

FIRST_EJECTION_S, MOST_EJECTION_S = 15.0, 300.0


@dataclass(slots=True)
class Outcomes:
    """Outcomes of requests on one engine. Older ones count less.

    ``num`` requests ended, ``num_failed`` of them with a failure. ``latency_s`` is the sum of the
    times to the first byte over the ``num_timed`` successful ones.
    """

    num: float = 0.0
    num_failed: float = 0.0
    num_timed: float = 0.0
    latency_s: float = 0.0
    at_s: float = 0.0

    def add(self, now_s: float, *, failed: bool, latency_s: float | None = None) -> None:
        """Count a request that ended."""
        self._age(now_s)
        self.num += 1.0
        self.num_failed += failed
        if latency_s is not None and not failed:
            self.num_timed += 1.0
            self.latency_s += latency_s

    def failed_share(self) -> float:
        """Share of requests that failed."""
        return self.num_failed / self.num if self.num else 0.0

    def mean_latency_s(self) -> float | None:
        """Return the mean time to the first byte, None with too few requests."""
        return self.latency_s / self.num_timed if self.num_timed >= LEAST_SEEN else None

    def aged(self, now_s: float) -> "Outcomes":
        """Return the counts, aged to this moment."""
        self._age(now_s)
        return self

    def _age(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self.at_s)
        self.at_s = max(self.at_s, now_s)
        if passed_s:
            left = math.exp2(-passed_s / HALF_LIFE_S)
            self.num *= left
            self.num_failed *= left
            self.num_timed *= left
            self.latency_s *= left


def outliers(peers: Sequence[Outcomes], num_ejected: int) -> dict[int, str]:
    """Return the positions of peers to eject, with the reasons, the worst first. At most half of
    all peers are ejected, including the ``num_ejected`` that already are.

    ``peers`` are the engines that may get requests. Of two peers, latency cannot tell the
    outlier; failures can, where only one of them fails.
    """
    room = (len(peers) + num_ejected) // 2 - num_ejected
    if room <= 0 or len(peers) < 2:
        return {}
    found: list[tuple[float, int, str]] = []
    for i, one in enumerate(peers):
        others = [other for j, other in enumerate(peers) if j != i]
        verdict = _by_failures(one, others) or _by_latency(one, others)
        if verdict is not None:
            found.append((verdict[0], i, verdict[1]))
    found.sort(key=lambda one: (-one[0], one[1]))
    return {i: reason for _, i, reason in found[:room]}


def ejection_s(num_times: int) -> float:
    """Return the duration of the next ejection after this many earlier ones."""
    return min(FIRST_EJECTION_S * 2.0 ** min(num_times, 10), MOST_EJECTION_S)


def _by_failures(outcomes: Outcomes, others: Sequence[Outcomes]) -> tuple[float, str] | None:
    share = outcomes.failed_share()
    usual = median(other.failed_share() for other in others)
    if outcomes.num < LEAST_SEEN or share < usual + MORE_FAILURES:
        return None
    return 1.0 + share, f"fails {share:.0%} of its requests, its peers {usual:.0%}"


def _by_latency(outcomes: Outcomes, others: Sequence[Outcomes]) -> tuple[float, str] | None:
    mean_s = outcomes.mean_latency_s()
    known = [one for other in others if (one := other.mean_latency_s()) is not None]
    if mean_s is None or len(known) < 2:
        return None
    usual_s = median(known)
    if mean_s < max(MORE_LATENCY * usual_s, usual_s + LEAST_EXTRA_S):
        return None
    return (1.0 - usual_s / mean_s,
            f"takes {mean_s:.2f} s to its first byte, its peers {usual_s:.2f} s")
