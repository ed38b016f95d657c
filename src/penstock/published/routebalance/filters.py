"""RouteBalance's filters: which candidates may be scored at all, and what is given up when none."""

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from penstock.core.request import Request
from penstock.published.routebalance.score import Pair

FilterName = Literal["none", "slos_serve", "polyserve", "qlm", "cdf"]

Z: dict[float, float] = {0.80: 0.842, 0.85: 1.036, 0.90: 1.282, 0.95: 1.645, 0.975: 1.960,
                         0.99: 2.326}
"""Quantiles of the normal distribution, as the filter rounds them."""

RELAX_ORDER = ("ttft", "tpot", "budget", "quality")
_ROUNDS = 3
_LOWERED_BY = 0.1


class Targets(NamedTuple):
    """Targets of a request; ``None`` where there is none."""

    ttft_s: float | None
    tpot_s: float | None
    cost: float | None
    quality: float | None


def targets_of(request: Request) -> Targets:
    """The targets of a request's class and of itself."""
    slo = request.service_class.slo
    return Targets(slo.ttft_s, slo.itl_s, request.needs.max_cost, request.needs.min_quality)


def slos_serve(pair: Pair, targets: Targets) -> bool:
    """Both latencies within their own target."""
    return _within(pair.ttft_s, targets.ttft_s) and _within(pair.tpot_s, targets.tpot_s)


def polyserve(pair: Pair, targets: Targets) -> bool:
    """The last token before the deadline that both targets together give."""
    if targets.ttft_s is None or targets.tpot_s is None:
        return slos_serve(pair, targets)
    tokens = pair.output_tokens
    return pair.ttft_s + tokens * pair.tpot_s <= targets.ttft_s + tokens * targets.tpot_s


def qlm(pair: Pair, targets: Targets, deviation_s: tuple[float, float],
        confidence: float = 0.9) -> bool:
    """Both latencies within target, with a margin of normal deviations at that confidence."""
    z = Z[confidence]
    return (_within(pair.ttft_s + z * deviation_s[0], targets.ttft_s)
            and _within(pair.tpot_s + z * deviation_s[1], targets.tpot_s))


class ResidualCdf:
    """The chance that a target is kept, by the residuals seen so far (observed - predicted)."""

    MOST: ClassVar[int] = 4096

    def __init__(self) -> None:
        self._sorted: list[float] = []

    def add(self, residual: float) -> None:
        """Remember one, until there are enough."""
        if len(self._sorted) < self.MOST:
            insort(self._sorted, residual)

    def chance(self, room: float) -> float:
        """The share of residuals within ``room``; 1 or 0 by its sign while there are none."""
        if not self._sorted:
            return 1.0 if room >= 0.0 else 0.0
        return bisect_right(self._sorted, room) / len(self._sorted)


def cdf(pairs: Sequence[Pair], targets: Targets, ttft: ResidualCdf, tpot: ResidualCdf,
        confidence: float = 0.7) -> tuple[list[Pair], int]:
    """The pairs that keep every target with at least ``confidence``, and how often it was lowered.

    Where none does, the demand on one target after another (RELAX_ORDER) is lowered by 0.1, for
    three rounds. Nothing passes where even that is not enough.
    """
    needed = dict.fromkeys(RELAX_ORDER, confidence)
    lowered = 0
    for _ in range(_ROUNDS):
        for name in ("", *RELAX_ORDER):
            if name:
                needed[name] -= _LOWERED_BY
                lowered += 1
            kept = [p for p in pairs if _passes(p, targets, ttft, tpot, needed)]
            if kept:
                return kept, lowered
    return [], lowered


def _passes(pair: Pair, targets: Targets, ttft: ResidualCdf, tpot: ResidualCdf,
            needed: dict[str, float]) -> bool:
    chances = {
        "ttft": 1.0 if targets.ttft_s is None else ttft.chance(targets.ttft_s - pair.ttft_s),
        "tpot": 1.0 if targets.tpot_s is None else tpot.chance(targets.tpot_s - pair.tpot_s),
        "budget": float(_within(pair.cost, targets.cost)),
        "quality": float(targets.quality is None or pair.quality >= targets.quality)}
    return all(chances[name] >= needed[name] - 1e-9 for name in RELAX_ORDER)


def _within(value: float, limit: float | None) -> bool:
    return limit is None or value <= limit
