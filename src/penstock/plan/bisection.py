"""Bisection for the point at which a condition stops to hold."""

from collections.abc import Callable


def largest_count(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to about ``most`` of which ``holds`` is true, taken to be true of 0 and
    to turn once: found by doubling, then bisection."""
    low, high = 0, 1
    while holds(high):
        low, high = high, 2 * high
        if low >= most:
            return low
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def largest_part(holds: Callable[[float], bool], low: float, high: float, steps: int) -> float:
    """The largest value between two of which ``holds`` is true, to within their distance halved
    ``steps`` times; ``low`` is taken to hold."""
    for _ in range(steps):
        middle = 0.5 * (low + high)
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
