"""One plan of a bundle with one of Inferno's solvers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from time import perf_counter
from typing import Literal

from penstock.core.errors import InputError
from penstock.published.inferno.candidates import Candidates, find_candidates, mixture
from penstock.published.inferno.greedy import TieKey, best_first, by_name, solve_greedy
from penstock.published.inferno.milp import solve_milp
from penstock.published.inferno.pools import used_devices
from penstock.published.inferno.values import Allocation, OptimizerOptions, Policy, System

Solver = Literal["unlimited", "greedy", "milp-single", "milp-multi"]
SOLVERS: tuple[Solver, ...] = ("unlimited", "greedy", "milp-single", "milp-multi")
Status = Literal["optimal", "heuristic", "infeasible", "time_limit"]

NO_ROOM = "no accelerator has room for all its replicas"


@dataclass(frozen=True, slots=True)
class Settings:
    """Solver and its settings; only the greedy solver reads policy and order of best effort."""

    solver: Solver = "greedy"
    saturation_policy: Policy = "None"
    delayed_best_effort: bool = False
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class InfernoPlan:
    """Plan of a bundle.

    ``parts`` are the allocations of each served server: one, or with ``milp-multi`` one per
    accelerator. ``unserved`` says why the others have none. ``objective`` and ``bound`` are what
    the solver minimises: the sum of values (transition penalties), or with a MILP of costs, in
    cents per hour. The greedy solver's bound is what unlimited supply would allow; there is none
    when somebody is left short.
    """

    system: System
    settings: Settings
    status: Status
    parts: Mapping[str, tuple[Allocation, ...]]
    unserved: Mapping[str, str]
    objective: float | None
    bound: float | None
    time_s: float

    @property
    def allocations(self) -> dict[str, Allocation]:
        """One allocation per served server; a mixture is added up under the names' sum."""
        return {name: parts[0] if len(parts) == 1 else _added(parts)
                for name, parts in sorted(self.parts.items())}

    @property
    def saturated(self) -> tuple[str, ...]:
        """Servers that get more than their replicas can serve within the targets."""
        return tuple(name for name, allocation in self.allocations.items()
                     if allocation.saturated(self.system.servers[name].load))

    @property
    def complete(self) -> bool:
        """Whether every server is served within its targets."""
        return not self.unserved and not self.saturated

    @property
    def total_cost(self) -> float:
        """Cents per hour."""
        return fsum(part.cost_cents_per_hour for parts in self.parts.values() for part in parts)

    @property
    def gap(self) -> float | None:
        """How far the objective may be above the optimum, as a share of it."""
        if self.objective is None or self.bound is None:
            return None
        difference = max(0.0, self.objective - self.bound)
        return difference / abs(self.objective) if difference else 0.0

    @property
    def used_devices(self) -> dict[str, int]:
        """Devices in use by pool."""
        return used_devices(self.system, self.parts)

    @property
    def upstream_error(self) -> str | None:
        """Return the error of optimizer-light (schema v2) for a plan that leaves servers out."""
        if self.system.generation != "v2" or not self.unserved:
            return None
        return f"no feasible allocation for servers: [{', '.join(sorted(self.unserved))}]"


def settings_of(options: OptimizerOptions) -> Settings:
    """The solver that a bundle's own options name."""
    if options.unlimited:
        solver: Solver = "unlimited"
    elif options.milp_solver:
        solver = "milp-multi" if options.heterogeneous else "milp-single"
    else:
        solver = "greedy"
    return Settings(solver, options.saturation_policy, options.delayed_best_effort)


def solve(system: System, settings: Settings, tie_key: TieKey = by_name,
          candidates: Candidates | None = None) -> InfernoPlan:
    """Plan a bundle. ``tie_key`` decides where values are equal; ``candidates`` spares their search
    when they are known.

    Raises InputError when a solver for limited supply gets no capacity. Servers that cannot be
    served are left out, each with its reason.
    """
    if settings.solver != "unlimited" and system.capacity is None:
        raise InputError(f"solver {settings.solver} needs the number of devices: the bundle has no "
                         "capacity-data.json; state it, or plan with --solver unlimited")
    start = perf_counter()
    found = candidates or find_candidates(system)
    ordered = {name: best_first(name, options.values(), tie_key)
               for name, options in found.by_server.items() if options}
    if settings.solver == "unlimited":
        plan = _unlimited(system, settings, ordered)
    elif settings.solver == "greedy":
        plan = _greedy(system, settings, ordered, tie_key)
    else:
        plan = _milp(system, settings, ordered)
    unserved = {name: plan.unserved.get(name) or found.reason(name)
                for name in sorted(system.servers) if name not in plan.parts}
    return replace(plan, unserved=unserved, time_s=perf_counter() - start)


def _unlimited(system: System, settings: Settings,
               candidates: Mapping[str, Sequence[Allocation]]) -> InfernoPlan:
    best = {name: (options[0],) for name, options in candidates.items()}
    value = fsum(parts[0].value for parts in best.values())
    return InfernoPlan(system, settings, "optimal", best, {}, value, value, 0.0)


def _greedy(system: System, settings: Settings, candidates: Mapping[str, Sequence[Allocation]],
            tie_key: TieKey) -> InfernoPlan:
    found = solve_greedy(system, candidates, settings.saturation_policy,
                         settings.delayed_best_effort, tie_key)
    whole = {name for name, allocation in found.items() if allocation in candidates[name]}
    bound = fsum(options[0].value for options in candidates.values())
    return InfernoPlan(
        system, settings, "heuristic", {name: (found[name],) for name in found},
        {name: NO_ROOM for name in candidates if name not in found},
        fsum(allocation.value for allocation in found.values()),
        bound if len(whole) == len(system.servers) else None, 0.0)


def _milp(system: System, settings: Settings,
          candidates: Mapping[str, Sequence[Allocation]]) -> InfernoPlan:
    """Solve by the program; servers that need no replicas have none."""
    mixed = settings.solver == "milp-multi"
    placed = {name: options for name, options in candidates.items() if options[0].num_replicas}
    answer = solve_milp(system, placed, mixed, settings.time_limit_s)
    parts: dict[str, tuple[Allocation, ...]] = {
        name: (options[0],) for name, options in candidates.items() if name not in placed}
    unserved: dict[str, str] = {}
    for name, options in placed.items():
        counts = answer.counts.get(name, {})
        chosen = [option for option in options if option.accelerator in counts]
        if not chosen:
            unserved[name] = (
                "no assignment serves every server in full with these devices"
                if answer.status == "infeasible" else "none found within the time limit")
        elif mixed and not system.servers[name].load.is_zero:
            parts[name] = mixture(system, system.servers[name], chosen, counts)
        else:
            parts[name] = (chosen[0],)
    return InfernoPlan(system, settings, answer.status, parts, unserved, answer.objective,
                       answer.bound, 0.0)


def _added(parts: Sequence[Allocation]) -> Allocation:
    """A mixture as one line: replicas and costs added, latencies weighted by what each serves."""
    weights = [part.num_replicas * part.max_per_min for part in parts]

    def mean(values: Sequence[float]) -> float:
        return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

    replicas = sum(part.num_replicas for part in parts)
    return Allocation(
        " + ".join(part.accelerator for part in parts), replicas,
        max(part.max_batch for part in parts), sum(part.cost_cents_per_hour for part in parts),
        sum(part.value for part in parts), mean([part.itl_ms for part in parts]),
        mean([part.ttft_ms for part in parts]), mean([part.rho for part in parts]),
        sum(weights) / replicas)
