"""Solves a planning problem."""

from penstock.plan.exact import solve_exact
from penstock.plan.problem import Problem
from penstock.plan.solution import Solution


def solve(problem: Problem) -> Solution:
    """The proven optimum."""
    return solve_exact(problem)
