"""Columns by block: the same answers as the exact solver, and bounds that hold."""

from dataclasses import replace

import pytest

from penstock.plan.assign.blocks import find_blocks
from penstock.plan.assign.decompose import solve_decomposed
from penstock.plan.assign.exact import solve_exact
from penstock.plan.assign.instance import build_instance
from penstock.plan.assign.problem import Demand, Limits, Option, Pool, Problem, Supply
from support.plan_check import check
from support.random_planning_problems import server_problem


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("scarcity", [0.35, 1.0, 4.0])
def test_agrees_with_exact(mixed: bool, scarcity: float) -> None:
    problem = server_problem(12, 4, scarcity, seed=3, mixed=mixed)
    exact = solve_exact(problem, gap=1e-4, time_limit_s=20.0)
    found = solve_decomposed(problem, gap=1e-4)
    assert check(problem, found) == []
    assert found.method == "decompose"
    for ours, theirs in zip(found.levels, exact.levels, strict=True):
        slack = 2e-4 * theirs.objective
        if ours.name == "cost":
            assert ours.bound <= theirs.objective + 1e-6
            assert theirs.bound <= ours.objective + slack
        else:
            assert ours.bound >= theirs.objective - 1e-6
        if abs(ours.objective - theirs.objective) > slack:
            break  # later levels start from different plans
    else:
        assert found.worst_gap <= exact.worst_gap + 5e-3


def test_large_and_scarce() -> None:
    problem = server_problem(400, 8, 0.6, seed=1)
    found = solve_decomposed(problem, gap=5e-3)
    assert check(problem, found) == []
    assert found.worst_gap < 0.01


def test_cards_that_make_no_whole_replica_are_no_use() -> None:
    # Replicas take four cards each: of 19 cards only 16 count, and the bound knows it.
    pools = tuple(Pool(name, 1.0, {"x": 4}) for name in ("a", "b"))
    demands = tuple(Demand(name, (Option(name, 3.0),), rate_per_s=3.0, mixed=True)
                    for name in ("a", "b"))
    found = solve_decomposed(Problem((*pools, Pool("unused", 1.0, {"x": 1})), demands,
                                     Supply({"x": 19})), gap=0.0)
    assert found.levels[0].bound == pytest.approx(found.levels[0].objective) == pytest.approx(4.0)


def test_blocks_are_what_pools_connect() -> None:
    pools = tuple(Pool(name, 1.0, current_replicas=int(name == "f")) for name in "abcdef")
    demands = (Demand("1", (Option("a", 1.0), Option("b", 1.0))), Demand("2", (Option("b", 1.0),)),
               Demand("3", (Option("c", 1.0), Option("d", 1.0)), mixed=True),
               Demand("4", (Option("e", 1.0),)), Demand("5", ()))
    instance = build_instance(Problem(pools, demands))
    blocks = find_blocks(instance)
    assert [(block.demands, block.pools, block.kind) for block in blocks] == [
        ((0, 1), (0, 1), "general"), ((2,), (2, 3), "cover"), ((3,), (4,), "choice")]


def test_blocks_of_several_demands() -> None:
    # Two classes of each model share the model's pools.
    base = server_problem(12, 3, 0.7, seed=5)
    pooled = tuple(
        replace(d, options=base.demands[i - i % 2].options) for i, d in enumerate(base.demands))
    problem = replace(base, demands=pooled, limits=Limits(power_w=1e6))
    exact, found = solve_exact(problem), solve_decomposed(problem, gap=0.0)
    assert {b.kind for b in find_blocks(build_instance(problem))} == {"general"}
    assert check(problem, found) == []
    assert found.levels[0].bound >= exact.levels[0].objective - 1e-6
    assert found.levels[0].objective <= exact.levels[0].objective + 1e-6


def test_a_start_is_not_made_worse() -> None:
    problem = replace(server_problem(20, 4, 0.8, seed=2), supply=Supply({}))
    best = solve_exact(problem)
    again = solve_decomposed(problem, start=best)
    assert again.cost_per_hour == pytest.approx(best.cost_per_hour)
