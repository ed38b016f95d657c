"""Detection of engines that do so much worse than their peers that they get no requests for a
while.

Peers serve the same model, so what differs for long is the engine. A breaker sees failures in a
row; this sees an engine that fails every third request, or answers them all, but ten times as late.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HALF_LIFE_S = 20.0
LEAST_SEEN = 5.0
"""So many requests, weighed by age, must have ended before an engine is judged."""

MORE_FAILURES = 0.3
"""An engine is an outlier whose share of failures is this much above its peers' median."""

MORE_LATENCY, LEAST_EXTRA_S = 3.0, 0.5
"""Or whose first bytes take this many times its peers' median, and this many seconds more."""

FIRST_EJECTION_S, MOST_EJECTION_S = 15.0, 300.0


@dataclass(slots=True)
class Track:
    """How requests on one engine went, the older the less it counts.

    ``num`` requests ended, ``num_failed`` of them badly; ``latency_s`` adds up the times to the
    first byte of the ``num_timed`` that went well.
    """

    num: float = 0.0
    num_failed: float = 0.0
    num_timed: float = 0.0
    latency_s: float = 0.0
    at_s: float = 0.0

    def add(self, now_s: float, *, failed: bool, latency_s: float | None = None) -> None:
        """A request ended."""
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
        """Mean time to the first byte; None where too few were seen."""
        return self.latency_s / self.num_timed if self.num_timed >= LEAST_SEEN else None

    def aged(self, now_s: float) -> "Track":
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


def outliers(tracks: Sequence[Track], num_ejected: int) -> dict[int, str]:
    """Positions of peers to eject, with the reason; the worst first, and never so many that more
    than half of all peers would be ejected, ``num_ejected`` of which are already.

    ``tracks`` are of peers that may get requests. Two peers cannot tell who is odd by latency, but
    one of two that fails while the other does not can be told.
    """
    room = (len(tracks) + num_ejected) // 2 - num_ejected
    if room <= 0 or len(tracks) < 2:
        return {}
    found: list[tuple[float, int, str]] = []
    for i, track in enumerate(tracks):
        others = [other for j, other in enumerate(tracks) if j != i]
        verdict = _by_failures(track, others) or _by_latency(track, others)
        if verdict is not None:
            found.append((verdict[0], i, verdict[1]))
    found.sort(key=lambda one: (-one[0], one[1]))
    return {i: reason for _, i, reason in found[:room]}


def ejection_s(num_times: int) -> float:
    """How long the next ejection lasts after so many before it."""
    return min(FIRST_EJECTION_S * 2.0 ** min(num_times, 10), MOST_EJECTION_S)


def _by_failures(track: Track, others: Sequence[Track]) -> tuple[float, str] | None:
    share = track.failed_share()
    usual = median(other.failed_share() for other in others)
    if track.num < LEAST_SEEN or share < usual + MORE_FAILURES:
        return None
    return 1.0 + share, f"fails {share:.0%} of its requests, its peers {usual:.0%}"


def _by_latency(track: Track, others: Sequence[Track]) -> tuple[float, str] | None:
    mean_s = track.mean_latency_s()
    known = [one for other in others if (one := other.mean_latency_s()) is not None]
    if mean_s is None or len(known) < 2:
        return None
    usual_s = median(known)
    if mean_s < max(MORE_LATENCY * usual_s, usual_s + LEAST_EXTRA_S):
        return None
    return (1.0 - usual_s / mean_s,
            f"takes {mean_s:.2f} s to its first byte, its peers {usual_s:.2f} s")
