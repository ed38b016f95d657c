"""Laws of plans: the exact solver against trying everything, and what a change may not do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.plan.assign.decompose import solve_decomposed
from penstock.plan.assign.exact import solve_exact
from penstock.plan.assign.explain import explain
from penstock.plan.assign.greedy import greedy_shares
from penstock.plan.assign.instance import build_instance, make_solution, shares_of
from penstock.plan.assign.order import fits, is_better, objective_vector
from penstock.plan.assign.problem import Limits, Option, Problem, Supply
from penstock.plan.assign.solution import Solution
from support.brute_force_plans import best_vector
from support.plan_check import check
from support.scaled_examples import examples
from support.strategies import planning_problems

SHARED = planning_problems(max_demands=4)
ANY = st.one_of(SHARED, planning_problems(max_pools=2, own_pools=True, switching=True))


def vector_of(problem: Problem, solution: Solution) -> tuple[float, ...]:
    """Minus the served rate of each priority, cost, switching cost."""
    instance = build_instance(problem)
    return objective_vector(instance, shares_of(instance, solution))


def served_and_cost(problem: Problem, solution: Solution) -> tuple[float, ...]:
    return vector_of(problem, solution)[:-1]


@examples(120)
@given(planning_problems())
def test_exact_finds_what_trying_everything_finds(problem: Problem) -> None:
    solution = solve_exact(problem)
    assert check(problem, solution) == []
    assert solution.worst_gap == 0.0
    best = best_vector(problem)
    assert vector_of(problem, solution)[:len(best)] == pytest.approx(best, abs=2e-4)


@given(ANY)
def test_no_quick_plan_is_better(problem: Problem) -> None:
    instance = build_instance(problem)
    shares = greedy_shares(instance)
    assert fits(instance, shares)
    assert check(problem, make_solution(instance, shares, (), "heuristic", 0.0)) == []
    assert not is_better(objective_vector(instance, shares),
                         vector_of(problem, solve_exact(problem)))


@examples(150)
@given(planning_problems(max_pools=2, max_demands=4, own_pools=True, switching=True))
def test_exact_lies_between_the_bound_and_the_plan_by_columns(problem: Problem) -> None:
    exact, found = solve_exact(problem), solve_decomposed(problem, gap=0.0)
    assert check(problem, found) == []
    assert not is_better(vector_of(problem, found), vector_of(problem, exact))
    for best, ours in zip(exact.levels, found.levels, strict=True):
        rounding = 1e-5 * max(1.0, abs(best.objective))
        if ours.name.startswith("served"):
            assert ours.objective <= best.objective + rounding <= ours.bound + 2 * rounding
        else:
            assert ours.bound - rounding <= best.objective <= ours.objective + rounding
        if abs(best.objective - ours.objective) > rounding:
            break  # bounds of later levels are for plans that serve as much as ours


@given(ANY, st.randoms(use_true_random=False))
def test_the_order_of_input_changes_nothing_at_all(problem: Problem, random: object) -> None:
    def shuffled(items: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(random.sample(items, len(items)))  # type: ignore[attr-defined]

    other = replace(
        problem, pools=shuffled(problem.pools),
        demands=shuffled(tuple(replace(d, options=shuffled(d.options)) for d in problem.demands)),
        supply=Supply(dict(reversed(problem.supply.accelerators.items()))))
    assert solve_exact(other) == solve_exact(problem)
    assert solve_decomposed(other) == solve_decomposed(problem)


@given(ANY, st.sampled_from((0.5, 3.0)))
def test_scaling_all_prices_scales_the_objective(problem: Problem, factor: float) -> None:
    limits, switching = problem.limits, problem.switching
    other = replace(
        problem, pools=tuple(replace(p, cost_per_hour=p.cost_per_hour * factor)
                             for p in problem.pools),
        limits=replace(limits, cost_per_hour=None if limits.cost_per_hour is None
                       else limits.cost_per_hour * factor),
        switching=replace(switching, start_cost=switching.start_cost * factor,
                          stop_cost=switching.stop_cost * factor))
    one, two = solve_exact(problem), solve_exact(other)
    assert two.objective == pytest.approx(factor * one.objective, rel=1e-6, abs=1e-6)
    assert two.served == pytest.approx(one.served, abs=1e-5) or not _unique(problem)


def _unique(problem: Problem) -> bool:
    """Whether the demands served follow from the rates: each priority has one demand."""
    priorities = [d.priority for d in problem.demands]
    return len(set(priorities)) == len(priorities)


@given(ANY, st.sampled_from(("cards", "limits", "pools", "all")))
def test_more_supply_is_never_worse(problem: Problem, what: str) -> None:
    more = {"cards": replace(problem, supply=Supply({k: n + 1 for k, n in
                                                     problem.supply.accelerators.items()})),
            "limits": replace(problem, limits=Limits(*(
                None if limit is None else limit * 1.5 for limit in (
                    problem.limits.cost_per_hour, problem.limits.power_w)))),
            "pools": replace(problem, pools=tuple(
                p if p.max_replicas is None else replace(p, max_replicas=p.max_replicas + 1)
                for p in problem.pools)),
            "all": replace(problem, supply=Supply(), limits=Limits())}[what]
    before, after = solve_exact(problem), solve_exact(more)
    assert not is_better(served_and_cost(problem, before), served_and_cost(more, after))


@given(SHARED, st.data())
def test_cheaper_is_never_worse(problem: Problem, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(problem.pools) - 1))
    pools = tuple(replace(p, cost_per_hour=p.cost_per_hour * 0.5) if i == index else p
                  for i, p in enumerate(problem.pools))
    cheaper = replace(problem, pools=pools)
    before, after = solve_exact(problem), solve_exact(cheaper)
    assert not is_better(served_and_cost(problem, before), served_and_cost(cheaper, after))


@given(SHARED, st.data())
def test_less_traffic_never_needs_more(problem: Problem, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(problem.demands) - 1))
    demands = tuple(
        replace(d, options=tuple(Option(o.pool, o.load * 0.7) for o in d.options))
        if i == index else d for i, d in enumerate(problem.demands))
    # The weights stay: what counts is that the same demands are lighter.
    lighter = replace(problem, demands=demands)
    before, after = solve_exact(problem), solve_exact(lighter)
    assert not is_better(served_and_cost(problem, before), served_and_cost(lighter, after))


@examples(60)
@given(planning_problems(max_pools=2, max_demands=3))
def test_a_remedy_serves_and_less_of_it_does_not(problem: Problem) -> None:
    solution = solve_exact(problem)
    for shortfall in explain(problem, solution):
        for more in shortfall.remedies:
            for amount, enough in ((more.amount, True), (more.amount - 1.0, False)):
                if more.what != "accelerators":
                    continue
                cards = dict(problem.supply.accelerators)
                cards[more.name] += round(amount)
                wanted = tuple(
                    replace(d, priority=1, partial=False, options=tuple(
                        Option(o.pool, o.load * share) for o in d.options))
                    for d in problem.demands for share in [
                        1.0 if d.name == shortfall.demand else solution.served[d.name]]
                    if share > 1e-5)
                changed = solve_exact(replace(problem, demands=wanted, supply=Supply(cards)))
                assert (not changed.unserved) == enough
