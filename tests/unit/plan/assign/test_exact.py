"""The exact solver on cases whose answer is plain."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from penstock.plan.assign.decompose import solve_decomposed
from penstock.plan.assign.exact import solve_exact
from penstock.plan.assign.problem import Demand, Limits, Option, Pool, Problem, Supply, Switching
from penstock.plan.assign.solution import Solution
from support.plan_check import check


def demand(name: str, **loads: float) -> Demand:
    return Demand(name, tuple(Option(pool, load) for pool, load in loads.items()))


BIG, SMALL = Pool("big", 4.0, {"H100": 1}), Pool("small", 1.0, {"L4": 1})


def test_the_cheapest_pool_serves() -> None:
    problem = Problem((BIG, SMALL), (demand("d", big=1.0, small=3.5),))
    solution = solve_exact(problem)
    assert solution.replicas == {"big": 1}
    assert solution.levels[-1].bound == solution.cost_per_hour == 4.0
    assert solution.gap == solution.worst_gap == 0.0
    assert solution.method == "exact"


def test_a_mixed_demand_takes_the_rest_from_a_small_pool() -> None:
    problem = Problem((BIG, SMALL), (replace(demand("d", big=1.2, small=6.0), mixed=True),))
    solution = solve_exact(problem)
    assert solution.replicas == {"big": 1, "small": 1}
    assert check(problem, solution) == []


def test_priorities_are_served_in_their_order() -> None:
    demands = (replace(demand("low", big=1.0), priority=2, rate_per_s=100.0),
               replace(demand("high", big=1.0), priority=1, rate_per_s=0.1))
    solution = solve_exact(Problem((BIG,), demands, Supply({"H100": 1})))
    assert solution.served == {"high": 1.0, "low": 0.0}
    assert [level.name for level in solution.levels] == [
        "served, priority 1", "served, priority 2", "cost"]
    assert [level.objective for level in solution.levels] == [0.1, 0.0, 4.0]


@pytest.mark.parametrize(("partial", "served", "replicas"), [(True, 0.8, {"big": 2}),
                                                             (False, 0.0, {})])
def test_a_part_is_served_if_allowed(partial: bool, served: float,
                                     replicas: dict[str, int]) -> None:
    problem = Problem((BIG,), (replace(demand("d", big=2.5), partial=partial),),
                      Supply({"H100": 2}))
    solution = solve_exact(problem)
    assert solution.served["d"] == pytest.approx(served)
    assert solution.replicas == replicas
    assert solution.unserved == ("d",)


@pytest.mark.parametrize("limits", [Limits(cost_per_hour=4.5), Limits(power_w=75.0)])
def test_budgets_hold(limits: Limits) -> None:
    pools = (replace(BIG, power_w=70.0), replace(SMALL, power_w=30.0))
    problem = Problem(pools, (replace(demand("d", big=1.0), rate_per_s=2.0),
                              demand("e", small=1.0)), limits=limits)
    solution = solve_exact(problem)
    assert solution.served == {"d": 1.0, "e": 0.0}


@pytest.mark.parametrize("solver", [solve_exact, solve_decomposed])
def test_rounding_gives_away_no_service_and_leaves_no_gap(
        solver: Callable[[Problem], Solution]) -> None:
    # The cost level used to serve 3e-9 less of d2, and to claim that a plan may cost 1.5e-8 less.
    pools = (Pool("p00", 1.0, {"b": 1}), Pool("p01", 0.0, {"b": 1}))
    demands = (replace(demand("d0", p00=0.25, p01=0.5), partial=False),
               replace(demand("d1", p00=1.0, p01=1.0), partial=False),
               demand("d2", p00=1.0, p01=1.25))
    solution = solver(Problem(pools, demands, Supply({"b": 2})))
    assert solution.served["d2"] == pytest.approx(0.75, abs=1e-12)
    assert solution.objective == solution.bound == 1.0
    assert solution.worst_gap == 0.0


def test_a_pool_that_runs_keeps_its_floor() -> None:
    problem = Problem((replace(SMALL, min_replicas=3), BIG), (demand("d", small=0.5, big=0.5),))
    assert solve_exact(problem).replicas == {"small": 3}
    dear = replace(problem, pools=(replace(SMALL, min_replicas=5), BIG))
    assert solve_exact(dear).replicas == {"big": 1}


def test_keep_pool_forbids_a_move() -> None:
    stays = replace(demand("d", big=1.0, small=1.0), current=Option("big", 1.0), keep_pool=True)
    assert solve_exact(Problem((BIG, SMALL), (stays,))).replicas == {"big": 1}


def test_switching_decides_between_equal_costs() -> None:
    pools = (Pool("a", 2.0), Pool("b", 2.0, current_replicas=1))
    problem = Problem(pools, (demand("d", a=1.0, b=1.0),))
    assert solve_exact(problem).replicas == {"a": 1}  # the first name
    moves = replace(problem, switching=Switching(start_cost=1.0, stop_cost=1.0))
    solution = solve_exact(moves)
    assert solution.replicas == {"b": 1}
    assert solution.levels[-1].name == "switching"
    assert solution.switching_cost == 0.0


@pytest.mark.parametrize(("in_cost", "pool"), [(False, "a"), (True, "b")])
def test_switching_may_count_as_cost(in_cost: bool, pool: str) -> None:
    pools = (Pool("a", 1.9), Pool("b", 2.0, current_replicas=1))
    moved = replace(demand("d", a=1.0, b=1.0), current=Option("b", 1.0))
    solution = solve_exact(Problem(pools, (moved,), switching=Switching(
        move_fraction=0.1, in_cost=in_cost)))
    assert solution.replicas == {pool: 1}
    assert solution.objective == pytest.approx(2.0 if in_cost else 1.9)


def test_slices_that_are_alike_share_replicas() -> None:
    slices = tuple(demand(f"s{i:02}", big=0.3, small=0.9) for i in range(20))
    solution = solve_exact(Problem((BIG, SMALL), slices))
    # Six big replicas would carry them all, at 24.
    assert solution.replicas == {"small": 18}
    assert len(solution.shares) == 20


def test_nothing_to_serve() -> None:
    assert solve_exact(Problem((), ())).replicas == {}
    assert solve_exact(Problem((BIG,), (demand("d"),))).unserved == ("d",)


def test_no_time_still_gives_a_plan_and_an_honest_gap() -> None:
    pools = tuple(Pool(f"p{i}{j}", 3.0 + i * 0.7 + j * 0.31, {"x": 1 + j % 2})
                  for i in range(6) for j in range(4))
    demands = tuple(demand(f"d{i}", **{f"p{i}{j}": 2.5 - j * 0.4 for j in range(4)})
                    for i in range(6))
    problem = Problem(pools, demands, Supply({"x": 13}))
    hurried, patient = solve_exact(problem, time_limit_s=0.0), solve_exact(problem)
    assert check(problem, hurried) == []
    assert hurried.worst_gap > 0.0
    assert patient.worst_gap == 0.0
