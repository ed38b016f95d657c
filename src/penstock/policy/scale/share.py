"""Share of a replica's saturation at which requests are in time, learned from loads and misses."""

from collections.abc import Sequence
from math import ceil, exp, log

from penstock.policy.scale.arrival_load import Ended
from penstock.policy.scale.correction import likeness

_STEP = 0.03
_LEAST, _MOST = 0.1, 4.0
_NUM_BINS = ceil(log(_MOST / _LEAST) / _STEP) + 1
_MIDDLES = tuple(_LEAST * exp(_STEP * place) for place in range(_NUM_BINS))
_IDLE = 0.3
"""Load up to which misses are taken not to come from load: more replicas would not help."""

_FEWEST_IDLE = 200.0
_USUAL = 100.0  # requests in a bin that outweigh the believed share
_WORK_STEP = 0.35  # difference of the logarithms of mean works that are kept apart

MEMORY_S = 24 * 3600.0
"""Time after which what was seen has lost most of its weight."""


class Evidence:
    """Requests that ended and that missed by bin of load, which lose weight with their age."""

    def __init__(self) -> None:
        self.ended = [0.0] * _NUM_BINS
        self.missed = [0.0] * _NUM_BINS
        self._at_s = 0.0

    def add(self, one: Ended) -> None:
        """Add requests that ended."""
        keep, self._at_s = self.weight(one.at_s), one.at_s
        self.ended = [keep * each for each in self.ended]
        self.missed = [keep * each for each in self.missed]
        place = _bin(one.load)
        self.ended[place] += one.num_ended
        self.missed[place] += one.num_missed

    def weight(self, now_s: float) -> float:
        """Return the weight that is left of what was seen."""
        return exp(-max(0.0, now_s - self._at_s) / MEMORY_S)

    def add_weighted(self, other: "Evidence", weight: float) -> None:
        """Add other evidence with this weight."""
        self.ended = [total + weight * each
                      for total, each in zip(self.ended, other.ended, strict=True)]
        self.missed = [total + weight * each
                       for total, each in zip(self.missed, other.missed, strict=True)]

    @property
    def idle_misses(self) -> float:
        """Share of the requests that miss at replicas that are almost idle."""
        num_idle = _bin(_IDLE) + 1
        total = sum(self.ended[:num_idle])
        return sum(self.missed[:num_idle]) / total if total >= _FEWEST_IDLE else 0.0

    def doubt(self, load: float, keep: float) -> None:
        """Keep the share ``keep`` of what was seen at higher loads than this one."""
        for place in range(_bin(load) + 1, _NUM_BINS):
            self.ended[place] *= keep
            self.missed[place] *= keep


class LoadShare:
    """Learns up to which load the misses of one class stay within ``allowed``.

    Misses are taken to grow with the load: neighbouring bins of loads that say otherwise are
    pooled (isotonic regression; Barlow et al. 1972). Requests of other work tell less: long
    prompts that missed at a load do not say that short ones would.
    """

    def __init__(self, allowed: float) -> None:
        self._allowed = allowed
        self._by_work: dict[int, Evidence] = {}

    def add(self, one: Ended) -> None:
        """Add requests that ended."""
        self._by_work.setdefault(round(log(one.work) / _WORK_STEP), Evidence()).add(one)

    def doubt(self, load: float, keep: float, work: float) -> None:
        """Keep the share ``keep`` of what was seen at higher loads than this one with requests of
        this mean work, and more of what was seen with others."""
        for place, seen in self._by_work.items():
            seen.doubt(load, keep ** _likeness(place, work))

    def seen(self, work: float, now_s: float) -> Evidence:
        """Return what was seen, weighted for requests of this mean work and for its age."""
        found = Evidence()
        for place, one in self._by_work.items():
            found.add_weighted(one, one.weight(now_s) * _likeness(place, work))
        return found

    def largest(self, believed: float, seen: Evidence) -> float:
        """Return the largest load at which at most ``allowed`` of the requests miss because of the
        load, by what was ``seen``; ``believed`` is that load before anything is seen."""
        weights = [each + _USUAL for each in seen.ended]
        misses = [one + _USUAL * (middle > believed)
                  for one, middle in zip(seen.missed, _MIDDLES, strict=True)]
        limit = self._allowed + seen.idle_misses
        shares = _isotonic(misses, weights)
        place = next((place for place, share in enumerate(shares) if share > limit), _NUM_BINS)
        if not 0 < place < _NUM_BINS:
            return _MIDDLES[min(place, _NUM_BINS - 1)]
        # Between the middles of two bins, misses are taken to be linear in the logarithm.
        low, high = shares[place - 1], shares[place]
        return _MIDDLES[place - 1] * exp(_STEP * (limit - low) / (high - low))


def _likeness(place: int, work: float) -> float:
    """Return the weight of requests of the works of a bin for requests of this mean work."""
    return likeness(place * _WORK_STEP - log(work))


def _bin(load: float) -> int:
    place = round(log(load / _LEAST) / _STEP) if load > _LEAST else 0
    return min(place, _NUM_BINS - 1)


def _isotonic(sums: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the rising means that are nearest to the given ones (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []  # sum, weight, number of bins, but for the last one
    total, weight, num = sums[0], weights[0], 1
    for new_total, new_weight in zip(sums[1:], weights[1:], strict=True):
        if total * new_weight < new_total * weight:
            blocks.append((total, weight, num))
            total, weight, num = new_total, new_weight, 1
            continue
        total, weight, num = total + new_total, weight + new_weight, num + 1
        while blocks and blocks[-1][0] * weight >= total * blocks[-1][1]:
            before = blocks.pop()
            total, weight, num = before[0] + total, before[1] + weight, before[2] + num
    blocks.append((total, weight, num))
    return [share for total, weight, num in blocks for share in [total / weight] * num]
