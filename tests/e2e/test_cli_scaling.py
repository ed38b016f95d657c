"""Fleets whose number of replicas follows their load, from the command line."""
import json
import re

import pytest

from support.long_params import with_long

FLEET = """\
name: scaled
accelerators: [{name: a100-80gb, count: 6}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic:
  - {lengths: {prompt: {fixed: 1000}, output: {fixed: 100}}, rate_per_s: 2, duration_s: 60}
  - {lengths: {prompt: {fixed: 1000}, output: {fixed: 100}}, rate_per_s: 30, duration_s: 120,
     start_s: 60}
replicas: [{count: 1, max_replicas: 4}]
scaling: {start_s: 20}
policies: {schedule: penstock, scale: {name: hpa, target: 16}}
"""
# Fewer and longer requests: the bound simulates its timetables a dozen times.
SMALL = FLEET.replace("fixed: 1000", "fixed: 4000").replace("rate_per_s: 30", "rate_per_s: 7")


@pytest.fixture(autouse=True)
def _scaled(folder) -> None:
    (folder / "fleet.yaml").write_text(FLEET)


def test_a_run_tells_what_its_scaler_did(folder, penstock) -> None:
    found = penstock("simulate", "fleet.yaml", "--out", "run", "--journal")
    assert "Scaling" in found.out, found
    assert "hpa:target=16" in found.out
    told = penstock("simulate", "fleet.yaml", "--out", "again", "--json").json
    scaling, overall = told["scaling"], told["overall"]
    assert scaling["peak_replicas"] == 4
    assert 1 < scaling["mean_replicas"] < 4
    assert scaling["starts"] >= 3
    assert scaling["decisions"][0]["reason"] == "mean num_running against 16"
    assert overall["cost"]["total"] == pytest.approx(
        overall["cost"]["per_hour"] * told["window_s"] / 3600)
    page = (folder / "run/report.html").read_text()
    assert "Demand, replicas, attainment and cost over time" in page
    assert "mean num_running against 16" in page


def test_every_life_of_a_slot_has_a_journal_that_replays(folder, penstock) -> None:
    penstock("simulate", "fleet.yaml", "--out", "run", "--journal", "--no-report")
    lives = sorted((folder / "run").glob("journal-*-1.jsonl"))
    assert len(lives) >= 3
    for journal in lives:
        replayed = penstock("lab", "replay", "--json", journal)
        assert replayed.status == 0, replayed
        assert replayed.json["same"]


LONG = ("ray", "{name: kpa, target: 16}", "llm-d-slo", "wva-tokens", "block", "llm-d-tokens",
        "{name: aibrix-apa, target: 16}", "{name: dynamo, optimization_target: sla}",
        "{name: inferno, warm_up_cycles: 1}")


@pytest.mark.parametrize("policy", with_long(
    ("{name: hpa, target: 16}", "penstock", "keda", *LONG), LONG))
def test_recorded_decisions_are_made_again_and_can_be_asked_of_others(folder, penstock, policy
                                                                      ) -> None:
    path = folder / "fleet.yaml"
    path.write_text(path.read_text().replace("{name: hpa, target: 16}", policy))
    penstock("simulate", "fleet.yaml", "--out", "run", "--journal", "--no-report")
    same = penstock("lab", "replay", "run/scaling.jsonl", "--json")
    assert same.status == 0, same
    assert same.json["num_different"] == 0
    assert same.json["num_decisions"] > 4
    other = penstock("lab", "replay", "run/scaling.jsonl", "--scale", "hpa:target=3", "--json")
    assert other.status == 0
    assert other.json["num_different"] > 0
    assert other.json["mean_recorded"] == same.json["mean_recorded"]
    assert other.json["mean_decided"] > same.json["mean_recorded"]


def test_a_changed_policy_is_noticed_and_bad_records_are_one_error(folder, penstock) -> None:
    penstock("simulate", "fleet.yaml", "--out", "run", "--journal", "--no-report")
    record = folder / "run/scaling.jsonl"
    record.write_text(record.read_text().replace('"target":16', '"target":5', 1))
    changed = penstock("lab", "replay", "run/scaling.jsonl")
    assert changed.status == 1
    assert "differ; at" in changed.out
    for scale, said in (("hqa", "did you mean 'hpa'"), ("hpa", "needs the setting target")):
        refused = penstock("lab", "replay", "run/scaling.jsonl", "--scale", scale)
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert said in refused.err
    record.write_text(record.read_text() + "{}\n")
    broken = penstock("lab", "replay", "run/scaling.jsonl")
    assert (broken.status, broken.err.count("\n")) == (2, 1)
    assert "expected a recorded scaling decision" in broken.err


@pytest.mark.parametrize(("change", "parts"), [
    (("start_s: 20", "hold_s: 5"), ["replicas[0].start_s", "scaling.start_s"]),
    (("max_replicas: 4", "min_replicas: 2"), ["replicas[0].min_replicas", "more than count"]),
    (("{name: hpa, target: 16}", "hpa"), ["policies.scale", "needs the setting target"]),
    (("{name: hpa, target: 16}", "hqa"), ["policies.scale", "did you mean 'hpa'?"]),
    (("{name: hpa, target: 16}", "{name: hpa, target: 16, metrik: x}"), ["metrik", "metric"]),
    (("{name: hpa, target: 16}", "none"), ["replicas[0].max_replicas", "policies.scale is none"]),
    (("{name: a100-80gb, count: 6}", "{name: a100-80gb}"), []),
    (("count: 1, max_replicas: 4", "count: 1"), []),
])
def test_a_wrong_file_is_told_in_one_line(folder, penstock, change, parts) -> None:
    assert change[0] in FLEET
    (folder / "fleet.yaml").write_text(FLEET.replace(*change))
    found = penstock("check", "fleet.yaml")
    assert found.status == (2 if parts else 0), found
    assert all(part in found.out + found.err for part in parts), found


def test_a_ceiling_is_needed_where_accelerators_have_no_count(folder, penstock) -> None:
    text = FLEET.replace("{name: a100-80gb, count: 6}", "{name: a100-80gb}")
    (folder / "fleet.yaml").write_text(text.replace(", max_replicas: 4", ""))
    found = penstock("check", "fleet.yaml")
    assert found.status == 2
    assert "replicas[0].max_replicas" in found.out + found.err


def test_commands_for_fixed_numbers_leave_the_policy_out(penstock) -> None:
    found = penstock("capacity", "fleet.yaml", "--method", "bound")
    assert found.status == 0, found
    assert "policies.scale: hpa is left out" in found.err


def test_a_fleet_that_starts_at_zero_has_a_capacity_at_a_stated_number(folder, penstock) -> None:
    (folder / "fleet.yaml").write_text(FLEET.replace("count: 1, max", "count: 0, max"))
    found = penstock("capacity", "fleet.yaml", "--method", "queue", "--replicas", "2", "--json")
    assert found.json["groups"][0]["count"] == 2, found
    none = penstock("capacity", "fleet.yaml")
    assert none.status == 2
    assert "states no replicas" in none.err


def test_an_unknown_set_of_clients_is_told(folder, penstock) -> None:
    (folder / "m-large_windows_week1.parquet").write_bytes(b"")
    (folder / "fleet.yaml").write_text(FLEET.replace(
        "lengths: {prompt: {fixed: 1000}, output: {fixed: 100}}, rate_per_s: 2, duration_s: 60",
        "clients: m-lage"))
    found = penstock("check", "fleet.yaml")
    assert found.status == 2
    assert "no files of 'm-lage'" in found.out + found.err, found
    assert "clients: m-large" in found.out + found.err, found


def test_no_replica_needs_a_policy(folder, penstock) -> None:
    (folder / "fleet.yaml").write_text(FLEET.replace("{name: hpa, target: 16}", "none").replace(
        "count: 1, max_replicas: 4", "count: 0"))
    found = penstock("simulate", "fleet.yaml")
    assert found.status == 2
    assert "replicas[0].count" in found.err


def test_scale_policies_side_by_side(folder, penstock) -> None:
    (folder / "fleet.yaml").write_text(
        SMALL.replace("{start_s: 20}", "{start_s: 20, settings: {hpa: {target: 24}}}"))
    found = penstock("compare", "fleet.yaml", "--scale", "penstock,hpa,kpa:target=16,static",
                     "--html", "out.html", "--json")
    assert found.status == 0, found
    assert [one["scale"] for one in found.json] == ["penstock", "hpa", "kpa:target=16", "static"]
    assert len({one["bound_gpu_hours"] for one in found.json}) == 1
    for one in found.json:
        if one["meets_slo"]:
            assert one["gpu_hours"] >= one["bound_low_gpu_hours"] > 0
    by_name = {one["scale"]: one for one in found.json}
    assert by_name["static"]["starts"] == 0
    assert by_name["penstock"]["attainment"] > by_name["static"]["attainment"]
    assert found.json[0]["bound_gpu_hours"] >= found.json[0]["bound_low_gpu_hours"]
    _is_drawn((folder / "out.html").read_text(), found.json)
    quick = penstock("compare", "fleet.yaml", "--scale", "static", "--no-bound", "--json")
    assert quick.json[0]["bound_gpu_hours"] is None
    assert quick.json[0]["gpu_hours"] == by_name["static"]["gpu_hours"]


def _is_drawn(page, runs) -> None:
    """The page of a comparison draws each of its runs, and the bound."""
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])
    points = {trace["name"]: trace for trace in figures["pareto"]["data"]}
    for one in runs:
        assert points[one["scale"]]["x"] == [pytest.approx(one["gpu_hours"])]
    assert figures["pareto"]["layout"]["shapes"][0]["x0"] == pytest.approx(
        runs[0]["bound_gpu_hours"])
    held = {trace["name"]: max(trace["y"]) for trace in figures["replicas"]["data"]
            if trace["yaxis"] == "y3"}
    assert held == {one["scale"]: one["peak_replicas"] for one in runs}


def test_a_comparison_tells_of_its_bound(folder, penstock) -> None:
    (folder / "fleet.yaml").write_text(SMALL.replace("duration_s: 120", "duration_s: 20"))
    told = penstock("compare", "fleet.yaml", "--scale", "static")
    assert "a clairvoyant" in told.out, told


def test_a_page_has_the_right_ending(folder, penstock) -> None:
    found = penstock("compare", "fleet.yaml", "--scale", "static", "--html", "out.htm")
    assert (found.status, found.err.count("\n")) == (2, 1), found
    assert "ends in .html" in found.err


def test_replicas_that_would_tell_of_confidential_requests_are_not_compared(folder, penstock
                                                                            ) -> None:
    text = FLEET.replace("slo: {ttft_s: 2, itl_s: 0.05}", "confidential: true, slo: {ttft_s: 2}")
    text = text.replace("a100-80gb, count: 6}", "h100-80gb, count: 6, confidential: true}")
    (folder / "fleet.yaml").write_text(text)
    found = penstock("compare", "fleet.yaml", "--scale", "static")
    assert found.status == 2, found
    assert "some requests are confidential" in found.err, found


@pytest.mark.parametrize(("arguments", "parts"), [
    (("--scale", "penstok"), ["--scale penstok", "did you mean 'penstock'?"]),
    (("--scale", "kpa"), ["--scale kpa", "needs the setting target"]),
    (("--scale", "static,static"), ["--scale", "appears twice"]),
    (("--scale", "none"), ["--scale none"]),
    (("--scale", "static", "--policies", "sarathi"), ["--policies", "beside --scale"]),
    (("--scale", "static", "--grid", "run.seed=1,2"), ["--scale", "beside --grid"]),
])
def test_a_wrong_comparison_is_told_in_one_line(penstock, arguments, parts) -> None:
    found = penstock("compare", "fleet.yaml", *arguments)
    assert found.status == 2, found
    assert all(part in found.err for part in parts), found
