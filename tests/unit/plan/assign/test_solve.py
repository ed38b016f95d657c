"""Which solver is picked, and that nothing is lost where both are tried."""

from dataclasses import replace

import pytest

from penstock.plan.assign.problem import Demand, Option, Pool, Problem, Supply
from penstock.plan.assign.solve import solve
from support.plan_check import check
from support.random_planning_problems import server_problem


def test_small_problems_are_proven() -> None:
    problem = server_problem(12, 4, 1.0, seed=4)
    found = solve(problem)
    assert (found.method, found.worst_gap) == ("exact", 0.0)


def test_many_servers_are_decomposed() -> None:
    problem = server_problem(200, 6, 3.0, seed=4)
    found = solve(problem)
    assert found.method == "decompose"
    assert found.worst_gap <= 1e-4
    assert check(problem, found) == []


def test_one_large_block_is_one_program() -> None:
    pools = tuple(Pool(f"gpu-{i}", 1.0 + i, {"x": 1}) for i in range(3))
    demands = tuple(Demand(f"bucket-{i:03}", tuple(
        Option(p.name, 0.05 + 0.001 * i / (1 + j)) for j, p in enumerate(pools)), mixed=True)
        for i in range(400))
    found = solve(Problem(pools, demands))
    assert (found.method, found.unserved) == ("exact", ())
    assert found.gap <= 1e-4


@pytest.mark.parametrize("mixed", [False, True])
def test_without_time_there_is_still_a_plan(mixed: bool) -> None:
    problem = server_problem(250, 6, 1.0, seed=2, mixed=mixed)
    found = solve(problem, time_limit_s=0.0)
    assert check(problem, found) == []
    assert found.worst_gap > 0.0


def test_a_start_is_kept_if_nothing_better_is_found() -> None:
    problem = replace(server_problem(8, 3, 1.0, seed=2), supply=Supply({}))
    best = solve(problem)
    assert solve(problem, start=best, time_limit_s=0.0).cost_per_hour <= best.cost_per_hour
