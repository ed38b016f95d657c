"""Validation and the order of names."""

from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.plan.assign.problem import (
    Demand,
    Limits,
    Option,
    Pool,
    Problem,
    Supply,
    Switching,
    replicas_for,
    validated,
)

POOL = Pool("a", 1.0, {"H100": 2})
DEMAND = Demand("d", (Option("a", 0.5),))
PROBLEM = Problem((POOL, replace(POOL, name="b")), (DEMAND, Demand("c", (Option("b", 1.0),))))


def test_everything_is_in_the_order_of_names() -> None:
    demand = Demand("d", (Option("b", 1.0), Option("a", 2.0)))
    given = Problem(PROBLEM.pools[::-1], (demand, PROBLEM.demands[1]), Supply({"Z": 1, "B": 2}))
    ordered = validated(given)
    assert [pool.name for pool in ordered.pools] == ["a", "b"]
    assert [d.name for d in ordered.demands] == ["c", "d"]
    assert [o.pool for o in ordered.demands[1].options] == ["a", "b"]
    assert list(ordered.supply.accelerators) == ["B", "Z"]


def with_pool(**changes: object) -> Problem:
    return replace(PROBLEM, pools=(replace(POOL, **changes), PROBLEM.pools[1]))


def with_demand(**changes: object) -> Problem:
    return replace(PROBLEM, demands=(replace(DEMAND, **changes),))


@pytest.mark.parametrize(("problem", "message"), [
    (replace(PROBLEM, pools=(POOL, POOL)), "pool 'a' is there twice"),
    (replace(PROBLEM, demands=(DEMAND, DEMAND)), "demand 'd' is there twice"),
    (with_pool(name=""), "a pool has no name"),
    (with_pool(cost_per_hour=-1.0), "pool 'a': cost_per_hour is -1.0"),
    (with_pool(cost_per_hour=float("nan")), "cost_per_hour is nan"),
    (with_pool(power_w=float("inf")), "power_w is inf"),
    (with_pool(accelerators={"H100": 0}),
     "accelerators of 'H100' is 0; expected a whole number, 1 or more"),
    (with_pool(min_replicas=3, max_replicas=2), "max_replicas is 2; expected min_replicas (3)"),
    (with_pool(current_replicas=-1), "current_replicas is -1"),
    (with_demand(options=(Option("A", 1.0),)), "unknown pool 'A'; did you mean 'a'?"),
    (with_demand(options=(Option("a", 0.0),)), "load on 'a' is 0.0; expected a number above 0"),
    (with_demand(options=(Option("a", 1.0), Option("a", 2.0))), "pool 'a' is there twice among"),
    (with_demand(priority=0), "priority is 0; expected 1 (first) or more"),
    (with_demand(rate_per_s=0.0), "rate_per_s is 0.0; expected a number above 0"),
    (with_demand(keep_pool=True), "keep_pool is set but current is not"),
    (with_demand(current=Option("zz", 1.0)), "unknown pool 'zz'"),
    (replace(PROBLEM, supply=Supply({"H100": -1})), "supply of 'H100' is -1"),
    (replace(PROBLEM, limits=Limits(cost_per_hour=-1.0)), "limit on cost_per_hour is -1.0"),
    (replace(PROBLEM, switching=Switching(move_fraction=-0.1)), "move_fraction is -0.1"),
])
def test_mistakes_are_told_in_one_line(problem: Problem, message: str) -> None:
    with pytest.raises(InputError) as caught:
        validated(problem)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("load", "floor", "replicas"), [
    (0.001, 0, 1), (1.0, 0, 1), (1.0 + 1e-9, 0, 1), (1.01, 0, 2), (0.5, 3, 3), (3.5, 3, 4)])
def test_replicas_are_rounded_up(load: float, floor: int, replicas: int) -> None:
    assert replicas_for(load, replace(POOL, min_replicas=floor)) == replicas
