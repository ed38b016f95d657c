"""From a fleet file to a plan: demands, candidates, the optimum, and its check by simulation."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from penstock.core.errors import InputError
from penstock.fleet.sources import fleet_workload
from penstock.fleet.traffic import check_open
from penstock.fleet.values import Fleet
from penstock.plan.check import Checked, Search, Solve
from penstock.plan.choices import Dropped, choices_of
from penstock.plan.demands import demands_of
from penstock.plan.headroom import headroom, most_growth
from penstock.plan.other_seed import OtherSeed
from penstock.plan.propose import (
    Choice,
    considered,
    format_fleet,
    groups_of,
    whole_fleet,
)
from penstock.plan.split import Splits
from penstock.plan.trials import Trial, Trials
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """A fleet with the replicas proposed for it, and the search that found them.

    ``before`` is the fleet as its file states it. ``headroom`` is the part by which a demand's
    traffic may grow, for demands that are served in full and do not arrive all at once. ``whole``
    is the search without roles, None where no replicas with roles were worth a proposal.
    """

    fleet: Fleet
    before: Fleet
    choices: tuple[Choice, ...]
    dropped: tuple[Dropped, ...]
    checked: Checked
    headroom: dict[str, float]
    whole: Checked | None = None

    def is_split(self, demand: str) -> bool:
        """Whether replicas with roles serve a demand."""
        choice = next(one for one in self.choices if one.demand.name == demand)
        return choice.is_split(self.checked.counts[demand])

    @property
    def has_roles(self) -> bool:
        """Whether replicas with roles serve any demand."""
        return any(self.is_split(choice.demand.name) for choice in self.choices)

    @property
    def served_in_full(self) -> bool:
        """Whether every demand is served in full, and simulation confirms every objective."""
        return self.checked.holds and not self.checked.solution.unserved

    @property
    def unserved(self) -> list[str]:
        """Demands that are not served in full."""
        return list(self.checked.solution.unserved)

    @property
    def cost_per_hour(self) -> float:
        """Cost of all replicas."""
        return self.checked.solution.cost_per_hour

    @property
    def power_w(self) -> float:
        """Power of all replicas, W."""
        return self.checked.solution.power_w

    @property
    def accelerators(self) -> dict[str, int]:
        """Number of accelerators of each kind."""
        return dict(self.checked.solution.accelerators)

    @property
    def fits_nowhere(self) -> str | None:
        """Why no accelerator holds any of the models, in one line; ``None`` where one does."""
        reasons = [dropped.reason for dropped in self.dropped]
        if any(choice.candidates for choice in self.choices) or not any(
                "does not fit" in reason for reason in reasons) or any(
                reason.startswith("misses") for reason in reasons):
            return None
        first = next(reason for reason in reasons if "does not fit" in reason)
        return f"accelerators: {first}; see `penstock plan` for every kind"


def plan_fleet(fleet: Fleet, solve: Solve, *, workload: Workload | None = None,
               on_step: Callable[[str], None] | None = None) -> FleetPlan:
    """The least-cost replicas that meet every objective of ``fleet`` in simulation.

    ``workload`` is the traffic of the run's own seed, if the caller has it already. Raises
    InputError where no request arrives or counts, and as ``fleet_workload`` does.
    """
    check_open(fleet.traffic, "a plan")
    fleet = fleet.unscaled()
    say = on_step or _silent
    seed = fleet.run.seed
    first = fleet_workload(fleet, seed) if workload is None else workload
    workloads = (first, *(fleet_workload(fleet, seed + number)
                          for number in range(1, fleet.plan.num_seeds)))
    demands = demands_of(fleet, workloads)
    if not demands:
        raise InputError("traffic: no request arrives, so there is nothing to plan for")
    if max(workload.duration_s for workload in workloads) < fleet.run.warmup_s:
        raise InputError(f"run.warmup_s: no request arrives after {fleet.run.warmup_s:g} s, so "
                         "none would count; expected less than the traffic's length")
    say(f"estimating variants for {', '.join(demand.name for demand in demands)}")
    found = [found for demand in demands for found in choices_of(fleet, demand)]
    trials = Trials(fleet, seed, lambda trial: say(format_trial(trial)),
                    OtherSeed(fleet, workloads).of)
    search = Search(fleet, [choice for choice, _ in found], solve, trials)
    checked, whole = search.run(), None
    if fleet.disaggregation is not None and _offer_splits(fleet, search, checked, trials, solve,
                                                          say):
        checked, whole = search.run(), checked
    needed = [_needed(fleet, choice, checked) for choice in search.choices]
    choices = tuple(choice for choice, _ in needed)
    say("measuring headroom")
    plan = FleetPlan(
        replace(fleet, replicas=tuple(group for choice in choices for group in groups_of(
            choice, checked.counts[choice.demand.name]))), fleet, choices,
        tuple(d for _, dropped in (*found, *needed) for d in dropped), checked,
        _headroom(fleet, choices, checked), whole)
    return plan if plan.has_roles else replace(
        plan, fleet=replace(plan.fleet, disaggregation=None))


def _offer_splits(fleet: Fleet, search: Search, checked: Checked, trials: Trials, solve: Solve,
                  say: Callable[[str], None]) -> bool:
    """Offer the search replicas with roles for the demands that they serve at less cost, or in full
    where whole replicas do not. Returns whether there are any."""
    used = Counter(checked.solution.accelerators)
    offered = False
    for choice in search.choices:
        name = choice.demand.name
        say(f"{name}: prefill and decode apart")
        whole = whole_fleet(choice, checked.counts[name])
        used.subtract(whole.accelerators)
        free = {pool.accelerator.name: pool.count - used[pool.accelerator.name]
                for pool in fleet.accelerators if pool.count is not None}
        splits = Splits(fleet, choice, free, trials, solve, fleet.run.seed)
        taken = whole
        for counts in splits.found(whole.cost_per_hour if checked.serves(name) else inf):
            search.offer(splits.choice, counts)
            taken, offered = whole_fleet(splits.choice, counts), True
        used.update(taken.accelerators)
    return offered


def _silent(text: str) -> None:
    """Ignore the text."""


def format_trial(trial: Trial) -> str:
    """A trial in a few words."""
    verdict = "enough" if trial.verdict.meets else "too little"
    return f"{trial.demand}: {format_fleet(trial.counts)} {verdict}"


def _needed(fleet: Fleet, choice: Choice, checked: Checked) -> tuple[Choice, list[Dropped]]:
    """The candidates that the final rates leave in the choice, and those that they drop."""
    kept, left_out = considered(fleet, choice, checked.rates)
    used = dict(checked.counts[choice.demand.name])
    kept += [c for c in choice.candidates if c.variant.name in used and c not in kept]
    rest = tuple(c for c in choice.candidates if c not in kept
                 and checked.rates[choice.demand.name, c.variant.name] > 0.0)
    return (replace(choice, candidates=tuple(sorted(kept, key=lambda c: c.variant.name)),
                    dominated=rest),
            [Dropped(choice.demand.name, left.name, left.reason) for left in left_out
             if left.name not in used])


def _headroom(fleet: Fleet, choices: tuple[Choice, ...], checked: Checked) -> dict[str, float]:
    return {choice.demand.name: headroom(fleet, choice.demand,
                                         groups_of(choice, checked.counts[choice.demand.name]),
                                         seed=fleet.run.seed,
                                         most=most_growth(
                                             fleet, choice, checked.counts[choice.demand.name]))
            for choice in choices if checked.serves(choice.demand.name)
            and choice.demand.sample.arrival_s[0] < choice.demand.sample.arrival_s[-1]}
