"""Laws that hold for every bundle, whatever its numbers."""

import copy
from dataclasses import replace

from hypothesis import given

from penstock.core.errors import InputError
from penstock.published.inferno.change import scale_capacity, scale_load
from penstock.published.inferno.export import plan_document
from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.solve import SOLVERS, Settings, solve
from support.inferno_bundles import rows
from support.scaled_examples import examples
from support.strategies import broken_bundles, inferno_bundles


@examples(40)
@given(inferno_bundles())
def test_plans_are_sound(made) -> None:
    system = parse_bundle(made, "body")
    for solver in SOLVERS:
        for policy in ("None", "RoundRobin"):
            plan = solve(system, Settings(solver, policy))
            assert set(plan.parts).isdisjoint(plan.unserved)
            assert set(plan.parts) | set(plan.unserved) == set(system.servers)
            if solver != "unlimited":
                assert all(cards <= (system.capacity or {}).get(pool, 0)
                           for pool, cards in plan.used_devices.items())
            assert plan.total_cost >= 0.0
            plan_document(plan)


@examples(40)
@given(inferno_bundles())
def test_exact_is_at_most_greedy_and_more_supply_never_dearer(made) -> None:
    system = parse_bundle(made, "body")
    more = scale_capacity(system, 1.5)
    for solver in ("milp-single", "milp-multi"):
        plan = solve(system, Settings(solver))
        richer = solve(more, Settings(solver))
        greedy = solve(system, Settings("greedy"))
        if plan.objective is not None:
            assert richer.objective is not None
            assert richer.objective <= plan.objective * (1 + 1e-9) + 1e-6
        if greedy.complete:
            assert plan.complete
            assert plan.objective <= greedy.total_cost * (1 + 1e-6) + 1e-6


@examples(30)
@given(inferno_bundles())
def test_permuting_the_input_changes_nothing(made) -> None:
    other = copy.deepcopy(made)
    for part in ("acceleratorData", "modelData", "serverData", "serviceClassData", "capacityData"):
        rows(other, part).reverse()
    for solver in SOLVERS:
        ours, theirs = (solve(parse_bundle(each, "body"), Settings(solver, "RoundRobin"))
                        for each in (made, other))
        assert ours.parts == theirs.parts
        assert ours.objective == theirs.objective


@examples(30)
@given(inferno_bundles())
def test_prices_scale_the_objective(made) -> None:
    dearer = copy.deepcopy(made)
    for row in rows(dearer, "acceleratorData"):
        row["cost"] *= 4.0
    for solver in SOLVERS:
        plan, scaled = (solve(parse_bundle(each, "body"), Settings(solver))
                        for each in (made, dearer))
        assert (plan.objective is None) == (scaled.objective is None)
        if plan.objective is not None:
            assert abs(scaled.objective - 4.0 * plan.objective) <= 1e-6 * abs(scaled.objective)


@examples(30)
@given(inferno_bundles())
def test_less_traffic_never_needs_more_where_supply_is_unlimited(made) -> None:
    system = replace(parse_bundle(made, "body"), capacity=None)
    plan = solve(system, Settings("unlimited"))
    less = solve(scale_load(system, 0.5, 1.0), Settings("unlimited"))
    assert less.total_cost <= plan.total_cost
    assert set(less.unserved) == set(plan.unserved)


@given(broken_bundles())
def test_whatever_is_wrong_is_told_in_one_line(made) -> None:
    error = ""
    try:
        plan = solve(parse_bundle(made, "body"), Settings("greedy", "RoundRobin"))
        assert set(plan.parts) | set(plan.unserved) == set(plan.system.servers)
    except InputError as found:
        error = str(found)
    assert "\n" not in error
