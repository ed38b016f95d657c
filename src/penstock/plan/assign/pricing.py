"""The best plan of one block when scarce resources have prices."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from penstock.plan.assign.blocks import Block
from penstock.plan.assign.columns import ColumnMaker, Columns
from penstock.plan.assign.cover import CoverSearch, Kind
from penstock.plan.assign.exact import goal_terms, shares_that_fit, stage_milp
from penstock.plan.assign.highs import solve_program
from penstock.plan.assign.instance import Floats, Instance, build_instance
from penstock.plan.assign.levels import Goal, Stage
from penstock.plan.assign.milp import Milp, served_terms, vector
from penstock.plan.assign.problem import TOLERANCE, Problem, usable_options

# The most nodes of one search for a cover; after them the relaxation's value is the bound.
_COVER_NODES = 20_000
# The same where all covers near the best are wanted, per block.
_PROOF_NODES = 50_000
# The relative saving from which a column is worth adding.
_WORTH = 1e-9


@dataclass(frozen=True, slots=True)
class Weights:
    """Prices of one round: minimise cost and switching by these weights, plus resources
    used at ``resources``, less served rates at ``served`` (by priority)."""

    cost: float
    switching: float
    resources: Floats
    served: Floats

    def scores(self, columns: Columns) -> Floats:
        """Priced value (columns,) of each column."""
        return np.asarray(self.cost * columns.cost + self.switching * columns.switching
                          + columns.usage @ self.resources
                          - columns.served @ self.served)


@dataclass(frozen=True, slots=True)
class Priced:
    """``least`` (blocks,) bounds the priced value of each block's plans; ``columns`` are new."""

    least: Floats
    columns: Columns | None


@dataclass(slots=True)
class BlockPricer:
    """Prices blocks whose plans are not all in a table: covers, and general blocks as programs."""

    instance: Instance
    maker: ColumnMaker
    stage: Stage
    _parts: dict[int, Milp] = field(default_factory=dict)

    @property
    def blocks(self) -> list[int]:
        """Blocks that need pricing."""
        return [i for i, block in enumerate(self.maker.blocks) if block.kind != "choice"]

    def price(self, weights: Weights, known: Floats, time_limit_s: float) -> Priced:
        """Searches each block for a plan below ``known`` (blocks,), the best of its columns."""
        least = known.copy()
        found: list[tuple[int, list[tuple[int, float]]]] = []
        pool_prices = self._pool_prices(weights)
        for number in self.blocks:
            block = self.maker.blocks[number]
            floor = known[number] - _WORTH * max(1.0, abs(float(known[number])))
            if block.kind == "cover":
                bound, shares = self._cover(block, weights, pool_prices, floor)
            else:
                bound, shares = self._general(number, weights, time_limit_s)
            least[number] = min(bound, known[number])
            if shares is not None and bound < floor:
                found.append((number, shares))
        return Priced(least, self._columns(found) if found else None)

    def _pool_prices(self, weights: Weights) -> Floats:
        """The priced cost (pools,) of one replica, for pools without a running replica."""
        start = self.instance.problem.switching.start_cost
        in_cost = self.instance.problem.switching.in_cost
        return np.asarray(weights.cost * (self.instance.cost + (start if in_cost else 0.0))
                          + weights.switching * start
                          + weights.resources @ self.instance.usage)

    def _kinds(self, block: Block, prices: Floats) -> tuple[list[int], list[Kind]]:
        instance = self.instance
        options = [o for o in instance.options_of(block.demands[0])
                   if instance.upper[instance.option_pool[o]] > 0]
        return options, [Kind(float(prices[p]), float(instance.option_load[o]),
                              int(instance.upper[p]), max(1, int(instance.floor[p])))
                         for o in options for p in [int(instance.option_pool[o])]]

    def _value(self, block: Block, weights: Weights) -> float:
        """Worth of serving the block's one demand."""
        demand = block.demands[0]
        return float(weights.served[self.maker.rank[demand]]
                     * self.instance.problem.demands[demand].rate_per_s)

    def _cover(self, block: Block, weights: Weights, prices: Floats,
               floor: float) -> tuple[float, list[tuple[int, float]] | None]:
        demand = self.instance.problem.demands[block.demands[0]]
        options, kinds = self._kinds(block, prices)
        full = bool(self.stage.full[block.demands[0]])
        value = 0.0 if full else self._value(block, weights)
        whole = full or not demand.partial
        # Most covers are found optimal already: their relaxation is no better than what is known.
        density = min((kind.price * kind.load for kind in kinds), default=np.inf)
        relaxed = density - value if full else min(density - value, 0.0)
        if relaxed >= floor:
            return relaxed, None
        search = CoverSearch(kinds, np.inf if whole else value, limit=_COVER_NODES)
        search.run()
        bound, covers = search.bound - value, search.covers
        if whole and not full and bound >= 0.0:
            return 0.0, []
        if not covers:
            return bound, None
        counts = covers[-1][1]
        return bound, _entries(options, kinds, counts)

    def covers_within(self, number: int, weights: Weights, slack: float,
                      most: int) -> Columns | None:
        """All plans of a cover block that are within ``slack`` of its best; None if too many."""
        block = self.maker.blocks[number]
        demand = self.instance.problem.demands[block.demands[0]]
        full = bool(self.stage.full[block.demands[0]])
        if not full and not demand.partial:
            return None
        options, kinds = self._kinds(block, self._pool_prices(weights))
        search = CoverSearch(kinds, np.inf if full else self._value(block, weights),
                             slack=max(slack, 1e-12), limit=_PROOF_NODES)
        search.run()
        if not search.complete or len(search.covers) > most:
            return None
        return self._columns([(number, _entries(options, kinds, counts))
                              for _, counts in search.covers])

    def _columns(self, plans: Sequence[tuple[int, Sequence[tuple[int, float]]]]) -> Columns:
        """Columns from (block, its options and shares)."""
        entries = [(column, option, share) for column, (_, plan) in enumerate(plans)
                   for option, share in plan]
        column, option, share = zip(*entries, strict=True) if entries else ((), (), ())
        return self.maker.make(
            np.array([number for number, _ in plans], dtype=np.int64),
            np.array(column, dtype=np.int64), np.array(option, dtype=np.int64),
            np.array(share, dtype=np.float64))

    def _general(self, number: int, weights: Weights,
                 time_limit_s: float) -> tuple[float, list[tuple[int, float]] | None]:
        if number not in self._parts:
            self._parts[number] = self._part(number)
        milp = self._parts[number]
        cost, constant = self._objective(number, milp, weights)
        answer = solve_program(milp.program.arrays(), cost, time_limit_s=time_limit_s)
        if answer.status == "infeasible":
            return np.inf, None
        shares = shares_that_fit(milp, answer, cost)
        if shares is None:
            return answer.bound + constant, None
        options = np.concatenate([np.arange(*self.instance.first_option[d:d + 2])
                                  for d in self.maker.blocks[number].demands])
        return answer.bound + constant, [(int(options[i]), float(shares[i]))
                                         for i in np.flatnonzero(shares > TOLERANCE)]

    def _part(self, number: int) -> Milp:
        """A general block as a problem of its own."""
        problem, block = self.instance.problem, self.maker.blocks[number]
        demands = tuple(replace(d, options=usable_options(d), keep_pool=False)
                        for d in (problem.demands[i] for i in block.demands))
        left = {d.current.pool for d in demands if d.current}
        # A pool that a demand leaves is there for its price only; another block may stop it.
        pools = tuple(p if i in block.pools else replace(p, current_replicas=0)
                      for i, p in enumerate(problem.pools) if i in block.pools or p.name in left)
        part = build_instance(Problem(pools, demands, problem.supply, problem.limits,
                                      problem.switching))
        milp = stage_milp(part, Stage(self.stage.full[list(block.demands)],
                                      np.zeros(len(demands), dtype=bool)))
        goal_terms(milp, Goal("switching"))  # its columns must be there before vectors are made
        return milp

    def _objective(self, number: int, milp: Milp, weights: Weights) -> tuple[Floats, float]:
        """Priced objective (columns,) of a general block, and its constant part."""
        part = milp.instance
        cost, constant = np.zeros(milp.program.num_columns), 0.0
        for goal, weight in ((Goal("cost"), weights.cost), (Goal("switching"), weights.switching)):
            if weight:
                terms, offset, _ = goal_terms(milp, goal)
                cost += weight * vector(milp, terms)
                constant += weight * offset
        full = self.stage.full[list(self.maker.blocks[number].demands)]
        for priority, value in zip(self.maker.priorities, weights.served, strict=True):
            cost -= value * vector(milp, served_terms(milp, priority, 1.0))
            # A mixed demand that must be whole has no column for its service.
            constant -= value * sum(d.rate_per_s for d, whole
                                    in zip(part.problem.demands, full, strict=True)
                                    if whole and d.mixed and d.priority == priority)
        place = {pool.name: i for i, pool in enumerate(self.instance.problem.pools)}
        prices = weights.resources @ self.instance.usage
        cost += vector(milp, [
            (column, float(prices[place[part.problem.pools[pool].name]]) * each)
            for pool, replicas in enumerate(milp.replicas) for column, each in replicas])
        return cost, constant


def _entries(options: Sequence[int], kinds: Sequence[Kind],
             counts: Sequence[int]) -> list[tuple[int, float]]:
    """Shares of replicas that cover the demand in proportion to what they can carry."""
    carried = [count / kind.load for count, kind in zip(counts, kinds, strict=True)]
    scale = 1.0 / max(1.0, sum(carried))
    return sorted((option, share * scale)
                  for option, share in zip(options, carried, strict=True) if share)
