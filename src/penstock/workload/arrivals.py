"""Arrival processes: independent gaps of mean 1, stretched by a rate that may change over time."""

from dataclasses import dataclass, field

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.profile import RateProfile, SteadyRate
from penstock.workload.workload import FloatColumn

MAX_REQUESTS = 100_000_000
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
        """Sorted arrival times in seconds from 0: ``num_requests`` of them, or all up to
        ``duration_s``, or whichever bound is met first.

        The draws depend on neither rate nor length: a higher rate presses the same process
        together, and a longer one has the shorter as its beginning (unless ``exact_rate``).
        Raises InputError for a rate or a bound that is not positive.
        """
        self._check()
        _check_bounds(rate_per_s, num_requests, duration_s)
        gap_rng, *profile_rngs = _split(rng)
        limit = np.inf
        if duration_s is not None:
            limit = self.profile.expected(duration_s, rate_per_s, profile_rngs[0])
            _check_number(limit if num_requests is None else min(limit, num_requests))
        work = self._work(gap_rng, num_requests, limit)
        return self.profile.times_s(work, rate_per_s, profile_rngs[1])

    def _check(self) -> None:
        if not 0.0 <= self.gap_cv <= MAX_GAP_CV:
            raise InputError(f"the gaps' coefficient of variation is {self.gap_cv:g}; expected 0 "
                             f"to {MAX_GAP_CV:g}")
        if self.gap_cap is not None and not self.gap_cap > 0.0:
            raise InputError(f"gap_cap is {self.gap_cap:g}; expected a positive multiple of the "
                             "mean gap")

    def _work(self, rng: np.random.Generator, num_requests: int | None,
              limit: float) -> FloatColumn:
        """Arrivals of the unit-rate process, at most ``num_requests`` and none after ``limit``."""
        if self.exact_rate:
            num = min(round(min(limit, 1e15)), num_requests or 2**62)
            work = np.cumsum(self._gaps(rng, num))
            return work * (min(num, limit) / work[-1]) if num else work
        if num_requests is not None:
            work = np.cumsum(self._gaps(rng, num_requests))
        else:
            work = self._until(rng, limit)
        return work[:int(np.searchsorted(work, limit, "right"))]

    def _until(self, rng: np.random.Generator, limit: float) -> FloatColumn:
        parts: list[FloatColumn] = []
        reached, block = 0.0, int(limit + 4.0 * np.sqrt(limit)) + 16
        while reached <= limit:
            # One running sum over all blocks, so that the block size leaves no trace in the result.
            gaps = self._gaps(rng, block)
            gaps[0] += reached
            parts.append(np.cumsum(gaps))
            reached, block = float(parts[-1][-1]), max(block // 4, 16)
        return np.concatenate(parts)

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


def _split(rng: np.random.Generator) -> list[np.random.Generator]:
    """A stream for the gaps and two equal ones for the profile, which is realised twice."""
    gap_seed, profile_seed = (int(word) for word in rng.integers(0, 2**63, 2))
    return [np.random.default_rng(seed) for seed in (gap_seed, profile_seed, profile_seed)]
