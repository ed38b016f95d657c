"""Calibration of an engine's iteration-time parameters while it serves."""

from math import hypot, log

from penstock.perf.calibration.drift import Cusum, num_changed
from penstock.perf.calibration.fit import fit, surprise
from penstock.perf.calibration.latencies import chain_latencies
from penstock.perf.calibration.values import (
    Calibrated,
    CalibrationSettings,
    LatencyModel,
    Prior,
    ServedPoint,
)

_DRIFTED_SD = 0.2
"""Standard deviation of a parameter's own part in a drift; the common part is as wide as ever."""


class Calibration:
    """Keeps points of one kind of replica, and the parameters that fit them.

    ``known`` is the estimate, the prior's before any point. ``num_drifts`` counts changes of the
    engine that were found: points from before a change are dropped, and the estimate before it is
    the prior after it.
    """

    def __init__(self, prior: Prior, model: LatencyModel = chain_latencies,
                 settings: CalibrationSettings | None = None) -> None:
        self._prior = prior
        self._model = model
        self._settings = settings or CalibrationSettings()
        self._points: list[ServedPoint] = []
        self._sums = (Cusum(), Cusum())
        self.num_drifts = 0
        self.known: Calibrated = fit([], prior, model, self._settings)

    @property
    def points(self) -> tuple[ServedPoint, ...]:
        """The points in use, oldest first."""
        return tuple(self._points)

    def observe(self, point: ServedPoint) -> Calibrated:
        """Learn from one point and return the estimate.

        Points of cold replicas and points without traffic change nothing.
        """
        if not point.usable or point.served_s < self._settings.cold_s:
            return self.known
        seen = surprise(point, self.known, self._model, self._settings)
        ttft, itl = self._sums
        self._sums = ttft.add(seen.ttft), itl.add(seen.itl)
        self._points.append(point)
        changed = num_changed(self._sums)
        if changed:
            self._drop_before(changed)
        elif len(self._points) > self._settings.most_points:
            del self._points[older_of_nearest(self._points)]
        self.known = fit(self._points, self._prior, self._model, self._settings)
        return self.known

    def _drop_before(self, num_kept: int) -> None:
        self.num_drifts += 1
        self._sums = (Cusum(), Cusum())
        self._points = self._points[-num_kept:]
        alpha, beta, gamma = (hypot(sd, _DRIFTED_SD) for sd in self.known.log_sd)
        self._prior = Prior(self.known.times, self._prior.common_sd, (alpha, beta, gamma))


def older_of_nearest(points: list[ServedPoint]) -> int:
    """Return the number of the older point of the two with the most similar load.

    Loads differ by logarithms of rate and lengths. So points at rare loads, which tell parameters
    apart, outlive many points at a usual load.
    """
    loads = [(log(point.rate_per_s), log(point.size.input_tokens + 1.0),
              log(point.size.output_tokens)) for point in points]
    nearest, found = float("inf"), 0
    for older, load in enumerate(loads):
        for other in loads[older + 1:]:
            distance = sum((a - b)**2 for a, b in zip(load, other, strict=True))
            if distance < nearest:
                nearest, found = distance, older
    return found
