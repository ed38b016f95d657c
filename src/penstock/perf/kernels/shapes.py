"""A table cut down to one shape: kernel times by what varies from step to step."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.perf.kernels.tables import KernelTable
from penstock.perf.robust import isotonic

Floats = NDArray[np.float64]
# Seconds by key: (rows,) of a GEMM, (batch, length) of attention, (tokens,) of a mixture.
Times = dict[tuple[float, ...], float]


def clamped_shape(table: KernelTable, shape: Mapping[str, float]) -> dict[str, float]:
    """``shape`` moved into what the table holds, axis by axis."""
    found: dict[str, float] = {}
    rows = table
    for name, wanted in shape.items():
        values = rows.values(name)
        found[name] = min(max(wanted, values[0]), values[-1])
        low, high = _bracket(values, found[name])
        rows = rows.rows((rows.columns[name] == low) | (rows.columns[name] == high))
    return found


def times_of_shape(table: KernelTable, shape: Mapping[str, float],
                   keys: Sequence[str]) -> Times:
    """Times at ``shape`` by the columns ``keys``: as measured, else interpolated in logarithms.

    Axes are taken in the order of ``shape``, so that later ones may be sparse where earlier ones
    are; keys that not all neighbouring shapes have are left out. ``shape`` must lie in the table
    (see ``clamped_shape``). Raises InputError when nothing is left.
    """
    found = _times(table, list(shape.items()), keys)
    if not found:
        said = ", ".join(f"{name} {value:g}" for name, value in shape.items())
        raise InputError(f"{table.source}: no rows around {said}")
    return found


def _times(table: KernelTable, axes: list[tuple[str, float]], keys: Sequence[str]) -> Times:
    if not axes:
        columns = [table.columns[key].tolist() for key in keys]
        return dict(zip(zip(*columns, strict=True), table.seconds.tolist(), strict=True))
    (name, wanted), *rest = axes
    if not len(table):
        return {}
    low, high = _bracket(table.values(name), wanted)
    near = _times(table.where(**{name: low}), rest, keys)
    if low == high:
        return near
    far = _times(table.where(**{name: high}), rest, keys)
    share = math.log(wanted / low) / math.log(high / low)
    return {key: near[key] ** (1.0 - share) * far[key] ** share for key in near if key in far}


def _bracket(values: Sequence[float], wanted: float) -> tuple[float, float]:
    """The values around ``wanted``; the same twice where it is one of them or outside."""
    below = [value for value in values if value <= wanted]
    above = [value for value in values if value >= wanted]
    low = below[-1] if below else above[0]
    return low, above[0] if above else low


def monotone(times: Floats) -> Floats:
    """The nearest times (in ratio) along one axis that never fall; rising times stay as they are.

    Measured times do fall here and there: the library picks another kernel, or a size fills the
    chip's units better. More work in less time is no law to plan by.
    """
    if np.all(np.diff(times) >= 0.0):
        return times
    # exp and log may differ by a rounding where neighbours became equal.
    return np.maximum.accumulate(np.exp(isotonic(np.log(times))))


def monotone_points(xs: Floats, ys: Floats, times: Floats) -> Floats:
    """Times of points (x, y) such that more of either never takes less, in ratio near the given.

    Each becomes the geometric mean of the longest time at no more of both and the shortest at no
    less; where the points agree, both are the point's own.
    """
    below = (xs[:, None] >= xs) & (ys[:, None] >= ys)
    longest = np.where(below, times, 0.0).max(axis=1)
    shortest = np.where(below.T, times, np.inf).min(axis=1)
    agreed = longest == shortest
    return np.where(agreed, times, np.sqrt(longest * shortest))


def shortest_at_no_less(xs: Floats, ys: Floats, times: Floats) -> Floats:
    """Per point (x, y), the shortest time of any point with at least as much of both."""
    above = (xs[:, None] <= xs) & (ys[:, None] <= ys)
    return np.asarray(np.where(above, times, np.inf).min(axis=1))


def monotone_grid(xs: Floats, ys: Floats, guess: Floats, points: Times) -> Floats:
    """Times on the grid ``xs`` x ``ys`` through all ``points``: points of the grid that never fall.

    Between them ``guess`` counts, as far as it lies between the points around it and never falls.
    """
    at = np.array(list(points))
    seconds = np.array(list(points.values()))
    grid_x, grid_y = xs[:, None, None], ys[None, :, None]
    least = np.where((at[:, 0] <= grid_x) & (at[:, 1] <= grid_y), seconds, 0.0).max(axis=2)
    most = np.where((at[:, 0] >= grid_x) & (at[:, 1] >= grid_y), seconds, np.inf).min(axis=2)
    inside = np.clip(guess, least, most)
    return np.asarray(np.maximum.accumulate(np.maximum.accumulate(inside, axis=0), axis=1))
