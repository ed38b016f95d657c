"""Planning problem: pools of replicas, demands on the pools, and scarce resources.

A *pool* is one kind of replica that may be started. A *demand* is traffic that must be carried;
each of its *options* names a pool and the load that the whole demand puts on it, in replicas. Where
every demand has pools of its own, this is one choice of variant per (class, model) server, as in
Inferno's assignment problem (llm-inferno/optimizer). Where demands share pools, it is Melange's
allocation of request-size buckets to GPU types (Griggs et al., 2024).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from penstock.core.errors import InputError, nearest

# The replicas by which a load may exceed a whole number, and the rounding of a whole share.
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Pool:
    """One kind of replica that may be started. Cost, power and ``accelerators`` are per replica.

    A pool that runs at all runs at least ``min_replicas``. ``current_replicas`` is the number that
    runs now.
    """

    name: str
    cost_per_hour: float
    accelerators: Mapping[str, int] = field(default_factory=dict)
    power_w: float = 0.0
    min_replicas: int = 0
    max_replicas: int | None = None
    current_replicas: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """The ``load`` that a whole demand puts on ``pool``: the replicas that it keeps busy, usually a
    fraction."""

    pool: str
    load: float


@dataclass(frozen=True, slots=True)
class Demand:
    """Traffic to be carried. ``rate_per_s`` weighs its service; ``priority`` 1 comes first.

    A ``mixed`` demand may be split over pools; any other demand is carried by one pool. With
    ``partial``, a share of it may be served where resources are short; otherwise it is all or
    nothing. ``current`` is the pool, with its load in replicas, that carries the demand now;
    ``keep_pool`` forbids any other pool.
    """

    name: str
    options: tuple[Option, ...]
    priority: int = 1
    rate_per_s: float = 1.0
    mixed: bool = False
    partial: bool = True
    current: Option | None = None
    keep_pool: bool = False


@dataclass(frozen=True, slots=True)
class Supply:
    """Accelerators at hand by type; a type that is absent is not limited."""

    accelerators: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets of the whole plan; ``None`` means no budget."""

    cost_per_hour: float | None = None
    power_w: float | None = None


@dataclass(frozen=True, slots=True)
class Switching:
    """Costs of a change from the current state.

    ``start_cost`` and ``stop_cost`` are per replica. A demand that moves to another pool pays
    ``move_fraction`` of the cost per hour of its replicas there and of its replicas now (Inferno
    charges 0.1). Its replicas there are those of the whole demand, rounded up, times the share that
    moves. With ``in_cost``, all this is part of the cost level; otherwise it only decides between
    plans of equal cost.
    """

    start_cost: float = 0.0
    stop_cost: float = 0.0
    move_fraction: float = 0.0
    in_cost: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Serve as much as possible by priority, then at least cost, then with least switching."""

    pools: tuple[Pool, ...]
    demands: tuple[Demand, ...]
    supply: Supply = Supply()
    limits: Limits = Limits()
    switching: Switching = Switching()


def validated(problem: Problem) -> Problem:
    """The same problem in the order of names, so that no answer depends on the order of input.

    Raises InputError for names that are empty, used twice or unknown, and for numbers out of range.
    """
    pools = {pool.name: pool for pool in problem.pools}
    _check_names("pool", [pool.name for pool in problem.pools])
    _check_names("demand", [demand.name for demand in problem.demands])
    for pool in problem.pools:
        _check_pool(pool)
    for demand in problem.demands:
        _check_demand(demand, pools)
    for kind, count in problem.supply.accelerators.items():
        _check(f"supply of {kind!r}", count, count >= 0 and count == int(count),
               "a whole number of accelerators, 0 or more")
    limits, switching = problem.limits, problem.switching
    for name, value in (("limit on cost_per_hour", limits.cost_per_hour),
                        ("limit on power_w", limits.power_w),
                        ("switching start_cost", switching.start_cost),
                        ("switching stop_cost", switching.stop_cost),
                        ("switching move_fraction", switching.move_fraction)):
        _check(name, value, value is None or _amount(value), "a number, 0 or more")
    return replace(
        problem, supply=Supply(dict(sorted(problem.supply.accelerators.items()))),
        pools=tuple(replace(pool, accelerators=dict(sorted(pool.accelerators.items())))
                    for _, pool in sorted(pools.items())),
        demands=tuple(replace(d, options=tuple(sorted(d.options, key=lambda o: o.pool)))
                      for d in sorted(problem.demands, key=lambda d: d.name)))


def _check_names(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise InputError(f"a {what} has no name")
        if name in seen:
            raise InputError(f"{what} {name!r} is there twice; names must differ")
        seen.add(name)


def _check_pool(pool: Pool) -> None:
    where = f"pool {pool.name!r}: "
    _check(where + "cost_per_hour", pool.cost_per_hour, _amount(pool.cost_per_hour),
           "a number, 0 or more")
    _check(where + "power_w", pool.power_w, _amount(pool.power_w), "a number, 0 or more")
    for kind, count in pool.accelerators.items():
        _check(f"{where}accelerators of {kind!r}", count, count >= 1 and count == int(count),
               "a whole number, 1 or more")
    for name, value in (("min_replicas", pool.min_replicas),
                        ("current_replicas", pool.current_replicas)):
        _check(where + name, value, value >= 0, "0 or more")
    most = pool.max_replicas
    _check(where + "max_replicas", most, most is None or most >= pool.min_replicas,
           f"min_replicas ({pool.min_replicas}) or more")


def _check_demand(demand: Demand, pools: Mapping[str, Pool]) -> None:
    where = f"demand {demand.name!r}: "
    _check(where + "priority", demand.priority, demand.priority >= 1, "1 (first) or more")
    _check(where + "rate_per_s", demand.rate_per_s,
           _amount(demand.rate_per_s) and demand.rate_per_s > 0, "a number above 0")
    options = (*demand.options, *((demand.current,) if demand.current else ()))
    for option in options:
        if option.pool not in pools:
            raise InputError(f"{where}unknown pool {option.pool!r}{nearest(option.pool, pools)}")
        _check(f"{where}load on {option.pool!r}", option.load,
               math.isfinite(option.load) and option.load > 0, "a number above 0")
    named = [option.pool for option in demand.options]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise InputError(f"{where}pool {twice!r} is there twice among its options")
    if demand.keep_pool and demand.current is None:
        raise InputError(f"{where}keep_pool is set but current is not; expected the current pool")


def _check(where: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise InputError(f"{where} is {value}; expected {expected}")


def _amount(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def usable_options(demand: Demand) -> tuple[Option, ...]:
    """The options that ``keep_pool`` leaves."""
    if not demand.keep_pool or demand.current is None:
        return demand.options
    return tuple(o for o in demand.options if o.pool == demand.current.pool)


def replicas_for(load: float, pool: Pool) -> int:
    """Replicas of ``pool`` that carry ``load`` > 0: rounded up, and at least the pool's floor."""
    return max(1, math.ceil(load - TOLERANCE), pool.min_replicas)


def accelerator_types(pools: Iterable[Pool]) -> tuple[str, ...]:
    """All types of accelerators that any of ``pools`` needs, by name."""
    return tuple(sorted({kind for pool in pools for kind in pool.accelerators}))
