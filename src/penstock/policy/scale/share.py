"""Share of a replica's saturation at which requests are in time, learned from loads and misses."""

from collections.abc import Sequence
from math import ceil, exp, log

from penstock.policy.scale.arrival_load import Ended

_STEP = 0.03
_LEAST, _MOST = 0.1, 4.0
_NUM_BINS = ceil(log(_MOST / _LEAST) / _STEP) + 1
_MIDDLES = tuple(_LEAST * exp(_STEP * place) for place in range(_NUM_BINS))
_IDLE = 0.3
"""Load up to which misses are taken not to come from load: more replicas would not help."""

_FEWEST_IDLE = 200.0
_USUAL = 100.0  # requests in a bin that outweigh the believed share
MEMORY_S = 24 * 3600.0
"""Time after which what was seen has lost most of its weight."""


class LoadShare:
    """Learns up to which load the misses of one class stay within ``allowed``.

    Misses are taken to grow with the load: neighbouring bins of loads that say otherwise are
    pooled (isotonic regression; Barlow et al. 1972).
    """

    def __init__(self, allowed: float) -> None:
        self._allowed = allowed
        self._ended = [0.0] * _NUM_BINS
        self._missed = [0.0] * _NUM_BINS

    def add(self, one: Ended, elapsed_s: float) -> None:
        """Add what ended since the last call, ``elapsed_s`` ago."""
        keep = exp(-elapsed_s / MEMORY_S)
        self._ended = [keep * each for each in self._ended]
        self._missed = [keep * each for each in self._missed]
        place = _bin(one.load)
        self._ended[place] += one.num_ended
        self._missed[place] += one.num_missed

    def doubt(self, load: float, keep: float) -> None:
        """Keep the share ``keep`` of what was seen at higher loads than this one."""
        for place in range(_bin(load) + 1, _NUM_BINS):
            self._ended[place] *= keep
            self._missed[place] *= keep

    def largest(self, believed: float) -> float:
        """Return the largest load at which at most ``allowed`` of the requests miss because of it,
        where ``believed`` is that load before anything is seen."""
        weights = [each + _USUAL for each in self._ended]
        misses = [missed + _USUAL * (middle > believed)
                  for missed, middle in zip(self._missed, _MIDDLES, strict=True)]
        limit = self._allowed + self._idle_misses()
        shares = _isotonic(misses, weights)
        place = next((place for place, share in enumerate(shares) if share > limit), _NUM_BINS)
        if not 0 < place < _NUM_BINS:
            return _MIDDLES[min(place, _NUM_BINS - 1)]
        # Between the middles of two bins, misses are taken to be linear in the logarithm.
        low, high = shares[place - 1], shares[place]
        return _MIDDLES[place - 1] * exp(_STEP * (limit - low) / (high - low))

    def _idle_misses(self) -> float:
        num_idle = _bin(_IDLE) + 1
        ended = sum(self._ended[:num_idle])
        return sum(self._missed[:num_idle]) / ended if ended >= _FEWEST_IDLE else 0.0


def _bin(load: float) -> int:
    place = round(log(load / _LEAST) / _STEP) if load > _LEAST else 0
    return min(place, _NUM_BINS - 1)


def _isotonic(sums: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the rising means that are nearest to the given ones (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []  # sum, weight, number of bins
    for total, weight in zip(sums, weights, strict=True):
        block = (total, weight, 1)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        blocks.append(block)
    return [total / weight for total, weight, num in blocks for _ in range(num)]
