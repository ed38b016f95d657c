"""The highest request rate that a fleet sustains."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.experiment.run import run_fleet
from penstock.experiment.workers import ALONE, Executor
from penstock.fleet.judge import attainment_by_class
from penstock.fleet.sources import fleet_workload
from penstock.fleet.traffic import check_open
from penstock.fleet.values import Fleet
from penstock.metrics.attainment import Attainment
from penstock.metrics.run_summary import RunSummary
from penstock.metrics.seeds import half_width
from penstock.plan.fleet_bound import fleet_bound_per_s
from penstock.sim.beliefs import NO_ERRORS, Beliefs
from penstock.workload.mixing import scale_rate
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Probe:
    """One simulated rate. ``summary`` is redacted."""

    seed: int
    rate_per_s: float
    attainment: dict[str, Attainment]
    meets: bool
    summary: RunSummary = field(repr=False)

    @property
    def worst(self) -> float:
        """The lowest attainment of any class."""
        return min((a.share or 0.0 for a in self.attainment.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest sustained rate per seed, its mean, and the half-width of a 95 % interval of it.

    ``rate_per_s`` is 0 where even the lowest rate tried misses. ``half_width_per_s`` is None with
    one seed. ``bounds`` are the throughput bounds of each seed's requests, infinite where no
    formula gives them, and ``num_requests`` how many those were.
    """

    share: float
    by_seed: tuple[float, ...]
    probes: tuple[Probe, ...] = field(repr=False)
    bounds: tuple[float, ...] = ()
    num_requests: tuple[int, ...] = ()

    @property
    def rate_per_s(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.by_seed))

    @property
    def half_width_per_s(self) -> float | None:
        """Half of the 95 % confidence interval over seeds (Student's t)."""
        return half_width(self.by_seed)

    @property
    def reached_bound(self) -> bool:
        """Whether some seed met at its throughput bound, so that nothing showed a limit below."""
        return any(rate >= bound * (1 - 1e-9)
                   for rate, bound in zip(self.by_seed, self.bounds, strict=False))


def find_capacity(fleet: Fleet, seeds: Sequence[int], *, share: float = 0.99,
                  tolerance: float = 0.01, low_per_s: float | None = None,
                  high_per_s: float | None = None, beliefs: Beliefs = NO_ERRORS,
                  on_probe: Callable[[Probe], None] | None = None,
                  where: Executor = ALONE) -> Capacity:
    """Search the highest rate with attainment of at least ``share`` in every class.

    For each seed the traffic is drawn once and compressed or stretched in time, so all rates
    see the same requests. The bracket starts at the fleet file's own rate and doubles or halves
    until it holds the answer, then is bisected until its ends differ by less than ``tolerance``
    (relative). It never passes the throughput bound: a finite run may meet distant deadlines
    while its queue only grows, but no fleet sustains a rate above that. Later seeds start from what
    the first found, and are searched ``where`` asked. Raises InputError for a share outside (0, 1],
    a tolerance outside (0, 1), bounds that are not a rising pair of positive rates, and traffic too
    short to load the fleet or to outlast its warmup.
    """
    _check(share, tolerance, low_per_s, high_per_s)
    check_open(fleet.traffic, "the search for a capacity")
    asked = _Search(fleet, beliefs, share, tolerance, low_per_s, high_per_s or math.inf)
    found = [_searched(_Seed(asked, fleet_workload(fleet, seeds[0]), seeds[0]), on_probe)]
    first = found[0].rate_per_s
    later = (_Seed(asked, fleet_workload(fleet, seed), seed, first or None) for seed in seeds[1:])
    for one in where.results(_searched, later):
        found.append(one)
        if on_probe is not None:
            for probe in one.probes:
                on_probe(probe)
    return Capacity(share, tuple(one.rate_per_s for one in found),
                    tuple(probe for one in found for probe in one.probes),
                    tuple(one.bound_per_s for one in found),
                    tuple(one.num_requests for one in found))


class _Search(NamedTuple):
    """Which rate is searched, of which fleet."""

    fleet: Fleet
    beliefs: Beliefs
    share: float
    tolerance: float
    low_per_s: float | None
    high_per_s: float


class _Seed(NamedTuple):
    """The requests of one seed, and the rate that an earlier seed sustains."""

    search: _Search
    workload: Workload
    seed: int
    near_per_s: float | None = None


class _Found(NamedTuple):
    """The highest rate of one seed."""

    rate_per_s: float
    bound_per_s: float
    num_requests: int
    probes: list[Probe]


def _searched(one: _Seed, on_probe: Callable[[Probe], None] | None = None) -> _Found:
    asked, workload = one.search, one.workload
    if workload.rate_per_s <= 0:
        raise InputError("capacity: the traffic has no rate to scale (fewer than two arrivals, "
                         "or all at one instant)")
    probes: list[Probe] = []

    def meets(rate_per_s: float) -> bool:
        probes.append(_probe(one, rate_per_s))
        if on_probe is not None:
            on_probe(probes[-1])
        return probes[-1].meets

    bound_per_s = _bound_per_s(asked.fleet, workload)
    ceiling = min(bound_per_s, asked.high_per_s)
    low = min(asked.low_per_s or one.near_per_s or workload.rate_per_s, ceiling)
    rate_per_s = highest_rate(meets, low, ceiling if ceiling < math.inf else None,
                              1.05 if one.near_per_s else 2.0, asked.tolerance)
    return _Found(rate_per_s, bound_per_s, len(workload), probes)


def _probe(one: _Seed, rate_per_s: float) -> Probe:
    """Simulate the seed's requests at one rate."""
    fleet, beliefs, share = one.search[:3]
    scaled = scale_rate(one.workload, rate_per_s / one.workload.rate_per_s)
    run = run_fleet(fleet, scaled, one.seed, beliefs=beliefs)
    attainment = attainment_by_class(fleet, run.result.table)
    if not attainment:
        raise InputError(f"capacity: at {rate_per_s:.4g} requests/s all of them arrive within "
                         f"warmup_s, {fleet.run.warmup_s:g} s; expected more requests")
    meets = all((a.share or 0.0) >= share - 1e-12 for a in attainment.values())
    return Probe(one.seed, rate_per_s, attainment, meets, run.summary)


def _bound_per_s(fleet: Fleet, workload: Workload) -> float:
    """The fleet's throughput bound, infinite where no formula gives it."""
    try:
        return fleet_bound_per_s(fleet, workload) or math.inf
    except InputError:
        return math.inf


def highest_rate(meets: Callable[[float], bool], start: float, ceiling: float | None, step: float,
                 tolerance: float) -> float:
    """The highest rate that meets, by geometric bracketing from ``start`` and bisection.

    ``meets`` is taken to be monotone; 0 when nothing down to a thousandth of ``start`` meets.
    Raises InputError when a thousand times ``start`` still meets: then no rate would miss.
    """
    low = high = start
    if meets(start):
        while ceiling is None or low < ceiling:
            high = low * step if ceiling is None else min(low * step, ceiling)
            if high > 1000 * start:
                raise InputError(f"capacity: the objectives are met even at {low:.4g} requests/s; "
                                 "the requests are too few to load the fleet, so raise "
                                 "num_requests")
            if not meets(high):
                break
            low, step = high, step * step if step < 1.3 else step
        else:
            return low
    else:
        while True:
            low, step = high / step, step * step if step < 1.3 else step
            if low < start / 1000:
                return 0.0
            if meets(low):
                break
            high = low
    while high / low > 1.0 + tolerance:
        middle = math.sqrt(low * high)
        if meets(middle):
            low = middle
        else:
            high = middle
    return low


def _check(share: float, tolerance: float, low: float | None, high: float | None) -> None:
    if not 0.0 < share <= 1.0:
        raise InputError(f"attainment is {share:g}; expected a share above 0 and at most 1, "
                         "such as 0.99")
    if not 0.0 < tolerance < 1.0:
        raise InputError(f"tolerance is {tolerance:g}; expected a number between 0 and 1, "
                         "such as 0.01")
    for name, rate in (("low", low), ("high", high)):
        if rate is not None and not 0.0 < rate < math.inf:
            raise InputError(f"{name} is {rate:g}; expected requests per second above 0")
    if low is not None and high is not None and low >= high:
        raise InputError(f"low is {low:g} and high is {high:g}; expected low below high")
