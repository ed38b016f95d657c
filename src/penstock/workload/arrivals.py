"""Arrival processes: independent gaps of mean 1, stretched by a rate that may change over time."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.profile import RateProfile, SteadyRate
from penstock.workload.workload import FloatColumn

MAX_REQUESTS = 100_000_000
BLOCK_REQUESTS = 1 << 17
"""Requests that are drawn, and simulated, as one block of columns, about."""
MAX_GAP_CV = 100.0


@dataclass(frozen=True, slots=True)
class ArrivalProcess:
    """When requests arrive.

    ``gap_cv`` is the coefficient of variation of the gaps at a steady rate: 1 is Poisson, 0 an even
    spacing, anything else gamma gaps of shape 1 / cv^2. ``gap_cap`` cuts gaps at that many mean
    gaps (Niyama: 8). ``exact_rate`` stretches the gaps so that exactly the expected number of
    requests arrives in the span; without it the number is random, as a real process has it.
    """

    gap_cv: float = 1.0
    profile: RateProfile = field(default_factory=SteadyRate)
    gap_cap: float | None = None
    exact_rate: bool = False

    def arrivals(self, rng: np.random.Generator, rate_per_s: float, *,
                 num_requests: int | None = None, duration_s: float | None = None) -> FloatColumn:
        """Return the arrival times of ``blocks`` as one column."""
        return np.concatenate([np.zeros(0), *self.blocks(
            rng, rate_per_s, num_requests=num_requests, duration_s=duration_s)])

    def blocks(self, rng: np.random.Generator, rate_per_s: float, *,
               num_requests: int | None = None, duration_s: float | None = None
               ) -> Iterator[FloatColumn]:
        """Draw sorted arrival times in seconds from 0, block by block: ``num_requests`` of them, or
        all up to ``duration_s``, or whichever bound is met first.

        The draws depend on neither rate nor length: a higher rate presses the same process
        together, and a longer one has the shorter as its beginning (unless ``exact_rate``, which
        makes one block). Raises InputError for a rate or a bound that is not positive.
        """
        self._check()
        _check_bounds(rate_per_s, num_requests, duration_s)
        gap_seed, profile_seed = (int(word) for word in rng.integers(0, 2**63, 2))
        limit = np.inf
        if duration_s is not None:
            limit = self.profile.expected(duration_s, rate_per_s,
                                          np.random.default_rng(profile_seed))
            _check_number(limit if num_requests is None else min(limit, num_requests))
        gap_rng = np.random.default_rng(gap_seed)
        for work in (self._exact(gap_rng, num_requests, limit) if self.exact_rate else
                     self._work(gap_rng, num_requests, limit)):
            # The profile is realised anew, and equally, for every block.
            yield self.profile.times_s(work, rate_per_s, np.random.default_rng(profile_seed))

    def _check(self) -> None:
        if not 0.0 <= self.gap_cv <= MAX_GAP_CV:
            raise InputError(f"the gaps' coefficient of variation is {self.gap_cv:g}; expected 0 "
                             f"to {MAX_GAP_CV:g}")
        if self.gap_cap is not None and not self.gap_cap > 0.0:
            raise InputError(f"gap_cap is {self.gap_cap:g}; expected a positive multiple of the "
                             "mean gap")

    def _exact(self, rng: np.random.Generator, num_requests: int | None, limit: float
               ) -> Iterator[FloatColumn]:
        """Yield all arrivals of the unit-rate process, stretched to the expected number."""
        num = min(round(min(limit, 1e15)), num_requests or 2**62)
        work = np.cumsum(self._gaps(rng, num))
        yield work * (min(num, limit) / work[-1]) if num else work

    def _work(self, rng: np.random.Generator, num_requests: int | None, limit: float
              ) -> Iterator[FloatColumn]:
        """Yield arrivals of the unit-rate process, at most ``num_requests`` and none after
        ``limit``."""
        usual = int(min(limit + 4.0 * np.sqrt(limit) + 16.0, BLOCK_REQUESTS))
        reached, left = 0.0, num_requests
        while reached <= limit and left != 0:
            # One running sum over all blocks, so that the block size leaves no trace in the result.
            gaps = self._gaps(rng, usual if left is None else min(usual, left))
            gaps[0] += reached
            work = np.cumsum(gaps)
            reached = float(work[-1])
            left = None if left is None else left - len(work)
            yield work[:int(np.searchsorted(work, limit, "right"))]

    def _gaps(self, rng: np.random.Generator, num: int) -> FloatColumn:
        if self.gap_cv == 0.0:
            gaps = np.ones(num)
        elif self.gap_cv == 1.0:
            gaps = rng.standard_exponential(num)
        else:
            shape = self.gap_cv**-2
            gaps = rng.standard_gamma(shape, num) / shape
        return gaps if self.gap_cap is None else np.minimum(gaps, self.gap_cap)


def poisson(gap_cap: float | None = None) -> ArrivalProcess:
    """Exponential gaps, cut at ``gap_cap`` mean gaps if given."""
    return ArrivalProcess(1.0, gap_cap=gap_cap)


def gamma(gap_cv: float) -> ArrivalProcess:
    """Gamma gaps of coefficient of variation ``gap_cv``; above 1 they come in clumps."""
    return ArrivalProcess(gap_cv)


def constant() -> ArrivalProcess:
    """One request every 1 / rate seconds."""
    return ArrivalProcess(0.0)


def _check_bounds(rate_per_s: float, num_requests: int | None, duration_s: float | None) -> None:
    if not 0.0 < rate_per_s < np.inf:
        raise InputError(f"rate_per_s is {rate_per_s:g}; expected a positive rate")
    if num_requests is None and duration_s is None:
        raise InputError("neither num_requests nor duration_s is given")
    if num_requests is not None and num_requests < 1:
        raise InputError(f"num_requests is {num_requests}; expected at least 1")
    _check_number(num_requests or 1)
    if duration_s is not None and not 0.0 < duration_s < np.inf:
        raise InputError(f"duration_s is {duration_s:g}; expected a positive time")


def _check_number(expected: float) -> None:
    if expected > MAX_REQUESTS:
        raise InputError(f"rate and bounds ask for {expected:.3g} requests; at most "
                         f"{MAX_REQUESTS:,} fit into memory")
