"""Inferno's sliding window: a fit of the latest observations in every cycle."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from penstock.published.inferno.tuner.fits import (
    BLIND_START,
    condition_number,
    errors,
    guess,
    nelder_mead,
)
from penstock.published.inferno.tuner.values import OperatingPoint, State, TunerSettings


class SlidingWindow:
    """The latest observations and the last good fit. ``held`` says that the latest fit was refused
    and an earlier one returned."""

    def __init__(self, settings: TunerSettings, points: Sequence[OperatingPoint],
                 last: State | None) -> None:
        self._settings = settings
        self._seed = settings.filter.init_state
        self._points = deque(points, maxlen=settings.window)
        self._last = last
        self.held = False

    def add(self, point: OperatingPoint) -> None:
        """Add an observation; the oldest goes where the window is full."""
        self._points.append(point)

    def fit(self) -> State | None:
        """Return parameters for the window, None where neither a fit nor a guess is possible.

        One observation with the largest relative error above the limit is dropped, and the rest
        fitted again. A fit that cannot be identified is replaced by the last good one, or by the
        guess from the newest observation.
        """
        self.held = False
        points = list(self._points)
        found = self._fitted(points, self._last or guess(points[-1], self._seed) or BLIND_START)
        kept = points if found is None else self._without_outlier(points, found)
        if found is not None and len(kept) < len(points):
            found = self._fitted(kept, found)
        if found is None:
            return None
        limit = self._settings.condition_limit
        if limit > 0.0 and condition_number(kept, found) > limit:
            self.held = self._last is not None
            found = self._last or guess(points[-1], self._seed)
        self._last = found
        return found

    def _fitted(self, points: Sequence[OperatingPoint], start: State) -> State | None:
        found = nelder_mead(points, start)
        return guess(points[-1], self._seed) if found is None else found.state

    def _without_outlier(self, points: list[OperatingPoint], state: State) -> list[OperatingPoint]:
        sizes = np.linalg.norm(errors(points, np.array([state]))[0], axis=1)
        worst = int(sizes.argmax())
        limit = self._settings.residual_limit
        if limit <= 0.0 or not sizes[worst] > limit or len(points) == 1:
            return points
        return points[:worst] + points[worst + 1:]
