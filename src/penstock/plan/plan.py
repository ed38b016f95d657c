"""From a fleet file to a plan: demands, candidates, the optimum, and its check by simulation."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from penstock.core.errors import InputError
from penstock.fleet.sources import fleet_workload
from penstock.fleet.traffic import check_open
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.plan.assign.problem import Pool
from penstock.plan.check import Checked, Solve, check
from penstock.plan.demands import Demand, demands_of, part_of
from penstock.plan.estimate import Candidate, estimate
from penstock.plan.headroom import headroom, most_growth
from penstock.plan.propose import (
    Choice,
    considered,
    current_groups,
    format_fleet,
    groups_of,
    whole_fleet,
)
from penstock.plan.split import AGAIN, Split, best_split
from penstock.plan.trials import Trial
from penstock.plan.variants import LeftOut, variant_name, variants_of
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Dropped:
    """A variant that a plan does not consider for a demand, and why."""

    demand: str
    variant: str
    reason: str


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """A fleet with the replicas proposed for it, and the search that found them.

    ``before`` is the fleet as its file states it. ``headroom`` is the part by which a demand's
    traffic may grow, for demands that are served in full and do not arrive all at once. ``splits``
    are replicas with roles that serve a demand at less cost than the proposed ones, or in full
    where these do not; the fleet has them in the place of those.
    """

    fleet: Fleet
    before: Fleet
    choices: tuple[Choice, ...]
    dropped: tuple[Dropped, ...]
    checked: Checked
    headroom: dict[str, float]
    splits: Mapping[str, Split] = field(default_factory=dict)

    @property
    def served_in_full(self) -> bool:
        """Whether every demand is served in full, and simulation confirms every objective."""
        whole = [choice.demand.name for choice in self.choices
                 if choice.demand.name not in self.splits]
        if not whole:
            return True
        return self.checked.holds and not any(
            name in self.checked.solution.unserved for name in whole)

    @property
    def unserved(self) -> list[str]:
        """Demands that are not served in full."""
        return [name for name in self.checked.solution.unserved if name not in self.splits]

    @property
    def cost_per_hour(self) -> float:
        """Cost of all replicas."""
        return self._with_splits(self.checked.solution.cost_per_hour, "cost_per_hour")

    @property
    def power_w(self) -> float:
        """Power of all replicas, W."""
        return self._with_splits(self.checked.solution.power_w, "power_w")

    @property
    def accelerators(self) -> dict[str, int]:
        """Number of accelerators of each kind."""
        found = dict(self.checked.solution.accelerators)
        for name, split in self.splits.items():
            for kind, count in self._whole_of(name).accelerators.items():
                found[kind] -= count
            for kind, count in split.accelerators.items():
                found[kind] = found.get(kind, 0) + count
        return found

    def _with_splits(self, total: float, what: str) -> float:
        more: float = sum(getattr(split, what) - getattr(self._whole_of(name), what)
                          for name, split in self.splits.items())
        return total + more

    def _whole_of(self, demand: str) -> Pool:
        """Return the replicas without roles that a demand would have."""
        choice = next(one for one in self.choices if one.demand.name == demand)
        return whole_fleet(choice, self.checked.counts[demand])

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
    found = [found for demand in demands for found in _choices(fleet, demand)]
    choices = tuple(choice for choice, _ in found)
    checked = check(fleet, choices, solve, seed=seed,
                    on_trial=lambda trial: say(format_trial(trial)))
    needed = [_needed(fleet, choice, checked) for choice in choices]
    choices = tuple(choice for choice, _ in needed)
    splits = {} if fleet.disaggregation is None else _splits(fleet, choices, checked, say)
    say("measuring headroom")
    return FleetPlan(replace(fleet, replicas=_replicas(choices, checked, splits),
                             disaggregation=fleet.disaggregation if splits else None),
                     fleet, choices,
                     tuple(d for _, dropped in (*found, *needed) for d in dropped), checked,
                     _headroom(fleet, choices, checked, splits), splits)


def _splits(fleet: Fleet, choices: tuple[Choice, ...], checked: Checked,
            say: Callable[[str], None]) -> dict[str, Split]:
    """Return replicas with roles for the demands where they are better."""
    used = dict(checked.solution.accelerators)
    found: dict[str, Split] = {}
    others = tuple(fleet_workload(fleet, fleet.run.seed + AGAIN + number)
                   for number in range(fleet.plan.num_seeds))
    again = {demand.name: demand for demand in demands_of(fleet, others)}
    for choice in choices:
        name = choice.demand.name
        other = again.get(name) or choice.demand
        say(f"{name}: prefill and decode apart")
        whole = whole_fleet(choice, checked.counts[name])
        free = {pool.accelerator.name: pool.count - used.get(pool.accelerator.name, 0)
                + whole.accelerators.get(pool.accelerator.name, 0)
                for pool in fleet.accelerators if pool.count is not None}
        below = whole.cost_per_hour if checked.serves(name) else inf
        split = best_split(fleet, choice, below, free, fleet.run.seed, other)
        if split is not None:
            found[name] = split
            for sign, counts in ((-1, whole.accelerators), (1, split.accelerators)):
                for kind, count in counts.items():
                    used[kind] = used.get(kind, 0) + sign * count
    return found


def _silent(text: str) -> None:
    """Ignore the text."""


def format_trial(trial: Trial) -> str:
    """A trial in a few words."""
    verdict = "enough" if trial.verdict.meets else "too little"
    return f"{trial.demand}: {format_fleet(trial.counts)} {verdict}"


def _choices(fleet: Fleet, demand: Demand) -> list[tuple[Choice, list[Dropped]]]:
    """The choice for a demand.

    Where no variant can serve all of its classes, classes that no variant can serve even alone
    become demands of their own, so that the others are planned without them.
    """
    whole = _choice(fleet, demand)
    if whole[0].candidates or len(demand.classes) == 1:
        return [whole]
    alone = {c.name: _choice(fleet, part_of(demand, (c,))) for c in demand.classes}
    able = tuple(c for c in demand.classes if alone[c.name][0].candidates)
    if not able:
        return [whole]
    rest = _choice(fleet, part_of(demand, able))
    if not rest[0].candidates:  # each class can be served, but not all by the same replicas
        return list(alone.values())
    return [rest, *(alone[c.name] for c in demand.classes if c not in able)]


def _choice(fleet: Fleet, demand: Demand) -> tuple[Choice, list[Dropped]]:
    groups_now = current_groups(fleet, demand)
    running = {variant_name(group) for group in groups_now}
    variants, impossible = variants_of(fleet, demand.model, demand.longest_tokens, groups_now,
                                       confidential=demand.confidential)
    if fleet.plan.keep_accelerators and running:
        kept = {group.accelerator.name for group in groups_now}
        impossible += [LeftOut(v.name, "keep_accelerators is set")
                       for v in variants if v.group.accelerator.name not in kept]
        variants = [v for v in variants if v.group.accelerator.name in kept]
    estimates = [estimate(fleet, demand, variant) for variant in variants]
    able = [e for e in estimates if isinstance(e, Candidate)]
    impossible += [e for e in estimates if isinstance(e, LeftOut)]
    return (Choice(demand, tuple(sorted(able, key=lambda c: c.variant.name))),
            [Dropped(demand.name, left.name, left.reason) for left in impossible])


def _needed(fleet: Fleet, choice: Choice, checked: Checked) -> tuple[Choice, list[Dropped]]:
    """The candidates that the final rates leave in the choice, and those that they drop."""
    kept, left_out = considered(fleet, choice, checked.rates)
    used = dict(checked.counts[choice.demand.name])
    kept += [c for c in choice.candidates if c.variant.name in used and c not in kept]
    rest = tuple(c for c in choice.candidates if c not in kept
                 and checked.rates[choice.demand.name, c.variant.name] > 0.0)
    return (Choice(choice.demand, tuple(sorted(kept, key=lambda c: c.variant.name)), rest),
            [Dropped(choice.demand.name, left.name, left.reason) for left in left_out
             if left.name not in used])


def _replicas(choices: tuple[Choice, ...], checked: Checked,
              splits: Mapping[str, Split]) -> tuple[ReplicaGroup, ...]:
    return tuple(group for choice in choices for group in (
        splits[choice.demand.name].groups if choice.demand.name in splits
        else groups_of(choice, checked.counts[choice.demand.name])))


def _headroom(fleet: Fleet, choices: tuple[Choice, ...], checked: Checked,
              splits: Container[str]) -> dict[str, float]:
    return {choice.demand.name: headroom(fleet, choice.demand,
                                         groups_of(choice, checked.counts[choice.demand.name]),
                                         seed=fleet.run.seed,
                                         most=most_growth(
                                             choice, checked.counts[choice.demand.name]))
            for choice in choices
            if checked.serves(choice.demand.name) and choice.demand.name not in splits
            and choice.demand.sample.arrival_s[0] < choice.demand.sample.arrival_s[-1]}
