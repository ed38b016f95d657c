"""The cheapest numbers of replicas of several kinds that carry a load together, and the next
best."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil, inf


def cheapest_counts(need: float, worth: Sequence[float], costs: Sequence[float],
                    bounds: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return counts within ``bounds`` (fewest, most) with sum(count * worth) >= ``need`` at the
    least cost; where no counts suffice, the most of every kind that is worth anything.

    Exact: kinds are tried in order of cost for their worth, and a branch ends where even the best
    of what is left costs more than the best counts so far.
    """
    order = sorted(range(len(worth)), key=lambda kind: (
        costs[kind] / worth[kind] if worth[kind] > 0.0 else inf, costs[kind], kind))
    counts = [low for low, _ in bounds]
    left = need - sum(count * each for count, each in zip(counts, worth, strict=True))
    best = [high if each > 0.0 else low for (low, high), each in zip(bounds, worth, strict=True)]
    if left <= 1e-9:
        return tuple(counts)
    if sum((most - low) * each for most, low, each in zip(best, counts, worth, strict=True)
           ) < left - 1e-9:
        return tuple(best)
    least = [inf]

    def search(place: int, left: float, cost: float) -> None:
        if left <= 1e-9:
            if cost < least[0] - 1e-9:
                least[0] = cost
                best[:] = counts
            return
        if place == len(order):
            return
        kind = order[place]
        if worth[kind] <= 0.0 or cost + left * costs[kind] / worth[kind] >= least[0] - 1e-9:
            return
        low, high = bounds[kind]
        most = min(high - low, ceil(left / worth[kind] - 1e-9))
        for more in range(most, -1, -1):
            counts[kind] = low + more
            search(place + 1, left - more * worth[kind], cost + more * costs[kind])
        counts[kind] = low

    search(0, left, 0.0)
    return tuple(best)


def next_best(counts: Sequence[int], bounds: Sequence[tuple[int, int]], costs: Sequence[float],
              share: Callable[[Sequence[int]], float]) -> tuple[int, ...] | None:
    """Return the best counts with one replica fewer: those with the greatest ``share``. At the
    floors, return the cheapest counts with one replica more; None where neither is within the
    bounds."""
    fewer = list(_steps(counts, bounds, -1))
    if fewer:
        return max(fewer, key=share)
    return min(_steps(counts, bounds, 1), default=None,
               key=lambda one: sum(cost * count for cost, count in zip(costs, one, strict=True)))


def _steps(counts: Sequence[int], bounds: Sequence[tuple[int, int]], step: int
           ) -> Iterator[tuple[int, ...]]:
    for place, (low, high) in enumerate(bounds):
        if low <= counts[place] + step <= high:
            yield (*counts[:place], counts[place] + step, *counts[place + 1:])
