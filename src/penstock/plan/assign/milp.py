"""The planning problem as a mixed-integer program.

Demands that are alike and share pools (Melange's slices) are one group with a count. A pool that
one whole demand has to itself needs no variable of its own: its replicas follow from the choice.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penstock.plan.assign.highs import Program
from penstock.plan.assign.instance import (
    Floats,
    Instance,
    pool_load,
    replicas_of,
    served_shares,
)
from penstock.plan.assign.problem import TOLERANCE

Terms = list[tuple[int, float]]


@dataclass(slots=True)
class Milp:
    """Columns and rows for an instance, and the ways between shares (options,) and columns.

    ``replicas[p]`` and ``share[o]`` are linear terms: replicas of a pool, share (summed over a
    group) on an option of the group's first demand; ``served[g]`` is the share of a group. Columns
    by option: ``choice`` (members of the group on it) and ``extent`` (their share, where a part may
    be served); by pool: ``running`` and ``changes`` (started, stopped). Replicas of the pools in
    ``chosen`` follow from a choice.
    """

    instance: Instance
    program: Program
    groups: list[list[int]]
    replicas: list[Terms]
    share: dict[int, Terms]
    served: list[Terms]
    choice: dict[int, int] = field(default_factory=dict)
    extent: dict[int, int] = field(default_factory=dict)
    whole: list[bool] = field(default_factory=list)
    running: dict[int, int] = field(default_factory=dict)
    chosen: set[int] = field(default_factory=set)
    resource_rows: list[int] = field(default_factory=list)
    changes: dict[int, tuple[int, int]] = field(default_factory=dict)


def build_milp(instance: Instance, full: NDArray[np.bool_], skipped: NDArray[np.bool_]) -> Milp:
    """The program in which demands of ``full`` are served whole, ``skipped`` ones not at all."""
    groups = [group for group in _groups(instance, full) if not skipped[group[0]]]
    program = Program()
    milp = Milp(instance, program, groups, [[] for _ in range(instance.num_pools)], {}, [])
    for pool in range(instance.num_pools):
        if not _follows(instance, full, skipped, pool):
            milp.replicas[pool] = [(_pool_column(milp, pool), 1.0)]
    loads: dict[int, Terms] = defaultdict(list)
    for group in groups:
        demand = instance.problem.demands[group[0]]
        whole = bool(full[group[0]]) or not demand.partial
        milp.whole.append(whole)
        if demand.mixed:
            _mixed(milp, group, bool(full[group[0]]), loads)
        else:
            _single(milp, group, bool(full[group[0]]), whole, loads)
    for pool, terms in sorted(loads.items()):
        program.row(0.0, [*milp.replicas[pool], *((c, -load) for c, load in terms)], np.inf)
    for usage, supply in zip(instance.usage, instance.supply, strict=True):
        terms = [(column, float(usage[pool]) * each) for pool in np.flatnonzero(usage)
                 for column, each in milp.replicas[pool]]
        milp.resource_rows.append(program.row(-np.inf, terms, float(supply)))
    return milp


def _groups(instance: Instance, full: NDArray[np.bool_]) -> list[list[int]]:
    """Demands that differ in name only, by their first member."""
    found: dict[object, list[int]] = {}
    for index, demand in enumerate(instance.problem.demands):
        span = instance.options_of(index)
        shared = all(instance.users[instance.option_pool[o]] > 1 for o in span)
        key = ((demand.priority, demand.rate_per_s, demand.mixed, demand.partial, demand.current,
                bool(full[index]), tuple(instance.option_pool[span].tolist()),
                tuple(instance.option_load[span].tolist())) if shared and len(span) else index)
        found.setdefault(key, []).append(index)
    return list(found.values())


def _follows(instance: Instance, full: NDArray[np.bool_], skipped: NDArray[np.bool_],
             pool: int) -> bool:
    """Whether the pool needs no column: nothing uses it, or one whole demand of one pool does."""
    users = instance.option_demand[instance.option_pool == pool]
    users = users[~skipped[users]]
    if len(users) == 0 or instance.upper[pool] == 0:
        return True
    demand = instance.problem.demands[users[0]]
    return len(users) == 1 and not demand.mixed and (bool(full[users[0]]) or not demand.partial)


def _pool_column(milp: Milp, pool: int) -> int:
    instance, program = milp.instance, milp.program
    floor, upper = int(instance.floor[pool]), int(instance.upper[pool])
    column = program.column(0.0, float(upper), integer=True)
    if floor >= 2:
        running = program.column(0.0, 1.0, integer=True)
        program.row(0.0, [(column, 1.0), (running, -float(floor))], np.inf)
        program.row(-np.inf, [(column, 1.0), (running, -float(upper))], 0.0)
        milp.running[pool] = running
    return column


def _single(milp: Milp, group: list[int], full: bool, whole: bool,
            loads: dict[int, Terms]) -> None:
    """One pool for each member: a choice per option and, if a part may be served, its extent."""
    instance, program = milp.instance, milp.program
    count = float(len(group))
    choices: Terms = []
    served: Terms = []
    for option in instance.options_of(group[0]):
        pool = int(instance.option_pool[option])
        alone, upper = int(instance.option_alone[option]), int(instance.upper[pool])
        if upper == 0 or (whole and alone > upper):
            continue
        choice = program.column(0.0, count, integer=True)
        milp.choice[option] = choice
        choices.append((choice, 1.0))
        extent = choice
        if not whole:
            extent = program.column(0.0, count, integer=False)
            milp.extent[option] = extent
            program.row(-np.inf, [(extent, 1.0), (choice, -1.0)], 0.0)
        if milp.replicas[pool]:
            loads[pool].append((extent, float(instance.option_load[option])))
        else:
            milp.replicas[pool] = [(choice, float(alone))]
            milp.chosen.add(pool)
        milp.share[option] = [(extent, 1.0)]
        served.append((extent, 1.0))
    program.row(count if full else 0.0, choices, count)
    milp.served.append(served)


def _mixed(milp: Milp, group: list[int], full: bool, loads: dict[int, Terms]) -> None:
    """Shares over several pools. Replicas of a pool of its own stand for the share they carry."""
    instance, program = milp.instance, milp.program
    demand = instance.problem.demands[group[0]]
    count = float(len(group))
    moves = demand.current is not None and instance.problem.switching.move_fraction > 0
    carried: Terms = []
    for option in instance.options_of(group[0]):
        pool, load = int(instance.option_pool[option]), float(instance.option_load[option])
        if instance.upper[pool] == 0:
            continue
        if instance.users[pool] == 1 and not moves:
            terms = [(column, each / load) for column, each in milp.replicas[pool]]
        else:
            extent = program.column(0.0, count, integer=False)
            milp.extent[option] = extent
            loads[pool].append((extent, load))
            terms = [(extent, 1.0)]
        milp.share[option] = terms
        carried += terms
    if full:
        program.row(count, carried, np.inf)
        milp.served.append([])
        return
    served = program.column(0.0, count, integer=not demand.partial)
    program.row(0.0, [*carried, (served, -1.0)], np.inf)
    milp.served.append([(served, 1.0)])


def vector(milp: Milp, terms: Sequence[tuple[int, float]]) -> Floats:
    """Objective coefficients (columns,) of linear terms; a column may occur several times."""
    found = np.zeros(milp.program.num_columns)
    for column, coefficient in terms:
        found[column] += coefficient
    return found


def cost_terms(milp: Milp) -> Terms:
    """Cost per hour of all replicas."""
    return [(column, float(milp.instance.cost[pool]) * each)
            for pool, terms in enumerate(milp.replicas) for column, each in terms]


def name_terms(milp: Milp) -> Terms:
    """Replicas weighted by their pool's place among the names: least for names that come first."""
    scale = 1.0 / max(1, milp.instance.num_pools)
    return [(column, (1 + pool) * scale * each)
            for pool, terms in enumerate(milp.replicas) for column, each in terms]


def served_terms(milp: Milp, priority: int, total: float) -> Terms:
    """Served rate of one priority, as a share of ``total``."""
    demands = milp.instance.problem.demands
    return [(column, each * demands[group[0]].rate_per_s / total)
            for group, terms in zip(milp.groups, milp.served, strict=True)
            if demands[group[0]].priority == priority for column, each in terms]


def switching_terms(milp: Milp) -> tuple[Terms, float]:
    """Terms and constant of the switching cost; adds columns for pools that run now."""
    instance, switching = milp.instance, milp.instance.problem.switching
    terms: Terms = [(column, float(instance.option_move[option]) * each)
                    for option, share in milp.share.items() if instance.option_move[option]
                    for column, each in share]
    constant = 0.0
    for pool, replicas in enumerate(milp.replicas):
        now = int(instance.current[pool])
        if now == 0:
            terms += [(column, switching.start_cost * each) for column, each in replicas]
        elif pool in milp.chosen or not replicas:
            # All or nothing: starts and stops are linear in the choice.
            terms += [(column, switching.start_cost * max(0.0, each - now)
                       + switching.stop_cost * (max(0.0, now - each) - now))
                      for column, each in replicas]
            constant += switching.stop_cost * now
        else:
            started, stopped = _change_columns(milp, pool)
            terms += [(started, switching.start_cost), (stopped, switching.stop_cost)]
    return terms, constant


def _change_columns(milp: Milp, pool: int) -> tuple[int, int]:
    """Columns for the replicas that a pool starts and stops."""
    if pool not in milp.changes:
        program, now = milp.program, float(milp.instance.current[pool])
        started = program.column(0.0, np.inf, integer=False)
        stopped = program.column(0.0, np.inf, integer=False)
        program.row(-np.inf, [*milp.replicas[pool], (started, -1.0)], now)
        program.row(now, [*milp.replicas[pool], (stopped, 1.0)], np.inf)
        milp.changes[pool] = (started, stopped)
    return milp.changes[pool]


def encode(milp: Milp, shares: Floats) -> Floats:
    """Values (columns,) of a plan given by shares (options,), as a start for the solver."""
    instance = milp.instance
    values = np.zeros(milp.program.num_columns)
    count = replicas_of(instance, pool_load(instance, shares))
    served = served_shares(instance, shares)
    for pool, terms in enumerate(milp.replicas):
        if terms and pool not in milp.chosen:
            values[terms[0][0]] = count[pool]
    for pool, running in milp.running.items():
        values[running] = float(count[pool] > 0)
    for group, whole, terms in zip(milp.groups, milp.whole, milp.served, strict=True):
        first = instance.first_option[group[0]]
        for option in instance.options_of(group[0]):
            own = shares[[instance.first_option[d] + option - first for d in group]]
            if option in milp.choice:
                values[milp.choice[option]] = float((own > TOLERANCE).sum())
            if option in milp.extent:
                values[milp.extent[option]] = own.sum()
        if instance.problem.demands[group[0]].mixed and terms:
            total = float(served[group].sum())
            values[terms[0][0]] = round(total) if whole else total
    for pool, (started, stopped) in milp.changes.items():
        values[started] = max(0, int(count[pool] - instance.current[pool]))
        values[stopped] = max(0, int(instance.current[pool] - count[pool]))
    return values


def decode(milp: Milp, values: Floats) -> Floats:
    """Shares (options,) of the plan that these values (columns,) mean."""
    instance = milp.instance
    shares = np.zeros(len(instance.option_demand))
    for group, whole, served in zip(milp.groups, milp.whole, milp.served, strict=True):
        if instance.problem.demands[group[0]].mixed:
            _decode_mixed(milp, group, whole, served, values, shares)
        else:
            _decode_single(milp, group, values, shares)
    return shares


def _decode_mixed(milp: Milp, group: list[int], whole: bool, served: Terms, values: Floats,
                  shares: Floats) -> None:
    instance = milp.instance
    span = instance.options_of(group[0])
    carried = np.array([sum(values[c] * each for c, each in milp.share.get(o, [])) for o in span])
    carried[carried <= TOLERANCE] = 0.0
    total = float(carried.sum())
    members = group
    if whole:
        members = group[:round(float(values[served[0][0]]))] if served else group
        each = carried / total if total else carried
    else:
        each = carried / max(float(len(group)), total)
    for member in members:
        start = int(instance.first_option[member])
        shares[start:start + len(span)] = each


def _decode_single(milp: Milp, group: list[int], values: Floats, shares: Floats) -> None:
    instance = milp.instance
    waiting = list(group)
    first = int(instance.first_option[group[0]])
    for option in instance.options_of(group[0]):
        if option not in milp.choice:
            continue
        chosen = round(float(values[milp.choice[option]]))
        extent = float(values[milp.extent[option]]) if option in milp.extent else float(chosen)
        for _ in range(chosen):
            share = min(1.0, extent)
            extent -= share
            member = waiting.pop(0)
            shares[int(instance.first_option[member]) + option - first] = max(share, 0.0)
