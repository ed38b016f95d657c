from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.published.inferno.change import apply_allocations, scale_capacity, scale_load
from penstock.published.inferno.export import diffs, plan_document, shortest, solution
from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.solve import SOLVERS, Settings, settings_of, solve
from penstock.published.inferno.values import Allocation, OptimizerOptions
from support.inferno_bundles import document, rows, server, system

FIELDS = {"accelerator", "numReplicas", "maxBatch", "cost", "itlAverage", "ttftAverage", "load"}


@pytest.mark.parametrize(("options", "solver"), [
    (OptimizerOptions(), "greedy"),
    (OptimizerOptions(unlimited=True, milp_solver=True), "unlimited"),
    (OptimizerOptions(milp_solver=True), "milp-single"),
    (OptimizerOptions(milp_solver=True, heterogeneous=True), "milp-multi"),
    (OptimizerOptions(heterogeneous=True), "greedy")])
def test_a_bundles_own_choice(options, solver) -> None:
    assert settings_of(options).solver == solver


def test_unlimited_takes_the_least_value_of_each() -> None:
    plan = solve(system(), Settings("unlimited"))
    assert plan.complete
    assert {name: each.accelerator for name, each in plan.allocations.items()} == dict.fromkeys(
        ("Free-large", "Free-small", "Premium-large", "Premium-small"), "B")
    assert plan.objective == plan.bound == pytest.approx(1.1 * plan.total_cost)
    assert plan.gap == 0.0


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("schema", ["v1", "v2"])
def test_no_solver_uses_more_than_there_is(solver, schema) -> None:
    for factor in (1.0, 0.7, 0.4):
        plan = solve(scale_capacity(system(schema), factor), Settings(solver, "RoundRobin"))
        if solver != "unlimited":
            assert all(used <= plan.system.capacity[pool]
                       for pool, used in plan.used_devices.items())
        assert set(plan.parts) | set(plan.unserved) == set(plan.system.servers)
        assert not set(plan.parts) & set(plan.unserved)


def test_exact_is_never_dearer_than_greedy() -> None:
    greedy = solve(system(), Settings("greedy"))
    single, multi = (solve(system(), Settings(name)) for name in ("milp-single", "milp-multi"))
    assert single.status == multi.status == "optimal"
    assert greedy.complete
    assert multi.total_cost <= single.total_cost <= greedy.total_cost
    assert multi.gap == single.gap == 0.0
    assert greedy.bound <= greedy.objective


def test_a_mixture_is_weighted_by_what_each_part_serves() -> None:
    tight = replace(system(), capacity={"A": 150, "B": 125})
    plan = solve(tight, Settings("milp-multi"))
    name, parts = next(item for item in plan.parts.items() if len(item[1]) > 1)
    whole = plan.allocations[name]
    assert whole.accelerator == " + ".join(part.accelerator for part in parts)
    assert whole.num_replicas == sum(part.num_replicas for part in parts)
    assert min(p.itl_ms for p in parts) <= whole.itl_ms <= max(p.itl_ms for p in parts)
    assert plan.total_cost == pytest.approx(plan.objective)
    document_ = plan_document(plan)
    assert [part["accelerator"] for part in document_["allocations"][name]["parts"]] == [
        part.accelerator for part in parts]


def test_the_rest_of_a_plan_is_made() -> None:
    made = document()
    server(made, "Free-small")["model"] = "other"
    for solver in SOLVERS:
        plan = solve(parse_bundle(made, "body"), Settings(solver))
        assert list(plan.unserved) == ["Free-small"]
        assert "no targets for model 'other'" in plan.unserved["Free-small"]
        assert len(plan.parts) == 3
        assert not plan.complete


def test_who_finds_no_room_is_told_so() -> None:
    plan = solve(scale_capacity(system(), 0.1), Settings("greedy"))
    assert set(plan.unserved) == {"Premium-large", "Free-large"}
    assert "no accelerator has room" in plan.unserved["Free-large"]
    assert plan.bound is None
    assert plan.upstream_error == "no feasible allocation for servers: [Free-large, Premium-large]"
    assert solve(scale_capacity(system("v1"), 0.1), Settings("greedy")).upstream_error is None


def test_a_program_without_solution_serves_nobody() -> None:
    plan = solve(scale_capacity(system(), 0.1), Settings("milp-single"))
    assert (plan.status, plan.objective, plan.total_cost) == ("infeasible", None, 0.0)
    assert "no assignment serves every server" in plan.unserved["Premium-small"]


def test_saturated_servers_are_named() -> None:
    plan = solve(scale_capacity(system(), 0.1), Settings("greedy", "RoundRobin"))
    assert not plan.unserved
    assert set(plan.saturated) == {"Premium-large", "Free-large"}
    assert not plan.complete


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_server_without_load_takes_nothing(solver) -> None:
    made = document()
    server(made, "Free-large")["currentAlloc"]["load"]["ArrivalRate"] = 0
    plan = solve(parse_bundle(made, "body"), Settings(solver))
    assert plan.allocations["Free-large"] == Allocation()
    assert plan.complete


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_floor_without_load_takes_its_cards(solver) -> None:
    made = document()
    server(made, "Free-large")["currentAlloc"]["load"]["ArrivalRate"] = 0
    server(made, "Free-large")["minNumReplicas"] = 3
    plan = solve(parse_bundle(made, "body"), Settings(solver))
    assert plan.allocations["Free-large"].num_replicas == 3
    assert sum(plan.used_devices.values()) >= 12


def test_limited_solvers_need_a_capacity() -> None:
    bundle = replace(system(), capacity=None)
    with pytest.raises(InputError, match="needs the number of devices"):
        solve(bundle, Settings("greedy"))
    assert solve(bundle, Settings("unlimited")).complete


def test_a_penalty_keeps_servers_where_they_are() -> None:
    first = solve(system(), Settings("unlimited"))
    moved = apply_allocations(system(), first.allocations)
    again = solve(moved, Settings("unlimited"))
    assert again.objective == 0.0
    assert diffs(again) == {}
    grown = solve(scale_load(moved, 2.0, 1.0), Settings("unlimited"))
    changes = diffs(grown)
    assert changes["Free-large"]["oldAccelerator"] == changes["Free-large"]["newAccelerator"]
    assert changes["Free-large"]["newNumReplicas"] > changes["Free-large"]["oldNumReplicas"]
    assert changes["Free-large"]["costDiff"] > 0


@pytest.mark.parametrize("schema", ["v1", "v2"])
def test_export_has_upstreams_names(schema) -> None:
    plan = solve(system(schema), Settings("greedy"))
    allocations = solution(plan)["allocations"]
    assert set(allocations) == set(plan.parts)
    for each in allocations.values():
        assert set(each) == FIELDS
        assert {"arrivalRate", "avgInTokens", "avgOutTokens"} <= set(each["load"])
    first = diffs(plan)["Free-large"]
    assert (first["oldAccelerator"], first["oldNumReplicas"]) == ("none", 0)


def test_an_exported_allocation_can_be_read_back_as_current() -> None:
    plan = solve(system(), Settings("greedy"))
    made = document()
    for row in rows(made, "serverData"):
        row["currentAlloc"] = solution(plan)["allocations"][row["name"]]
    again = solve(parse_bundle(made, "body"), Settings("greedy"))
    assert diffs(again) == {}


def test_numbers_are_written_as_short_as_upstream_does() -> None:
    assert shortest(75.9000015258789) == 75.9
    assert shortest(4250.39990234375) == 4250.4


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_0_to_a_32_bit_float_is_no_load(solver) -> None:
    """And logarithms of it, which would warn, are never taken."""
    made = document()
    server(made, "Free-small")["currentAlloc"]["load"]["ArrivalRate"] = 1e-300
    found = solve(parse_bundle(made, "body"), Settings(solver))
    assert found.allocations["Free-small"].num_replicas == 0
