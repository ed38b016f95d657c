"""Inferno's integer program, solved to optimality with HiGHS.

The program of llm-inferno/optimizer: least cost, devices limited by pool, every server served in
full. It knows no priority and no transition penalty. ``single`` puts a server on one accelerator;
``multi`` may mix, with capacities that add up to the server's demand. Upstream stops lp_solve after
60 s with whatever it has, and leaves floors of replicas and targets of tokens per second out; here
the optimum is proven and both count.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Literal

from penstock.published.inferno.candidates import demand_per_s
from penstock.published.inferno.values import Allocation, System

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
    """A server on an accelerator: ``whole``, with ``replicas`` if it is chosen, or by replica."""

    server: str
    accelerator: str
    whole: bool
    cost: float
    covers: float
    pool: str
    devices: int
    replicas: int


def solve_milp(system: System, candidates: Mapping[str, Sequence[Allocation]], mixed: bool,
               time_limit_s: float | None = None) -> MilpAnswer:
    """The least cost at which every server of ``candidates`` is served in full.

    A server without load has its floor of replicas on one accelerator, in mixtures too; candidates
    without replicas are not for here. Rows and columns are in the order of names, so equal input in
    any order gives equal answers.
    """
    columns = [_column(system, name, candidate, mixed) for name in sorted(candidates)
               for candidate in sorted(candidates[name], key=lambda c: c.accelerator)]
    if not columns:
        return MilpAnswer("optimal", 0.0, 0.0, {})
    floors = {name: system.servers[name].min_num_replicas for name in candidates}
    status, values, bound = _highs(_Program(tuple(columns), system.capacity or {}, floors),
                                   time_limit_s)
    counts: dict[str, dict[str, int]] = {}
    for column, value in zip(columns, values, strict=False):
        if round(value):
            chosen = counts.setdefault(column.server, {})
            chosen[column.accelerator] = column.replicas * round(value)
    objective = fsum(column.cost * round(value)
                     for column, value in zip(columns, values, strict=False)) if values else None
    # The solver's own objective and bound carry rounding in their last digits.
    if objective is not None and bound is not None and abs(bound - objective) <= 1e-6:
        bound = objective
    return MilpAnswer(status, objective, bound, counts)


def _column(system: System, name: str, candidate: Allocation, mixed: bool) -> _Column:
    server = system.servers[name]
    pool, devices = system.units(candidate, server)
    profile = system.profiles[server.model, candidate.accelerator]
    cost = system.accelerators[candidate.accelerator].cost_cents_per_hour * profile.acc_count
    if not mixed or server.load.is_zero:
        replicas = candidate.num_replicas
        return _Column(name, candidate.accelerator, True, cost * replicas, 1.0, pool,
                       devices * replicas, replicas)
    # Coverage is a share of what the server needs: one scale for rows of very different rates.
    needed = 60.0 * demand_per_s(system, server) / candidate.max_per_min
    return _Column(name, candidate.accelerator, False, cost, 1.0 / needed, pool, devices, 1)


@dataclass(frozen=True, slots=True)
class _Program:
    columns: tuple[_Column, ...]
    capacity: Mapping[str, int]
    floors: Mapping[str, int]


def _highs(program: _Program,
           time_limit_s: float | None) -> tuple[Status, list[float], float | None]:
    """Status, a value per column (none without a solution) and the proven bound."""
    import highspy

    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, value in (("output_flag", False), ("threads", 1), ("mip_rel_gap", 0.0),
                          ("mip_abs_gap", 1e-7)):
        solver.setOptionValue(option, value)
    if time_limit_s is not None:
        solver.setOptionValue("time_limit", time_limit_s)
    for index, column in enumerate(program.columns):
        solver.addVar(0.0, 1.0 if column.whole else highspy.kHighsInf)
        solver.changeColCost(index, column.cost)
        solver.changeColIntegrality(index, highspy.HighsVarType.kInteger)
    for low, high, row in _rows(program, highspy.kHighsInf):
        solver.addRow(low, high, len(row), list(row), list(row.values()))
    solver.run()
    model, info = solver.getModelStatus(), solver.getInfo()
    if model in (highspy.HighsModelStatus.kInfeasible,
                 highspy.HighsModelStatus.kUnboundedOrInfeasible):
        return "infeasible", [], None
    status: Status = "optimal" if model == highspy.HighsModelStatus.kOptimal else "time_limit"
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return status, [], info.mip_dual_bound
    return status, list(solver.getSolution().col_value), info.mip_dual_bound


def _rows(program: _Program, endless: float) -> Iterator[tuple[float, float, dict[int, float]]]:
    """Each server is covered and has its floor of replicas; each pool has its devices."""
    servers: dict[str, dict[int, _Column]] = {}
    pools: dict[str, dict[int, float]] = {}
    for index, column in enumerate(program.columns):
        servers.setdefault(column.server, {})[index] = column
        pools.setdefault(column.pool, {})[index] = float(column.devices)
    for name, own in servers.items():
        whole = next(iter(own.values())).whole
        yield 1.0, 1.0 if whole else endless, {i: column.covers for i, column in own.items()}
        if program.floors[name] and not whole:
            yield float(program.floors[name]), endless, dict.fromkeys(own, 1.0)
    for pool in sorted(pools):
        yield 0.0, float(program.capacity.get(pool, 0)), pools[pool]
