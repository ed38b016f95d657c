"""Past ratios of actual over forecast demand, and the headroom that they ask for."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, erf, exp, log, sqrt
from operator import truediv

_STEP = 0.025
_LEAST, _MOST = 0.25, 8.0
_NUM_BINS = ceil(log(_MOST / _LEAST) / _STEP) + 1
BINS: tuple[float, ...] = tuple(_LEAST * exp(_STEP * place) for place in range(_NUM_BINS))
"""Ratios by whose histogram errors are kept; each is the middle of a bin."""

_FALLING = BINS[::-1]
_OVER: Callable[[float, float], float] = truediv


class Ratios:
    """Histogram of actual over forecast demand, weighted by the requests that came.

    The weight of old ratios falls by ``keep`` with every ratio that is added.
    """

    def __init__(self, keep: float, sd: float, weight: float) -> None:
        """Begin with a lognormal prior of median 1, with ``sd`` as the standard deviation of the
        logarithm and a total ``weight``."""
        self._keep = keep
        self._weights = [weight * share for share in _lognormal(sd)]

    def add(self, actual: float, forecast: float, weight: float) -> None:
        """Add one pair."""
        keep = self._keep
        self._weights = [keep * weight for weight in self._weights]
        if actual > 0.0:
            self._weights[_bin(actual / forecast if forecast > 0.0 else _MOST)] += weight

    @property
    def mean(self) -> float:
        """Actual over forecast demand, in all."""
        return sum(self._weights) / sum(map(_OVER, self._weights, BINS))

    def shortfall(self, headroom: float) -> float:
        """Return the share of the requests beyond ``headroom`` times the forecast."""
        total = sum(self._weights)
        beyond = sum(weight * (1.0 - headroom / ratio)
                     for weight, ratio in zip(self._weights, BINS, strict=True)
                     if ratio > headroom)
        return beyond / total

    def headroom(self, allowed: float) -> float:
        """Return the least factor on forecasts beyond which at most a share of ``allowed`` of the
        requests lies."""
        left = allowed * sum(self._weights)
        beyond = per_ratio = 0.0  # demand in higher bins, and the same over their ratios
        for weight, ratio in zip(reversed(self._weights), _FALLING, strict=True):
            if beyond - ratio * per_ratio > left:
                return (beyond - left) / per_ratio
            beyond += weight
            per_ratio += weight / ratio
        return BINS[0]


def _bin(ratio: float) -> int:
    place = round(log(ratio / _LEAST) / _STEP) if ratio > _LEAST else 0
    return min(place, _NUM_BINS - 1)


def _lognormal(sd: float) -> Sequence[float]:
    """Return the share of a lognormal variable of median 1 in each bin."""
    edges = [log(_LEAST) + _STEP * (place - 0.5) for place in range(_NUM_BINS + 1)]
    below = [0.5 * (1.0 + erf(edge / (sd * sqrt(2.0)))) for edge in edges]
    return [high - low for low, high in pairwise(below)]
