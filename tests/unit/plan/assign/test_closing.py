"""Closing the gap over all plans of blocks that are nearly as good."""

from dataclasses import replace

import pytest

from penstock.plan.assign.decompose import solve_decomposed
from penstock.plan.assign.exact import solve_exact
from penstock.plan.assign.problem import Problem
from support.plan_check import check
from support.random_planning_problems import server_problem


def whole_only(problem: Problem) -> Problem:
    return replace(problem, demands=tuple(replace(d, partial=False) for d in problem.demands))


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("scarcity", [0.3, 0.5])
def test_scarce_plans_are_proven_to_the_gap(scarcity: float, mixed: bool) -> None:
    for seed in range(3):
        problem = server_problem(60, 6, scarcity, seed, mixed=mixed)
        found = solve_decomposed(problem, gap=1e-4)
        assert check(problem, found) == []
        assert found.unserved
        assert found.worst_gap <= 1e-4


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("gap", [0.0, 1e-3])
def test_what_is_proven_is_true(gap: float, mixed: bool) -> None:
    for seed in range(4):
        problem = server_problem(10, 3, 0.4, seed, mixed=mixed)
        exact, found = solve_exact(problem), solve_decomposed(problem, gap=gap)
        assert exact.worst_gap == 0.0
        assert found.worst_gap <= gap + 1e-9
        for best, ours in zip(exact.levels, found.levels, strict=True):
            if ours.name != "cost":
                assert ours.objective <= best.objective + 1e-6 <= ours.bound + 2e-6
            else:
                assert ours.bound - 1e-6 <= best.objective <= ours.objective + 1e-6
            if abs(best.objective - ours.objective) > 1e-6:
                break  # bounds of later levels are for plans that serve as much as ours


def test_all_or_nothing_is_left_to_rounding_and_keeps_its_bound() -> None:
    # Mixed demands that may not be served in part: their plans are not listed while they may be
    # left out.
    problem = whole_only(server_problem(12, 3, 0.5, seed=1, mixed=True))
    exact, found = solve_exact(problem), solve_decomposed(problem)
    assert check(problem, found) == []
    for best, ours in zip(exact.levels, found.levels, strict=True):
        if ours.name != "cost":
            assert best.objective <= ours.bound + 1e-6
        if abs(best.objective - ours.objective) > 1e-6:
            break


def test_the_answer_is_the_same_each_time() -> None:
    problem = server_problem(60, 6, 0.5, seed=4, mixed=True)
    assert solve_decomposed(problem) == solve_decomposed(problem)
