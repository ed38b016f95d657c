"""The checker finds what is wrong with a plan, and only that."""

from dataclasses import replace

import pytest

from penstock.plan.assign.exact import solve_exact
from penstock.plan.assign.problem import Demand, Limits, Option, Pool, Problem, Supply, Switching
from penstock.plan.assign.solution import Solution, gap_of, switching_cost
from support.plan_check import check

PROBLEM = Problem(
    (Pool("a", 2.0, {"H100": 1}, 700.0, current_replicas=3), Pool("b", 1.0, {"L4": 1}, 70.0)),
    (Demand("d", (Option("a", 1.5), Option("b", 6.0)), current=Option("b", 4.0)),
     Demand("e", (Option("a", 0.4),), partial=False)),
    Supply({"H100": 4, "L4": 4}), Limits(20.0, 5000.0), Switching(1.0, 0.5, 0.1))


@pytest.fixture
def solution() -> Solution:
    return solve_exact(PROBLEM)


def test_a_sound_plan_has_no_faults(solution: Solution) -> None:
    assert check(PROBLEM, solution) == []
    assert solution.replicas == {"a": 2}
    assert solution.accelerators == {"H100": 2}
    # One replica stops; d moves: a tenth of two replicas there and four here.
    assert solution.switching_cost == pytest.approx(0.5 + 0.1 * (2 * 2.0 + 4 * 1.0))


@pytest.mark.parametrize(("changes", "fault"), [
    ({"replicas": {"a": 1}}, "pool 'a' carries"),
    ({"replicas": {"a": 2, "z": 1}}, "pool 'z' is unknown"),
    ({"replicas": {"a": 6}}, "6 accelerators of 'H100' are used, 4 are there"),
    ({"shares": {("d", "a"): 1.0, ("e", "b"): 1.0}}, "share of ('e', 'b') is no option"),
    ({"shares": {("d", "a"): 0.5, ("d", "b"): 0.5, ("e", "a"): 1.0}}, "'d' is split over 2"),
    ({"served": {"d": 1.0, "e": 0.5}}, "'e' has shares [1.0] and is said to be served 0.5"),
    ({"shares": {("d", "a"): 1.0, ("e", "a"): 0.5}, "served": {"d": 1.0, "e": 0.5}},
     "'e' is served in part"),
    ({"shares": {("d", "a"): 1.0}, "served": {"d": 1.0, "e": 0.0}}, "'e' is served 0.0; unserved"),
    ({"unserved": ("d",)}, "'d' is served 1.0; unserved: ('d',)"),
    ({"cost_per_hour": 3.0}, "cost_per_hour is stated as 3.0, but it is 4.0"),
    ({"power_w": 0.0}, "power_w is stated as 0.0"),
    ({"switching_cost": 0.0}, "switching_cost is stated as 0.0"),
    ({"accelerators": {}}, "accelerators are stated as {}"),
])
def test_each_fault_is_found(solution: Solution, changes: dict[str, object], fault: str) -> None:
    faults = check(PROBLEM, replace(solution, **changes))
    assert any(fault in found for found in faults), faults


@pytest.mark.parametrize(("limits", "fault"), [
    (Limits(cost_per_hour=3.0), "cost 4.0 is over the limit 3.0"),
    (Limits(power_w=1000.0), "power 1400.0 is over the limit 1000.0")])
def test_budgets_are_checked(solution: Solution, limits: Limits, fault: str) -> None:
    assert check(replace(PROBLEM, limits=limits), solution) == [fault]


def test_pool_sizes_are_checked(solution: Solution) -> None:
    pool = replace(PROBLEM.pools[0], min_replicas=3)
    assert "runs 2, fewer than 3" in check(
        replace(PROBLEM, pools=(pool, PROBLEM.pools[1])), solution)[0]
    pool = replace(PROBLEM.pools[0], max_replicas=1)
    assert "runs 2, more than 1" in check(
        replace(PROBLEM, pools=(pool, PROBLEM.pools[1])), solution)[0]


def test_staying_costs_nothing() -> None:
    assert switching_cost(PROBLEM, {"a": 3}, {("d", "b"): 1.0}) == 0.0
    assert switching_cost(PROBLEM, {"a": 5}, {}) == 2.0


@pytest.mark.parametrize(("objective", "bound", "gap"), [
    (100.0, 99.0, 0.01), (0.0, 0.0, 0.0), (100.0, 100.0 - 1e-9, 0.0), (0.0, 1.0, 1.0),
    (5.0, 10.0, 0.5)])
def test_gap_is_relative_to_the_larger(objective: float, bound: float, gap: float) -> None:
    assert gap_of(objective, bound) == pytest.approx(gap)
