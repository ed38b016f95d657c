"""Blocks: parts of the problem that only scarce resources connect."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from penstock.plan.assign.instance import Instance

Kind = Literal["choice", "cover", "general"]


@dataclass(frozen=True, slots=True)
class Block:
    """Demands (indices) linked by the pools they share, and all their pools.

    ``choice``: one demand that takes one of its own pools. ``cover``: one demand that is split over
    pools of its own, none of which runs now. Anything else is ``general``.
    """

    demands: tuple[int, ...]
    pools: tuple[int, ...]
    kind: Kind


def find_blocks(instance: Instance) -> list[Block]:
    """Connected components of demands and pools. Demands without options are in no component."""
    root = list(range(instance.num_demands))

    def find(demand: int) -> int:
        while root[demand] != demand:
            root[demand] = root[root[demand]]
            demand = root[demand]
        return demand

    owner: dict[int, int] = {}
    pairs = list(zip(instance.option_demand.tolist(), instance.option_pool.tolist(), strict=True))
    for demand, pool in pairs:
        one, other = find(demand), find(owner.setdefault(pool, demand))
        root[max(one, other)] = min(one, other)
    demands: dict[int, set[int]] = {}
    pools: dict[int, set[int]] = {}
    for demand, pool in pairs:
        demands.setdefault(find(demand), set()).add(demand)
        pools.setdefault(find(demand), set()).add(pool)
    return [Block(tuple(sorted(demands[key])), tuple(sorted(pools[key])),
                  _kind(instance, sorted(demands[key]), sorted(pools[key])))
            for key in sorted(demands)]


def _kind(instance: Instance, demands: list[int], pools: list[int]) -> Kind:
    if len(demands) > 1:
        return "general"
    demand = instance.problem.demands[demands[0]]
    if not demand.mixed:
        return "choice"
    switching = instance.problem.switching
    stays = bool(np.any(instance.current[pools])) and (switching.start_cost or switching.stop_cost)
    moves = demand.current is not None and switching.move_fraction
    return "general" if stays or moves else "cover"
