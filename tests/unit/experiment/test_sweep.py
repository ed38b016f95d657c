from dataclasses import replace

import pytest

import penstock.experiment.sweep as module
from penstock.core.errors import InputError
from penstock.experiment.sweep import Point, grid, run_point, sweep
from penstock.experiment.workers import Cores
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.plan.assign.solve import solve
from penstock.plan.plan import plan_fleet
from support.small_fleet import FLEET


def load(settings):
    return parse_fleet(FLEET, overrides=settings)


AXES = {"policies.schedule.chunk_tokens": [128, 256], "traffic[0].rate_per_s": [2, 4]}


def test_the_last_axis_changes_fastest_and_seeds_faster_still():
    points = grid({"run.seed": [5, 8], "run.warmup_s": [0, 1]}, load, 2)
    assert [(p.settings["run.seed"], p.settings["run.warmup_s"], p.seed) for p in points] == [
        (5, 0, 5), (5, 0, 6), (5, 1, 5), (5, 1, 6), (8, 0, 8), (8, 0, 9), (8, 1, 8), (8, 1, 9)]


def test_keys_tell_points_apart_and_stay_the_same():
    keys = [point.key for point in grid(AXES, load, 2)]
    assert len(set(keys)) == 8
    assert keys == [point.key for point in grid(AXES, load, 2)]
    # The same fleet reached by other settings is the same point.
    plain = grid({}, load, 1)[0]
    assert grid({"traffic[0].rate_per_s": [5]}, load, 1)[0].key == plain.key


def test_rows_hold_settings_figures_and_key():
    points = grid(AXES, load, 1)
    rows = list(sweep(points, {point.key for point in points[1:]}))
    assert len(rows) == 1
    row = rows[0]
    run = run_point(points[0])
    assert row["policies.schedule.chunk_tokens"] == 128
    assert row["key"] == points[0].key
    assert row["attainment"] == run.summary.overall.attainment
    assert row["chat.ttft_s.p99"] == run.summary.classes["chat"].latency.ttft_s.p99
    assert row["num_replicas"] == 1


def test_each_seed_draws_its_own_requests():
    first, second = sweep(grid({}, load, 2))
    assert (first["seed"], second["seed"]) == (0, 1)
    assert first["chat.ttft_s.p99"] != second["chat.ttft_s.p99"]


def test_workers_change_nothing():
    points = grid({"policies.schedule": ["penstock", "fcfs"], "run.seed": [0, 7]}, load, 1)
    alone = list(sweep(points))
    together = list(sweep(points, where=Cores(3)))
    assert together == alone
    assert [list(row) for row in together] == [list(row) for row in alone]
    assert len({repr(row["chat.ttft_s.p99"]) for row in alone}) > 1
    assert list(sweep(points, {points[1].key}, where=Cores(2))) == [alone[0], *alone[2:]]


def test_files_are_read_once_and_by_no_worker(tmp_path, monkeypatch):
    """Points that differ in their policies alone share the requests of a seed."""
    lines = "\n".join(f"{number / 4},{300 + number},20" for number in range(40))
    (tmp_path / "trace.csv").write_text(f"arrived_at,input_tokens,output_tokens\n{lines}\n")
    traced = {"traffic[0].lengths": None, "traffic[0].num_requests": None,
              "traffic[0].rate_per_s": None, "traffic[0].trace": {
                  "file": str(tmp_path / "trace.csv")}}
    points = grid({"policies.schedule": ["penstock", "fcfs"]},
                  lambda settings: parse_fleet(FLEET, overrides=traced | settings), 2)
    drawn = []
    monkeypatch.setattr(module, "fleet_workload", lambda fleet, seed: drawn.append(
        seed) or fleet_workload(fleet, seed))
    rows = list(sweep(points))
    assert drawn == [0, 1]
    assert rows == [row for point in points for row in sweep([point])]


def test_what_a_worker_refuses_is_told():
    fleet = parse_fleet(FLEET.replace("replicas: [{count: 1}]\n", ""))
    short = replace(fleet, run=replace(fleet.run, warmup_s=1e6))
    points = [Point({}, short, seed, str(seed)) for seed in (0, 1)]
    with pytest.raises(InputError, match="no request arrives after"):
        list(sweep(points, where=Cores(2)))


KINDS = FLEET.replace("replicas: [{count: 1}]\n", "").replace(
    "[{name: a100-80gb, count: 4}]",
    "[{name: a100-80gb, count: 4, price_per_hour: 4}, {name: l4, count: 8, price_per_hour: 1}]")


def test_without_replicas_each_point_is_planned():
    """Not sized on the first accelerator, which costs more; and within the file's budget."""
    points = grid({"plan.max_cost_per_hour": [0.5, 20]},
                  lambda settings: parse_fleet(KINDS, overrides=settings), 1)
    none, some = (run_point(point) for point in points)
    assert none.fleet.replicas == ()
    planned = plan_fleet(points[1].fleet, solve)
    assert some.fleet.replicas == planned.fleet.replicas
    assert {group.accelerator.name for group in some.fleet.replicas} == {"l4"}
    assert [row["num_replicas"] for row in sweep(points)] == [
        0, sum(group.count for group in planned.fleet.replicas)]


def test_what_the_file_states_is_sized():
    stated = KINDS + "sizing: {groups: [{accelerator: a100-80gb}]}\n"
    (point,) = grid({}, lambda settings: parse_fleet(stated, overrides=settings), 1)
    (group,) = run_point(point).fleet.replicas
    assert (group.accelerator.name, group.count) == ("a100-80gb", 1)


@pytest.mark.parametrize(("axes", "seeds", "words"), [
    ({"run.seed": []}, 1, "run.seed has no values"),
    ({"run.seed": [0] * 101}, 100, "10,100 runs"),
    ({"run.warmup_s": [0, -1]}, 1, "run.warmup_s=-1: override: run.warmup_s")])
def test_bad_grids_are_refused(axes, seeds, words):
    with pytest.raises(InputError, match=words):
        grid(axes, load, seeds)
