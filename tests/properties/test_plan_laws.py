"""Laws of plans: the exact solver against trying everything, and what a change may not do."""

import pytest
from hypothesis import given, settings

from brute_force import best_vector
from penstock.plan.exact import solve_exact
from penstock.plan.instance import build_instance, shares_of
from penstock.plan.order import objective_vector
from penstock.plan.problem import Problem
from penstock.plan.solution import Solution, check
from strategies import planning_problems


def vector_of(problem: Problem, solution: Solution) -> tuple[float, ...]:
    """Minus the served rate of each priority, cost, switching cost."""
    instance = build_instance(problem)
    return objective_vector(instance, shares_of(instance, solution))


@settings(max_examples=120)
@given(planning_problems())
def test_exact_finds_what_trying_everything_finds(problem: Problem) -> None:
    solution = solve_exact(problem)
    assert check(problem, solution) == []
    assert solution.worst_gap == 0.0
    best = best_vector(problem)
    assert vector_of(problem, solution)[:len(best)] == pytest.approx(best, abs=2e-4)
