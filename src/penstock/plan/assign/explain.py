"""Why demands are not served, and the smallest change that would serve each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from penstock.plan.assign.blocks import find_blocks
from penstock.plan.assign.exact import shares_that_fit
from penstock.plan.assign.highs import solve_program
from penstock.plan.assign.instance import Instance, build_instance
from penstock.plan.assign.milp import Milp, Terms, build_milp, vector
from penstock.plan.assign.problem import (
    Demand,
    Limits,
    Option,
    Pool,
    Problem,
    Supply,
    usable_options,
    validated,
)
from penstock.plan.assign.solution import SLACK, Solution

# Options up to which all other demands may move to make room.
_MOVABLE = 2000

What = Literal["accelerators", "cost_per_hour", "power_w", "max_replicas"]


@dataclass(frozen=True, slots=True)
class More:
    """``amount`` more of one thing: accelerators of the type ``name``, money, watts, or replicas
    that pool ``name`` may have."""

    what: What
    name: str
    amount: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """Options that a demand would have under other terms, such as a looser target, and the pools
    that they need beside those of the problem."""

    label: str
    options: tuple[Option, ...]
    pools: tuple[Pool, ...] = ()


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A demand that is not served in full, and the changes that would serve it beside all other
    demands.

    Each of ``remedies`` is enough alone, and the least of its kind. ``together`` is set when no
    single kind is enough: it is the combination with the least sum of relative increases.
    ``looser`` is the label of the first alternative that fits. ``proven`` is False when time ran
    out before an amount was proven least. ``others_move`` says whether demands in other blocks were
    free to move; if not, a remedy may be more than the least.
    """

    demand: str
    served: float
    has_options: bool
    remedies: tuple[More, ...]
    together: tuple[More, ...]
    looser: str | None
    proven: bool
    others_move: bool


def explain(problem: Problem, solution: Solution, *,
            looser: Mapping[str, Sequence[Alternative]] | None = None,
            time_limit_s: float = 10.0) -> tuple[Shortfall, ...]:
    """One shortfall for each demand that ``solution`` leaves unserved, wholly or in part.

    ``looser`` has alternatives by demand, tightest first. ``time_limit_s`` is per program.
    """
    problem = validated(problem)
    found = []
    for name in solution.unserved:
        part, demand, others_move = _with_demand(problem, solution, name)
        wants: list[tuple[More, ...]] = []
        together: tuple[More, ...] = ()
        proven = True
        if demand.options:
            needs = _Needs(part, time_limit_s)
            wants = [more for more in (needs.least([kind]) for kind in needs.kinds) if more]
            if not wants:
                together = needs.least(needs.kinds) or ()
            proven = needs.proven
        label = next((a.label for a in (looser or {}).get(name, ())
                      if _fits_with(part, name, a, time_limit_s)), None)
        found.append(Shortfall(name, solution.served[name], bool(demand.options),
                               tuple(more for (more,) in wants), together, label, proven,
                               others_move))
    return tuple(found)


def _with_demand(problem: Problem, solution: Solution,
                 name: str) -> tuple[Problem, Demand, bool]:
    """The problem of serving all of this demand in addition to everything that is served now."""
    instance = build_instance(problem)
    kept = tuple(_as_served(d, solution.served[d.name]) for d in problem.demands
                 if d.name != name and solution.served[d.name] > SLACK)
    wanted = next(d for d in problem.demands if d.name == name)
    wanted = replace(wanted, options=usable_options(wanted), keep_pool=False)
    if len(instance.option_demand) <= _MOVABLE:
        return replace(problem, demands=(*kept, wanted)), wanted, True
    # In a large problem only the demands that share pools with this one may move.
    near = {name}
    for block in find_blocks(instance):
        names = {problem.demands[d].name for d in block.demands}
        near |= names if name in names else set()
    pools = {o.pool for d in problem.demands if d.name in near for o in usable_options(d)}
    away = {p.name: solution.replicas.get(p.name, 0) for p in problem.pools if p.name not in pools}
    rest = _without(problem, away)
    demands = (*(d for d in kept if d.name in near), wanted)
    left = {d.current.pool for d in demands if d.current}
    return (replace(rest, demands=demands, pools=tuple(
        p for p in problem.pools if p.name in pools or p.name in left)), wanted, False)


def _as_served(demand: Demand, share: float) -> Demand:
    """The demand cut down to the share that is served now."""
    share = min(1.0, share)
    options = tuple(Option(o.pool, o.load * share) for o in usable_options(demand))
    return replace(demand, options=options, keep_pool=False)


def _without(problem: Problem, replicas: Mapping[str, int]) -> Problem:
    """The problem without the resources that these replicas use."""
    left = dict(problem.supply.accelerators)
    cost = power_w = 0.0
    for pool in problem.pools:
        count = replicas.get(pool.name, 0)
        cost, power_w = cost + count * pool.cost_per_hour, power_w + count * pool.power_w
        for kind, each in pool.accelerators.items():
            if kind in left:
                left[kind] = max(0, left[kind] - each * count)
    limits = problem.limits
    return replace(problem, supply=Supply(left), limits=Limits(
        None if limits.cost_per_hour is None else max(0.0, limits.cost_per_hour - cost),
        None if limits.power_w is None else max(0.0, limits.power_w - power_w)))


Kind = tuple[What, str]


class _Needs:
    """The least amounts of limited resources with which a problem can serve everything."""

    def __init__(self, problem: Problem, time_limit_s: float) -> None:
        self._problem = problem
        self._time_limit_s = time_limit_s
        self.proven = True
        used = {o.pool for d in problem.demands for o in d.options}
        types = {kind for p in problem.pools if p.name in used for kind in p.accelerators}
        self.kinds: list[Kind] = [("accelerators", kind) for kind in sorted(types)
                                  if kind in problem.supply.accelerators]
        self.kinds += [("cost_per_hour", "")] if problem.limits.cost_per_hour is not None else []
        self.kinds += [("power_w", "")] if problem.limits.power_w is not None else []
        self.kinds += [("max_replicas", p.name) for p in problem.pools
                       if p.name in used and p.max_replicas is not None]

    def least(self, kinds: Sequence[Kind]) -> tuple[More, ...] | None:
        """The least amounts of these kinds that suffice; None if no amounts do."""
        instance = build_instance(_freed(self._problem, kinds))
        full = np.ones(instance.num_demands, dtype=bool)
        milp = build_milp(instance, full, ~full)
        columns, cost = [], []
        for kind in kinds:
            column, weight = self._excess(milp, kind)
            columns.append(column)
            cost.append((column, weight if len(kinds) > 1 else 1.0))
        goal = vector(milp, cost)
        arrays = milp.program.arrays()
        if solve_program(arrays, goal, relaxed=True).status == "infeasible":
            return None
        answer = solve_program(arrays, goal, time_limit_s=self._time_limit_s)
        if answer.values is None:
            self.proven &= answer.status == "infeasible"
            return None
        self.proven &= answer.status == "optimal"
        amounts = [float(answer.values[column]) for column in columns]
        return tuple(More(*kind, float(round(amount)) if kind[0] in ("accelerators", "max_replicas")
                          else amount)
                     for kind, amount in zip(kinds, amounts, strict=True) if amount > 1e-6)

    def _excess(self, milp: Milp, kind: Kind) -> tuple[int, float]:
        """A column for the amount above what is available, and its weight, 1 over what is
        available."""
        what, name = kind
        pools = milp.instance.problem.pools
        each, available = {
            "accelerators": ([float(p.accelerators.get(name, 0)) for p in pools],
                             float(self._problem.supply.accelerators.get(name, 0))),
            "cost_per_hour": ([p.cost_per_hour for p in pools],
                              self._problem.limits.cost_per_hour or 0.0),
            "power_w": ([p.power_w for p in pools], self._problem.limits.power_w or 0.0),
            "max_replicas": ([float(p.name == name) for p in pools],
                             float(next((p.max_replicas or 0 for p in self._problem.pools
                                         if p.name == name), 0))),
        }[what]
        column = milp.program.column(0.0, np.inf, integer=what in ("accelerators", "max_replicas"))
        terms: Terms = [(c, amount * n) for amount, replicas
                        in zip(each, milp.replicas, strict=True) if amount for c, n in replicas]
        milp.program.row(-np.inf, [*terms, (column, -1.0)], available)
        return column, 1.0 / max(1.0, available)


def _freed(problem: Problem, kinds: Sequence[Kind]) -> Problem:
    """The problem without these limits."""
    names = set(kinds)
    limits = problem.limits
    return replace(
        problem,
        supply=Supply({kind: count for kind, count in problem.supply.accelerators.items()
                       if ("accelerators", kind) not in names}),
        limits=Limits(None if ("cost_per_hour", "") in names else limits.cost_per_hour,
                      None if ("power_w", "") in names else limits.power_w),
        pools=tuple(replace(p, max_replicas=None) if ("max_replicas", p.name) in names else p
                    for p in problem.pools))


def _fits_with(problem: Problem, name: str, other: Alternative, time_limit_s: float) -> bool:
    """Whether everything can be served if the demand has these options."""
    known = {pool.name for pool in problem.pools}
    pools = (*problem.pools, *(p for p in other.pools if p.name not in known))
    demands = tuple(replace(d, options=other.options) if d.name == name else d
                    for d in problem.demands)
    return serves_all(build_instance(replace(problem, pools=pools, demands=demands)), time_limit_s)


def serves_all(instance: Instance, time_limit_s: float) -> bool:
    """Whether a plan that serves everything is found."""
    if not np.diff(instance.first_option).all():
        return False
    full = np.ones(instance.num_demands, dtype=bool)
    milp = build_milp(instance, full, ~full)
    goal = np.zeros(milp.program.num_columns)
    answer = solve_program(milp.program.arrays(), goal, time_limit_s=time_limit_s)
    return answer.values is not None and shares_that_fit(milp, answer, goal) is not None
