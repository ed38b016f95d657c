"""Bisection for the point at which a condition stops holding."""

from collections.abc import Callable


def largest_count(holds: Callable[[int], bool], most: int, misses: int | None = None) -> int:
    """The largest number up to about ``most`` for which ``holds`` is true.

    ``holds`` must be true of 0 and change only once. The search doubles, then bisects. It only
    bisects where ``misses`` is a number for which ``holds`` is known to be false.
    """
    low, high = 0, misses or 1
    while misses is None and holds(high):
        low, high = high, 2 * high
        if low >= most:
            return low
    return _between(holds, low, high)


def largest_near(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` for which ``holds`` is true, found soon where it is near
    ``most``. ``holds`` must be true of 0 and change only once."""
    found, misses, step = most, most + 1, 1
    while found > 0 and not holds(found):
        found, misses, step = max(0, found - step), found, 2 * step
    return _between(holds, found, misses)


def _between(holds: Callable[[int], bool], low: int, high: int) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def largest_part(holds: Callable[[float], bool], low: float, high: float, steps: int) -> float:
    """The largest value from ``low`` to ``high`` for which ``holds`` is true.

    ``holds`` must be true of ``low``. The error is at most the distance halved ``steps`` times.
    """
    for _ in range(steps):
        middle = 0.5 * (low + high)
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def edge(holds: Callable[[float], bool], low: float, high: float, steps: int) -> float:
    """The value between ``low`` and ``high`` at which ``holds`` stops: the middle of what is left
    after ``steps`` halvings. ``holds`` must be true of ``low``, and is taken to be false of
    ``high``."""
    return largest_part(holds, low, high, steps) + 0.5**(steps + 1) * (high - low)
