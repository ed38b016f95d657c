"""Inferno's integer program, solved to optimality with HiGHS.

The program of llm-inferno/optimizer: least cost, cards limited by pool, every server served in
full. It knows no priority, no transition penalty and no floor of replicas. ``single`` puts a server
on one accelerator; ``multi`` may mix, with capacities that add up to the server's arrival rate.
Upstream stops lp_solve after 60 s with whatever it has; here the optimum is proven.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from penstock.plan.inferno.candidates import replicas_for
from penstock.plan.inferno.values import Allocation, System

Status = Literal["optimal", "infeasible", "time_limit"]


@dataclass(frozen=True, slots=True)
class MilpAnswer:
    """``counts`` are replicas by server and accelerator; empty without a solution. ``objective``
    and ``bound`` are cents per hour."""

    status: Status
    objective: float | None
    bound: float | None
    counts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class _Column:
    """A server on an accelerator: whole (``replicas`` each time it is chosen) or by replica."""

    server: str
    accelerator: str
    cost: float
    covers: float
    pool: str
    cards: int
    replicas: int


def solve_milp(system: System, candidates: Mapping[str, Sequence[Allocation]], mixed: bool,
               time_limit_s: float | None = None) -> MilpAnswer:
    """The least cost at which every server of ``candidates`` is served in full.

    Rows and columns are in the order of names, so equal input in any order gives equal answers.
    """
    columns = [_column(system, name, candidate, mixed) for name in sorted(candidates)
               for candidate in sorted(candidates[name], key=lambda c: c.accelerator)]
    if not columns:
        return MilpAnswer("optimal", 0.0, 0.0, {})
    status, values, objective, bound = _highs(columns, system.capacity or {}, mixed, time_limit_s)
    counts: dict[str, dict[str, int]] = {}
    for column, value in zip(columns, values, strict=False):
        if round(value):
            chosen = counts.setdefault(column.server, {})
            chosen[column.accelerator] = column.replicas * round(value)
    return MilpAnswer(status, objective, bound, counts)


def _column(system: System, name: str, candidate: Allocation, mixed: bool) -> _Column:
    server = system.servers[name]
    pool, cards = system.units(candidate, server)
    profile = system.profiles[server.model, candidate.accelerator]
    cost = system.accelerators[candidate.accelerator].cost_cents_per_hour * profile.acc_count
    needed = server.load.arrival_per_min / candidate.max_per_min
    replicas = 1 if mixed else replicas_for(server.load.arrival_per_min, candidate.max_per_min)
    # Coverage is a share of what the server needs: one scale for rows of very different rates.
    return _Column(name, candidate.accelerator, cost * replicas,
                   1.0 / needed if mixed else 1.0, pool, cards * replicas, replicas)


def _highs(columns: Sequence[_Column], capacity: Mapping[str, int], mixed: bool,
           time_limit_s: float | None) -> tuple[Status, list[float], float | None, float | None]:
    import highspy

    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    # No dual bound may stop short of the objective: costs are often whole or quarter cents.
    for option, value in (("output_flag", False), ("mip_rel_gap", 0.0), ("mip_abs_gap", 1e-7)):
        solver.setOptionValue(option, value)
    if time_limit_s is not None:
        solver.setOptionValue("time_limit", time_limit_s)
    for index, column in enumerate(columns):
        solver.addVar(0.0, highspy.kHighsInf if mixed else 1.0)
        solver.changeColCost(index, column.cost)
        solver.changeColIntegrality(index, highspy.HighsVarType.kInteger)
    for name in sorted({column.server for column in columns}):
        row = [(i, column.covers) for i, column in enumerate(columns) if column.server == name]
        solver.addRow(1.0, highspy.kHighsInf if mixed else 1.0, len(row), *_sparse(row))
    for pool in sorted({column.pool for column in columns}):
        row = [(i, float(c.cards)) for i, c in enumerate(columns) if c.pool == pool]
        solver.addRow(0.0, float(capacity.get(pool, 0)), len(row), *_sparse(row))
    solver.run()
    model, info = solver.getModelStatus(), solver.getInfo()
    if model in (highspy.HighsModelStatus.kInfeasible,
                 highspy.HighsModelStatus.kUnboundedOrInfeasible):
        return "infeasible", [], None, None
    status: Status = "optimal" if model == highspy.HighsModelStatus.kOptimal else "time_limit"
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return status, [], None, info.mip_dual_bound
    values = list(solver.getSolution().col_value)
    return status, values, info.objective_function_value, info.mip_dual_bound


def _sparse(row: Sequence[tuple[int, float]]) -> "tuple[list[int], list[float]]":
    return [index for index, _ in row], [value for _, value in row]
