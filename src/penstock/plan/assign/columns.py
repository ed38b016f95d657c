"""Plans of single blocks as columns of a table: the cost, usage and service of each plan."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from penstock.plan.assign.blocks import Block
from penstock.plan.assign.instance import Floats, Instance, Ints
from penstock.plan.assign.problem import TOLERANCE
from penstock.plan.assign.solution import SLACK


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns j. ``cost`` is that of the cost level; ``served`` has the served rate by priority.

    Entry i says that column ``entry_column[i]`` (ascending) takes the share ``entry_share[i]`` of
    an option. ``whole_column`` and ``whole_demand`` list the demands that each column serves whole.
    """

    block: Ints
    cost: Floats
    switching: Floats
    usage: Floats              # (columns, resources)
    served: Floats             # (columns, priorities)
    entry_column: Ints
    entry_option: Ints
    entry_share: Floats
    whole_column: Ints
    whole_demand: Ints

    def __len__(self) -> int:
        return len(self.block)

    def shares(self, chosen: Ints, num_options: int) -> Floats:
        """The shares (options,) of the chosen columns together."""
        picked = np.zeros(len(self), dtype=bool)
        picked[chosen] = True
        entries = picked[self.entry_column]
        shares = np.zeros(num_options)
        shares[self.entry_option[entries]] = self.entry_share[entries]
        return shares

    def serves(self, full: NDArray[np.bool_], num_full: Ints) -> NDArray[np.bool_]:
        """Columns that serve every demand of ``full`` in their block, of ``num_full`` (blocks,)."""
        count = np.bincount(self.whole_column, full[self.whole_demand], len(self))
        return np.asarray(count >= num_full[self.block] - 0.5)


@dataclass(slots=True)
class ColumnMaker:
    """Makes columns from shares of blocks, and joins tables."""

    instance: Instance
    blocks: list[Block]
    block_of_demand: Ints = field(init=False)
    block_of_pool: Ints = field(init=False)
    priorities: tuple[int, ...] = field(init=False)
    rank: Ints = field(init=False)
    stopped: Floats = field(init=False)
    idle: float = field(init=False)

    def __post_init__(self) -> None:
        instance = self.instance
        self.block_of_demand = np.full(instance.num_demands, -1, dtype=np.int64)
        self.block_of_pool = np.full(instance.num_pools, -1, dtype=np.int64)
        for number, block in enumerate(self.blocks):
            self.block_of_demand[list(block.demands)] = number
            self.block_of_pool[list(block.pools)] = number
        self.priorities = tuple(sorted({d.priority for d in instance.problem.demands}))
        place = {priority: i for i, priority in enumerate(self.priorities)}
        self.rank = np.array([place[d.priority] for d in instance.problem.demands], dtype=np.int64)
        # The cost of stopping all replicas that run now in a block.
        inside = self.block_of_pool >= 0
        stop = instance.problem.switching.stop_cost
        self.stopped = np.zeros(len(self.blocks))
        np.add.at(self.stopped, self.block_of_pool[inside], stop * instance.current[inside])
        # No option uses these pools.
        self.idle = float(stop * instance.current[~inside].sum())

    def make(self, blocks: Ints, column: Ints, option: Ints, share: Floats) -> Columns:
        """Columns of these blocks from entries; ``column`` indexes ``blocks`` and ascends."""
        instance, problem = self.instance, self.instance.problem
        num = len(blocks)
        pool = instance.option_pool[option]
        # Load by (column, pool), so that demands that share a pool share its replicas.
        keys, inverse = np.unique(column * instance.num_pools + pool, return_inverse=True)
        load = np.bincount(inverse, share * instance.option_load[option], len(keys))
        of_column, of_pool = keys // instance.num_pools, keys % instance.num_pools
        count = np.maximum(np.ceil(load - TOLERANCE),
                           np.maximum(1, instance.floor[of_pool])) * (load > TOLERANCE)
        switching, now = problem.switching, instance.current[of_pool]
        change = (switching.start_cost * np.maximum(0, count - now)
                  - switching.stop_cost * np.minimum(now, count))
        moved = self.stopped[blocks] + np.bincount(of_column, change, num) + np.bincount(
            column, share * instance.option_move[option], num)
        cost = np.bincount(of_column, count * instance.cost[of_pool], num)
        demand = instance.option_demand[option]
        rates = np.array([d.rate_per_s for d in problem.demands])
        served = np.zeros((num, len(self.priorities)))
        np.add.at(served, (column, self.rank[demand]), share * rates[demand])
        usage = np.zeros((num, len(instance.resources)))
        for row, each in enumerate(instance.usage):
            usage[:, row] = np.bincount(of_column, count * each[of_pool], num)
        pairs, of_pair = np.unique(column * instance.num_demands + demand, return_inverse=True)
        whole = pairs[np.bincount(of_pair, share, len(pairs)) >= 1.0 - SLACK]
        return Columns(
            blocks, np.asarray(cost + (moved if switching.in_cost else 0.0)), np.asarray(moved),
            usage, served, column, option, share, whole // instance.num_demands,
            whole % instance.num_demands)

    def from_shares(self, shares: Floats) -> Columns:
        """One column per block from a plan's shares (options,)."""
        option = np.flatnonzero(shares > TOLERANCE)
        column = self.block_of_demand[self.instance.option_demand[option]]
        order = np.argsort(column, kind="stable")
        return self.make(np.arange(len(self.blocks)), column[order], option[order],
                         shares[option[order]])

    def pure(self) -> Columns:
        """For each block of one demand: the idle column, and each option alone with the least and
        the largest service that it can give.

        The replicas of one option serve in proportion up to the last replica, so every column in
        between is a mixture of these.
        """
        instance = self.instance
        simple = np.array([block.kind != "general" for block in self.blocks])
        option = np.flatnonzero(simple[self.block_of_demand[instance.option_demand]])
        pool = instance.option_pool[option]
        upper, alone = instance.upper[pool], instance.option_alone[option]
        least = np.maximum(1, instance.floor[pool])
        almost = np.minimum(alone - 1, upper)
        empty = np.zeros(0, dtype=np.int64)
        tables = [self.make(np.flatnonzero(simple), empty, empty, np.zeros(0)),
                  self._single(option[alone <= upper], np.ones(int((alone <= upper).sum())))]
        part = self._partial(option)
        for replicas, mask in ((almost, part & (almost >= least)),
                               (least, part & (least < almost))):
            share = np.minimum(1.0, replicas / instance.option_load[option])
            tables.append(self._single(option[mask], share[mask]))
        return join(tables)

    def between(self, blocks: Ints, most: int) -> Columns:
        """The columns with every number of replicas of each option of these one-demand blocks that
        serve a part; evenly spaced columns where there are more than ``most``."""
        first, last, options = self._parts(blocks)
        steps = np.minimum(last - first + 1, most)
        option = np.repeat(np.arange(len(options)), steps)
        step = np.arange(len(option)) - np.repeat(np.cumsum(steps) - steps, steps)
        stride = (last - first)[option] / np.maximum(1, steps - 1)[option]
        count = np.round(first[option] + step * stride)
        share = np.minimum(1.0, count / self.instance.option_load[options[option]])
        return self._single(options[option], share)

    def num_between(self, blocks: Ints) -> int:
        """How many columns ``between`` has without a limit."""
        first, last, _ = self._parts(blocks)
        return int((last - first + 1).sum())

    def _parts(self, blocks: Ints) -> tuple[Ints, Ints, Ints]:
        """Least and most replicas that serve a part, and the option, for options that can."""
        instance = self.instance
        wanted = np.zeros(len(self.blocks), dtype=bool)
        wanted[blocks] = True
        options = np.flatnonzero(wanted[self.block_of_demand[instance.option_demand]])
        options = options[self._partial(options)]
        pool = instance.option_pool[options]
        first = np.maximum(1, instance.floor[pool])
        last = np.minimum(instance.option_alone[options] - 1, instance.upper[pool])
        some = last >= first
        return first[some], last[some], options[some]

    def _partial(self, option: Ints) -> NDArray[np.bool_]:
        demands = self.instance.problem.demands
        partial = np.array([d.partial for d in demands], dtype=bool)
        return np.asarray(partial[self.instance.option_demand[option]])

    def _single(self, option: Ints, share: Floats) -> Columns:
        """One column per option with this share."""
        return self.make(self.block_of_demand[self.instance.option_demand[option]],
                         np.arange(len(option)), option, share)


def join(tables: list[Columns]) -> Columns:
    """All columns in one table."""
    offsets = np.cumsum([0, *(len(table) for table in tables)])
    merged = {name: np.concatenate([getattr(table, name) for table in tables])
              for name in ("block", "cost", "switching", "usage", "served", "entry_option",
                           "entry_share", "whole_demand")}
    for name in ("entry_column", "whole_column"):
        merged[name] = np.concatenate([getattr(table, name) + offset for table, offset
                                       in zip(tables, offsets, strict=False)])
    return Columns(**merged)


def take(columns: Columns, kept: NDArray[np.bool_]) -> Columns:
    """The table of the kept columns alone."""
    place = np.cumsum(kept) - 1
    entries, whole = kept[columns.entry_column], kept[columns.whole_column]
    return Columns(
        columns.block[kept], columns.cost[kept], columns.switching[kept],
        columns.usage[kept], columns.served[kept], place[columns.entry_column[entries]],
        columns.entry_option[entries], columns.entry_share[entries],
        place[columns.whole_column[whole]], columns.whole_demand[whole])
