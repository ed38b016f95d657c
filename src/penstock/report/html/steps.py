"""Curves over long times: few points that keep every extreme, and finer ones for zooming."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.metrics.scaling_summary import Scaling, ScalingEvent

MOST_POINTS = 2_000
"""Points of a curve as it is drawn first."""

FINE_POINTS = 10_000
"""Points of a curve that the page holds for zooming."""

HOUR_S, DAY_S = 3600.0, 86_400.0


def kept_points(x: FloatColumn, rows: Sequence[FloatColumn], most: int) -> IntColumn:
    """Return the places of at most ``most`` points of curves over one rising ``x``.

    Time is cut into equal buckets. Of each bucket, every curve keeps its least and its greatest
    value, and all keep the last point, from which a step function goes on.
    """
    if len(x) <= most:
        return np.arange(len(x))
    num_buckets = max(1, (most - 1) // (2 * len(rows) + 1))
    buckets = np.minimum(((x - x[0]) / (x[-1] - x[0]) * num_buckets).astype(np.int64),
                         num_buckets - 1)
    first = np.flatnonzero(np.diff(buckets, prepend=-1))
    kept = [np.zeros(1, np.int64), np.append(first[1:] - 1, len(x) - 1)]
    for row in rows:
        absent = np.isnan(row)
        for values in (np.where(absent, np.inf, row), np.where(absent, np.inf, -row)):
            order = np.lexsort((values, buckets))
            kept.append(order[first])
    found: IntColumn = np.unique(np.concatenate(kept))
    return found


class Curves:
    """The figure's curves over one time axis: traces as they are drawn first, and finer points."""

    def __init__(self, end_s: float) -> None:
        self.unit, self._unit_s = time_unit(end_s)
        self.traces: list[dict[str, Any]] = []
        self.fine: list[dict[str, Any]] = []

    def add(self, x_s: FloatColumn, rows: Sequence[FloatColumn],
            traces: Sequence[dict[str, Any]]) -> None:
        """Add curves over the same times. ``traces`` say how they look."""
        own = kept_points(x_s, rows, FINE_POINTS)
        x_s, rows = x_s[own], [row[own] for row in rows]
        x, values = self.times(x_s), [_plain(row) for row in rows]
        first = kept_points(x_s, rows, MOST_POINTS)
        if len(first) < len(x):
            numbers = list(range(len(self.traces), len(self.traces) + len(traces)))
            self.fine.append({"traces": numbers, "x": x, "y": values})
        for trace, row in zip(traces, values, strict=True):
            self.traces.append({**trace, "x": [x[place] for place in first],
                                "y": [row[place] for place in first]})

    def times(self, x_s: FloatColumn) -> list[float]:
        """Return times in the axis's unit."""
        return [round(value / self._unit_s, 6) for value in x_s.tolist()]


def time_unit(end_s: float) -> tuple[str, float]:
    """Return the unit of a time axis that ends at ``end_s``, and its seconds."""
    if end_s <= 3 * HOUR_S:
        return "seconds", 1.0
    return ("hours", HOUR_S) if end_s <= 3 * DAY_S else ("days", DAY_S)


def _plain(row: FloatColumn) -> list[float | None]:
    """Return a curve's values in five digits, None where there is none."""
    return [None if np.isnan(value) else float(f"{value:.5g}") for value in row.tolist()]


def changes_of(scaling: Scaling, group: int) -> list[ScalingEvent]:
    """Return a group's changes in order of time."""
    return [change for change in scaling.changes if change.group == group]


def step_columns(changes: Sequence[ScalingEvent], names: Sequence[str], end_s: float
                 ) -> tuple[FloatColumn, list[FloatColumn]]:
    """Return the times of a group's changes and the numbers from then on, until ``end_s``."""
    x = np.array([change.at_s for change in changes] + [end_s])
    rows = [np.array([float(getattr(change, name)) for change in changes])
            for name in names]
    return x, [np.append(row, row[-1:]) for row in rows]


def weighted_steps(scaling: Scaling, name: str, weights: Sequence[float], end_s: float
                   ) -> tuple[FloatColumn, FloatColumn]:
    """Return the sum over all groups of a number times the group's weight, as a step function."""
    present = [0.0] * len(weights)
    total, found = 0.0, {0.0: 0.0}
    for change in sorted(scaling.changes, key=lambda one: one.at_s):
        value = getattr(change, name) * weights[change.group]
        total += value - present[change.group]
        present[change.group] = value
        found[change.at_s] = total
    found[max(end_s, *found)] = total
    return np.array(list(found)), np.array(list(found.values()))
