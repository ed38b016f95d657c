"""Measured times between their points: along one axis, and over two.

Both are linear between points in the inputs themselves, not in their logarithms: a kernel's time
is close to affine in what it computes and reads, and a straight line between two times that hold a
bound which is convex (operations / peak, bytes / bandwidth, the larger of them) holds it too.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds by one input: flat before the first knot, ``beyond_s`` per unit after the last.

    ``knots`` rise strictly, ``seconds`` never fall; one knot or more.
    """

    knots: tuple[float, ...]
    seconds: tuple[float, ...]
    beyond_s: float = 0.0

    def at(self, value: float) -> float:
        """Seconds at ``value``."""
        knots, seconds = self.knots, self.seconds
        right = bisect_right(knots, value)
        if right == 0:
            return seconds[0]
        if right == len(knots):
            return seconds[-1] + self.beyond_s * (value - knots[-1])
        left = right - 1
        rate = (seconds[right] - seconds[left]) / (knots[right] - knots[left])
        return seconds[left] + rate * (value - knots[left])

    def covers(self, value: float) -> bool:
        """Whether ``value`` is at most the last knot."""
        return value <= self.knots[-1]

    def times(self, factor: float, *, unit: float = 1.0) -> "Curve":
        """``factor`` such calls, with inputs counted in ``unit`` of the present ones."""
        return Curve(tuple(knot / unit for knot in self.knots),
                     tuple(factor * value for value in self.seconds), factor * self.beyond_s * unit)


NOTHING = Curve((0.0,), (0.0,))


def total_curve(curves: Iterable[Curve]) -> Curve:
    """The sum, with the knots of all."""
    parts = [curve for curve in curves if curve is not NOTHING]
    if not parts:
        return NOTHING
    knots = tuple(sorted({knot for curve in parts for knot in curve.knots}))
    return Curve(knots, tuple(sum(curve.at(knot) for curve in parts) for knot in knots),
                 sum(curve.beyond_s for curve in parts))


@dataclass(frozen=True, slots=True)
class Plane:
    """Seconds by two inputs, bilinear between points.

    ``seconds[i][j]`` is the time at ``xs[i]``, ``ys[j]``; both axes rise strictly and times never
    fall along either. Below the axes the nearest edge counts; above, ``beyond_x_s`` and
    ``beyond_y_s`` per unit are added to it. ``limits[i]`` is the largest y with a measured time at
    ``xs[i]``; what lies above was extended from it.
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    seconds: tuple[tuple[float, ...], ...]
    limits: tuple[float, ...]
    beyond_x_s: float = 0.0
    beyond_y_s: float = 0.0

    def at(self, x: float, y: float) -> float:
        """Seconds at (x, y)."""
        xs, ys = self.xs, self.ys
        extra_s = 0.0
        if x > xs[-1]:
            extra_s = self.beyond_x_s * (x - xs[-1])
        if y > ys[-1]:
            extra_s += self.beyond_y_s * (y - ys[-1])
        i, share_x = _place(xs, x)
        j, share_y = _place(ys, y)
        near = self.seconds[i]
        found_s = near[j]
        if share_y:
            found_s += share_y * (near[j + 1] - found_s)
        if share_x:
            far = self.seconds[i + 1]
            far_s = far[j]
            if share_y:
                far_s += share_y * (far[j + 1] - far_s)
            found_s += share_x * (far_s - found_s)
        return found_s + extra_s

    def covers(self, x: float, y: float) -> bool:
        """Whether (x, y) lies among measured points."""
        if x > self.xs[-1]:
            return False
        i, share = _place(self.xs, x)
        most = self.limits[i]
        if share:
            most += share * (self.limits[i + 1] - most)
        return y <= most * (1.0 + 1e-9)

    def times(self, factor: float) -> "Plane":
        """``factor`` such calls."""
        return Plane(self.xs, self.ys,
                     tuple(tuple(factor * value for value in row) for row in self.seconds),
                     self.limits, factor * self.beyond_x_s, factor * self.beyond_y_s)


@dataclass(frozen=True, slots=True)
class BatchPlane:
    """Seconds by a count and a total: ``plane`` by the count and the mean.

    What of the total lies beyond the plane adds ``beyond_s`` per unit, and each of the count that
    does the plane's ``beyond_x_s``.
    """

    plane: Plane
    beyond_s: float

    def at(self, count: float, total: float) -> float:
        """Seconds of ``count`` (above 0) things of ``total`` together."""
        plane = self.plane
        inside, mean = min(count, plane.xs[-1]), min(total / count, plane.ys[-1])
        return (plane.at(inside, mean) + plane.beyond_x_s * (count - inside)
                + self.beyond_s * (total - inside * mean))

    def covers(self, count: float, total: float) -> bool:
        """Whether such a batch lies among measured points."""
        return self.plane.covers(count, total / count)

    def times(self, factor: float) -> "BatchPlane":
        """``factor`` such calls."""
        return BatchPlane(self.plane.times(factor), factor * self.beyond_s)


def _place(knots: tuple[float, ...], value: float) -> tuple[int, float]:
    """The knot at or below ``value``, and how far it is towards the next (0 at the ends)."""
    left = bisect_right(knots, value) - 1
    if left < 0:
        return 0, 0.0
    if left >= len(knots) - 1:
        return len(knots) - 1, 0.0
    return left, (value - knots[left]) / (knots[left + 1] - knots[left])
