"""Several models on one node: plans by several strategies, judged on the same arrivals.

Plans are made for one draw of arrivals and judged on another of the same kind, so that none is
rewarded for having seen what it is judged by. Devices work on one start at a time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.estimate.choosing import footprint_of
from penstock.estimate.configurations import possible
from penstock.perf.fingerprint.estimator import Estimates
from penstock.plan.place.options import Forecast, PlacedReplicas, PlacementOption, best_ways
from penstock.plan.place.outcome import Outcome, outcome_of
from penstock.plan.place.shared import Goal, NoRoomError, plan_shared
from penstock.plan.place.simulated_groups import plan_groups
from penstock.policy.place.balanced import BalancedPlacer
from penstock.policy.place.values import Device, Placement
from penstock.workload.arrivals import ArrivalProcess

STRATEGIES = ("penstock", "alpaserve")


@dataclass(frozen=True, slots=True)
class Guest:
    """A model that is to be served, and how often it is asked."""

    model: str
    rate_per_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """Load of one model: tokens by request, how many requests are drawn, how unevenly they come
    (see ``ArrivalProcess.gap_cv``), and from what seed."""

    output_tokens: int
    prompt_tokens: int | None
    num_requests: int
    gap_cv: float
    seed: int


@dataclass(frozen=True, slots=True)
class Terms:
    """Goals and limits. A request is in time within ``slo_s``, else within
    ``slo_factor`` times its model's quickest answer; ``max_batch`` of them may start together;
    ``precisions`` limits the weights' number formats (None: any)."""

    goal: Goal
    slo_factor: float
    slo_s: float | None = None
    max_batch: int = 1
    precisions: frozenset[str] | None = None
    max_simulated: int = 1000


@dataclass(frozen=True, slots=True)
class Shared:
    """Plan of a strategy (None: a model is left out) and its outcome on arrivals that the strategy
    did not see; ``complete`` is False where the search was ended by its limit. Without seats,
    ``reason`` says why."""

    strategy: str
    seats: tuple[PlacedReplicas | None, ...] = ()
    outcome: Outcome | None = None
    num_simulated: int = 0
    reason: str = ""


Each = Callable[[Callable[[str], Shared], Sequence[str]], Iterable[Shared]]


def together(estimator: Estimates, guests: Sequence[Guest], devices: Sequence[Device], load: Load,
             terms: Terms, strategies: Sequence[str], each: Each = map
             ) -> tuple[list[Shared], list[float]]:
    """A plan by each strategy, and the limits in seconds that requests of each model must keep.

    ``each`` computes the plans of the strategies.

    Raises InputError for an unknown strategy and a model without fingerprints or configurations.
    """
    for strategy in strategies:
        if strategy not in STRATEGIES:
            raise InputError(f"strategy: {strategy!r} is unknown{nearest(strategy, STRATEGIES)}")
    ways = [_ways(estimator, guest.model, devices, load, terms) for guest in guests]
    limits_s = [terms.slo_s or terms.slo_factor * min(way.work_s for way in own) for own in ways]
    planned, judged = (_forecast(guests, load, draw) for draw in (0, 1))
    return list(each(partial(_planned, ways, devices, planned, judged, limits_s, terms),
                     strategies)), limits_s


def _planned(ways: Sequence[Sequence[PlacementOption]], devices: Sequence[Device],
             planned: Forecast, judged: Forecast, limits_s: Sequence[float], terms: Terms,
             strategy: str) -> Shared:
    one = (_groups if strategy == "alpaserve" else _own)(ways, devices, planned, limits_s, terms)
    return one if one.reason else Shared(strategy, one.seats, outcome_of(one.seats, judged),
                                         one.num_simulated)


def _own(ways: Sequence[Sequence[PlacementOption]], devices: Sequence[Device], forecast: Forecast,
         _: Sequence[float], terms: Terms) -> Shared:
    try:
        plan = plan_shared([best_ways(each) for each in ways], devices, forecast, terms.goal,
                           max_simulated=terms.max_simulated)
    except NoRoomError as error:
        return Shared("penstock", reason=str(error))
    return Shared("penstock", plan.seats, num_simulated=plan.num_simulated)


def _groups(ways: Sequence[Sequence[PlacementOption]], devices: Sequence[Device],
            forecast: Forecast, limits_s: Sequence[float], terms: Terms) -> Shared:
    plan = plan_groups(ways, devices, forecast, limits_s, max_simulated=terms.max_simulated)
    if not any(plan.seats):
        return Shared("alpaserve", reason=f"none of the {len(ways)} models has room in any group")
    return Shared("alpaserve", plan.seats, num_simulated=plan.num_simulated)


def _ways(estimator: Estimates, model: str, devices: Sequence[Device], load: Load,
          terms: Terms) -> list[PlacementOption]:
    """Every configuration that a device's whole memory could hold, as estimated."""
    subject = estimator.subjects.get(model)
    if subject is None or model not in estimator.cuts.models:
        raise InputError(f"model {model!r}: no fingerprints of it"
                         f"{nearest(model, estimator.cuts.models)}")
    empty = [Device(each.device_id, each.node, each.total_bytes) for each in devices]
    found = []
    for configuration in possible(subject, estimator.cuts, model, len(devices)):
        size = configuration.parallelism.num_accelerators
        allowed = terms.precisions is None or configuration.precision in terms.precisions
        if not allowed or size & (size - 1):
            continue
        alone, full = (estimator.estimate(model, configuration, load.output_tokens, batch,
                                          load.prompt_tokens) for batch in (1, terms.max_batch))
        placed = BalancedPlacer().place(footprint_of(subject, model, configuration, full), empty)
        if isinstance(placed, Placement):
            growth = 1.0 if terms.max_batch == 1 else max(
                0.0, full.latency_s.value / alone.latency_s.value - 1.0) / (terms.max_batch - 1)
            found.append(PlacementOption(configuration, alone.latency_s.value,
                             max(placed.bytes_by_device.values()), growth, terms.max_batch))
    if not found:
        raise InputError(f"model {model!r}: no configuration that is allowed fits on "
                         f"{len(devices)} empty devices")
    return found


def _forecast(guests: Sequence[Guest], load: Load, draw: int) -> Forecast:
    """Arrivals of all models in order of time, over the time that so many take on average."""
    duration_s = load.num_requests / sum(guest.rate_per_s for guest in guests)
    process = ArrivalProcess(load.gap_cv)
    moments: list[tuple[float, int]] = []
    for place, guest in enumerate(guests):
        rng = np.random.default_rng(np.random.SeedSequence((load.seed, draw, place)))
        moments += [(moment, place) for moment in process.arrivals(
            rng, guest.rate_per_s, duration_s=duration_s).tolist()]
    moments.sort()
    if not moments:
        raise InputError(f"requests: {load.num_requests} are too few to draw arrivals of")
    return Forecast(tuple(moment for moment, _ in moments), tuple(place for _, place in moments))
