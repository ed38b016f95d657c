"""A folder laid out as theirs, with records made by our own solvers and then tampered with."""

import json
from zlib import crc32

import pytest

from penstock.core.errors import InputError
from penstock.published.figures import Figure, Options
from penstock.published.inferno.candidates import find_candidates
from penstock.published.inferno.change import apply_allocations, scale_capacity, scale_load
from penstock.published.inferno.export import solution
from penstock.published.inferno.read import parse_bundle
from penstock.published.inferno.records import Field, Record, equal, near
from penstock.published.inferno.slides import slide_figures
from penstock.published.inferno.solve import Settings, settings_of, solve
from penstock.published.reproduce import reproduce
from support.inferno_bundles import document, rows, write


def allocation(each, load=None):
    record = {"accelerator": each.accelerator, "numReplicas": each.num_replicas,
              "maxBatch": each.max_batch, "cost": each.cost_cents_per_hour, "value": each.value,
              "itl": each.itl_ms, "ttft": each.ttft_ms}
    return record | ({"maxRPM": each.max_per_min} if load is None
                     else {"saturated": each.saturated(load)})


def stage(plan, when):
    served = plan.allocations
    record = {f"totalCost_{when}": plan.total_cost, f"allocations_{when}": {
        name: allocation(served[name], server.load) if name in served else None
        for name, server in plan.system.servers.items()}}
    return record | ({f"error_{when}": plan.upstream_error} if plan.upstream_error else {})


def options(solver="greedy", policy="None", delayed=False):
    return {"unlimited": solver == "unlimited", "heterogeneous": solver == "milp-multi",
            "milpSolver": solver.startswith("milp"), "useCplex": False,
            "delayedBestEffort": delayed, "saturationPolicy": policy}


def make(folder, made=None, tie_key=None, schema="v2"):
    """The folder ``data`` with a sample and golden files of a few runs."""
    made = made or document(schema)
    write(folder / f"sample_{schema}" / "small", made)
    bundle = parse_bundle(made, "body")
    candidates = find_candidates(bundle)
    more = {} if tie_key is None else {"tie_key": tie_key}
    runs = {}
    for policy in ("None", "RoundRobin"):
        for percent, factor in (("", 1.0), ("_cap25", 0.25)):
            plan = solve(scale_capacity(bundle, factor), Settings("greedy", policy), **more)
            runs[f"{schema}_small{percent}_greedy_{policy}_false"] = {
                "options": options(policy=policy), **stage(plan, "before")}
    first = solve(bundle, Settings("unlimited"), **more)
    later = scale_load(apply_allocations(bundle, first.allocations), 1.5, 1.0)
    runs[f"{schema}_small_change_unlimited_up"] = {
        "options": options("unlimited"), "change": "*:1.5:1", **stage(first, "before"),
        **stage(solve(later, Settings("unlimited")), "after")}
    old = {"v1": "old", "v2": "new"}[schema]
    exact = solve(bundle, Settings("milp-single"))
    none = solve(scale_capacity(bundle, 0.25), Settings("milp-multi"))
    assert none.status == "infeasible"
    golden = {
        "golden_assignments.json": runs,
        "golden_candidates.json": {f"{schema}_small": {
            name: {key: allocation(each) for key, each in found.items()}
            for name, found in candidates.by_server.items()}},
        "golden_milp_reference.json": {
            f"{old}_small_single": {"cost": exact.objective, "gap": 0.0, "solution": {
                name: {part.accelerator: part.num_replicas for part in parts}
                for name, parts in exact.parts.items()}},
            f"{old}_small_cap25_multi": {"cost": None, "status": "infeasible"}}}
    for name, content in golden.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def run(folder):
    return reproduce("inferno", folder, Options())


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("schema", ["v1", "v2"])
def test_own_records_agree(tmp_path, schema) -> None:
    found = run(make(tmp_path, schema=schema))
    assert found.agrees
    assert {record["file"] for record in found.records} == {
        "golden_assignments.json", "golden_candidates.json", "golden_milp_reference.json"}
    assert found.rows["files.csv"][1] == {
        "file": "golden_assignments.json", "records": 5, "agree": 5,
        "fields": sum(len(record["fields"]) for record in found.records
                      if record["file"] == "golden_assignments.json")}
    assert found.as_dict()["records"] == list(found.records)


def first(content):
    return next(iter(content.values()))


TAMPERED = {
    "a cost": ("golden_assignments.json", lambda c: first(c)["allocations_before"][
        "Free-small"].update(cost=1.0)),
    "a replica": ("golden_assignments.json", lambda c: first(c)["allocations_before"][
        "Free-small"].update(numReplicas=99)),
    "an accelerator": ("golden_assignments.json", lambda c: first(c)["allocations_before"][
        "Free-small"].update(accelerator="A")),
    "a flag": ("golden_assignments.json", lambda c: first(c)["allocations_before"][
        "Free-small"].update(saturated=True)),
    "a server left out": ("golden_assignments.json", lambda c: first(c)[
        "allocations_before"].update({"Free-small": None})),
    "a server missing": ("golden_assignments.json", lambda c: first(c)[
        "allocations_before"].pop("Free-small")),
    "a total": ("golden_assignments.json", lambda c: first(c).update(totalCost_before=1.0)),
    "an error": ("golden_assignments.json", lambda c: first(c).update(error_before="none")),
    "a total after": ("golden_assignments.json", lambda c: c[
        "v2_small_change_unlimited_up"].update(totalCost_after=1.0)),
    "a latency": ("golden_candidates.json", lambda c: first(c)["Free-small"]["A"].update(itl=1.0)),
    "a rate": ("golden_candidates.json", lambda c: first(c)["Free-small"]["B"].update(maxRPM=1.0)),
    "a candidate too many": ("golden_candidates.json", lambda c: first(c)["Free-small"].update(
        C=first(c)["Free-small"]["A"])),
    "a candidate too few": ("golden_candidates.json", lambda c: first(c)["Free-small"].pop("A")),
    "an optimum": ("golden_milp_reference.json", lambda c: first(c).update(cost=1.0)),
    "a solution": ("golden_milp_reference.json", lambda c: first(c)["solution"].update(
        {"Free-small": {"A": 1}})),
    "a feasible program": ("golden_milp_reference.json", lambda c: c[
        "new_small_cap25_multi"].update(cost=5.0)),
    "an infeasible program": ("golden_milp_reference.json", lambda c: first(c).update(
        cost=None, solution=None)),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_record_is_found(tmp_path, case) -> None:
    name, edit = TAMPERED[case]
    folder = make(tmp_path)
    change(folder / name, edit)
    found = run(folder)
    assert not found.agrees
    assert [record["agrees"] for record in found.records].count(False) == 1
    assert sum(not figure.agrees for figure in found.figures) == 2  # the record and its file


def tied_document():
    """The unit of two cards costs and serves exactly as two replicas of one."""
    made = document()
    rows(made, "modelData")[1].update(accCount=1, maxBatchSize=64,
                                      perfParms=rows(made, "modelData")[0]["perfParms"])
    rows(made, "acceleratorData")[1]["cost"] = 40.0
    rows(made, "acceleratorData")[2]["cost"] = 90.0
    return made


def test_another_order_among_ties_is_accepted_and_said(tmp_path) -> None:
    folder = make(tmp_path, tied_document(),
                  lambda server, accelerator: crc32(f"!{server}{accelerator}".encode()))
    found = run(folder)
    assert found.agrees
    assert any("equal up to a tie" in remark for remark in found.remarks)


def test_a_tie_excuses_nothing_else(tmp_path) -> None:
    folder = make(tmp_path, tied_document())
    change(folder / "golden_assignments.json", lambda c: first(c)["allocations_before"][
        "Free-small"].update(accelerator="B"))
    assert not run(folder).agrees


def milp_record(folder, solver, edit=lambda record: None):
    made = document("v1")
    # Few enough cards that the best plan mixes, where it may.
    made["system"]["capacityData"]["count"] = [
        {"type": "A", "count": 60 if solver == "milp-multi" else 120}, {"type": "B", "count": 110}]
    write(folder / "sample_v1" / "small", made)
    bundle = parse_bundle(made, "body")
    plan = solve(bundle, Settings(solver))
    assert plan.status == "optimal"
    assert any(len(parts) > 1 for parts in plan.parts.values()) == (solver == "milp-multi")
    candidates = find_candidates(bundle).by_server
    order = list(bundle.accelerators)
    chosen = {name: candidates[name][max((p.accelerator for p in parts), key=order.index)]
              for name, parts in plan.parts.items()}
    record = {"options": options(solver), "totalCost_before": sum(
        each.cost_cents_per_hour for each in chosen.values()), "allocations_before": {
            name: allocation(each, bundle.servers[name].load) for name, each in chosen.items()}}
    edit(record)
    (folder / "golden_assignments.json").write_text(json.dumps({"v1_small_" + solver: record}))
    return run(folder)


@pytest.mark.parametrize("solver", ["milp-single", "milp-multi"])
def test_runs_of_the_integer_program(tmp_path, solver) -> None:
    assert milp_record(tmp_path, solver).agrees


def test_an_incumbent_of_60_s_may_be_dearer_but_not_cheaper(tmp_path) -> None:
    dearer = milp_record(tmp_path, "milp-single",
                         lambda record: record.update(totalCost_before=1e6))
    assert dearer.agrees
    assert any("after 60 s" in remark for remark in dearer.remarks)
    assert not milp_record(tmp_path, "milp-single",
                           lambda record: record.update(totalCost_before=1.0)).agrees


@pytest.mark.parametrize(("schema", "remark"), [("v1", None), ("v2", "stale")])
def test_published_solutions(tmp_path, schema, remark) -> None:
    made = document(schema)
    bundle = parse_bundle(made, "body")
    folder = write(tmp_path / f"sample_{schema}" / "small", made)
    answer = solution(solve(bundle, settings_of(bundle.options)))
    (folder / "solution-data.json").write_text(json.dumps(answer))
    found = run(tmp_path)
    assert found.agrees
    assert any(remark in each for each in found.remarks) if remark else not found.remarks
    answer["allocations"]["Free-small"]["cost"] += 1
    (folder / "solution-data.json").write_text(json.dumps(answer))
    assert run(tmp_path).agrees is (schema == "v2")


def test_a_record_without_its_sample_is_named(tmp_path) -> None:
    folder = make(tmp_path)
    change(folder / "golden_assignments.json", lambda c: c.update(
        {"v2_huge_unlimited": first(c), "something else": first(c)}))
    found = run(folder)
    assert found.agrees
    assert any("sample bundle is not in the folder: 2" in remark for remark in found.remarks)


@pytest.mark.parametrize(("name", "text", "message"), [
    ("golden_queue_v1.json", "[{}]", "a record lacks what its kind has"),
    ("golden_queue_v2.json", "3", "expected a list or an object"),
    ("golden_queue_v1.json", "[", "is not JSON"),
    ("golden_candidates.json", '{"v2_small": 3}', "a record lacks"),
    ("golden_assignments.json", '{"v2_small_x": {"options": {}}}', "a record lacks"),
    ("golden_milp_reference.json", '{"new_small_single": []}', "a record lacks"),
])
def test_files_of_another_shape(tmp_path, name, text, message) -> None:
    write(tmp_path / "sample_v2" / "small")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        run(tmp_path)


def test_an_empty_folder(tmp_path) -> None:
    with pytest.raises(InputError, match="holds no golden"):
        run(tmp_path)


def test_the_slides_agree_to_their_last_digit() -> None:
    figures = list(slide_figures())
    assert len(figures) == 26
    assert [figure.name for figure in figures if not figure.agrees] == []


def test_the_worst_field_stands_for_a_record() -> None:
    fields = (near("a", 100.0, 100.1), near("b", 1.0, 1.5), equal("c", "x", "x"))
    record = Record("golden_x.json", "#1", fields)
    assert not record.agrees
    assert record.worst.name == "b"
    figure = record.figure()
    assert (figure.name, figure.agrees) == ("x #1: b (3 fields)", False)


@pytest.mark.parametrize(("field", "agrees"), [
    (Field("x", 1, 1), True), (Field("x", 1, 2), False), (Field("x", True, 1), True),
    (Field("x", "a", "b"), False), (Field("x", None, None), True), (Field("x", None, 1), False),
    (Field("x", [1, 2], [1, 3]), False), (Field("x", 1.0, 1.05, 0.1), True),
    (Field("x", 1.0, float("nan"), 0.1), False), (Field("x", 1, 2, informative=True), True)])
def test_when_a_field_agrees(field, agrees) -> None:
    assert field.agrees is agrees
    assert Record("f", "r", (field, equal("y", 1, 1))).agrees is agrees


@pytest.mark.parametrize(("ours", "agrees"), [(1.04, True), (1.06, False), (0.96, True)])
def test_an_absolute_figure(ours, agrees) -> None:
    assert Figure("x", 1.0, ours, "absolute", 0.05).agrees is agrees
    assert Figure("x", 0.0, ours - 1.0, "absolute", 0.05).agrees is agrees
