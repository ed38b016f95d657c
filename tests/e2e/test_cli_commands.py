"""Every command on a small fleet: what it prints, what it writes, its exit status."""

import csv
import json
import sys
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
import yaml

from penstock.cli import console
from penstock.cli.commands import FIRST_PAGE, IN_LAB
from penstock.cli.main import main
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.store import load_loading
from support.kernel_tables import write_tables
from support.small_fleet import FLEET

PAGE_FILES = {"report.html", "plotly.min.js"}
RUN_FILES = {"summary.json", "requests.parquet", "fleet.yaml"} | PAGE_FILES


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_run_writes_its_files_under_the_fleets_name(penstock, folder):
    outcome = penstock("run", "fleet.yaml")
    assert outcome.status == 0
    assert files(folder / "runs" / "small") == RUN_FILES
    assert files(folder / "runs") == {"small"}
    assert outcome.err == "files in runs/small\n"
    assert "every class meets its objective" in outcome.out
    summary = orjson.loads((folder / "runs/small/summary.json").read_bytes())
    assert summary["seed"] == 0
    assert summary["overall"]["received"] == 60
    assert summary["fleet"]["replicas"][0]["count"] == 1
    assert pq.read_table(folder / "runs/small/requests.parquet").num_rows == 60


def test_json_is_one_document_and_the_one_that_was_written(penstock, folder):
    outcome = penstock("run", "fleet.yaml", "--json", "--seed", 3)
    written = orjson.loads((folder / "runs/small/summary.json").read_bytes())
    assert outcome.json == written
    assert written["seed"] == written["fleet"]["run"]["seed"] == 3


def test_equal_seeds_give_equal_files_and_other_seeds_others(penstock, folder):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        penstock("run", "fleet.yaml", "--out", name, "--seed", seed, "--no-report")

    def content(name, file):
        return (folder / name / file).read_bytes()

    for file in ("summary.json", "requests.parquet", "fleet.yaml"):
        assert content("a", file) == content("b", file)
        assert content("a", file) != content("c", file)


def test_the_resolved_fleet_runs_to_the_same_summary(penstock, folder):
    penstock("run", "fleet.yaml", "--out", "first", "--no-report")
    penstock("run", "first/fleet.yaml", "--out", "second", "--no-report")
    assert (folder / "first/summary.json").read_bytes() == \
        (folder / "second/summary.json").read_bytes()


def test_run_sizes_a_fleet_that_asks_for_it(penstock):
    found = penstock("run", "unsized.yaml", "--json", "--no-report", "--set",
                     "sizing.max_replicas=64", "--set", "traffic[0].rate_per_s=40",
                     "--set", "traffic[0].num_requests=300",
                     "--set", "service_classes[0].slo.ttft_s=0.08").json
    sizing = found["sizing"]
    assert sizing["variable"] == "num_replicas"
    assert sizing["chosen"] == found["fleet"]["replicas"][0]["count"] > 1
    below = [trial for trial in sizing["tried"] if trial["value"] < sizing["chosen"]]
    assert below, "the throughput bound asks for fewer than the objectives do"
    assert not any(trial["meets_slo"] for trial in below)
    assert len(found["replicas"]) == sizing["chosen"]


def test_a_missed_objective_is_status_1_and_the_files_are_there(penstock, folder):
    outcome = penstock("run", "fleet.yaml", "--set", "service_classes[0].slo.ttft_s=0.001")
    assert outcome.status == 1
    assert "chat misses its objective" in outcome.out
    assert files(folder / "runs/small") == RUN_FILES


def test_sizing_that_fails_is_status_1_with_all_there_is(penstock):
    outcome = penstock("run", "unsized.yaml", "--json", "--no-report", "--set",
                       "sizing.max_replicas=64", "--set", "service_classes[0].slo.ttft_s=0.001")
    assert outcome.status == 1
    assert outcome.json["fleet"]["replicas"][0]["count"] == 4
    assert not any(trial["meets_slo"] for trial in outcome.json["sizing"]["tried"])


def test_groups_of_their_own_classes_are_sized_one_by_one(penstock, folder):
    groups = "sizing: {groups: [{classes: [chat]}, {classes: [batch]}]}\n"
    text = (folder / "unsized.yaml").read_text()
    (folder / "silo.yaml").write_text(text + groups)
    found = penstock("run", "silo.yaml", "--json").json
    assert [group["service_classes"] for group in found["fleet"]["replicas"]] == \
        [["chat"], ["batch"]]
    assert found["sizing"]["chosen"] is None
    assert found["sizing"]["note"].endswith("1 for chat, 1 for batch.")
    assert found["sizing"]["tried"][0]["attainment"] == {"chat": 1.0, "batch": 1.0}


def test_a_second_run_replaces_the_first_with_nothing_stale(penstock, folder):
    penstock("run", "fleet.yaml", "--out", "run", "--journal")
    assert files(folder / "run") == RUN_FILES | {"journal-0.jsonl"}
    (folder / "run" / "mine.txt").write_text("notes")
    assert penstock("run", "fleet.yaml", "--out", "run", "--no-report").status == 0
    assert files(folder / "run") == RUN_FILES - PAGE_FILES | {"mine.txt"}


def test_a_self_contained_page_is_one_file(penstock, folder):
    penstock("run", "fleet.yaml", "--out", "run", "--self-contained")
    assert files(folder / "run") == RUN_FILES - {"plotly.min.js"}
    assert (folder / "run" / "report.html").stat().st_size > 1_000_000


def test_a_failing_run_leaves_the_earlier_one_whole(penstock, folder, monkeypatch):
    penstock("run", "fleet.yaml", "--out", "run")
    before = {path.name: path.read_bytes() for path in (folder / "run").iterdir()}

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("penstock.report.html.run_page.write_page", fail)
    outcome = penstock("run", "fleet.yaml", "--out", "run", "--seed", 9)
    assert outcome.status == 2
    assert outcome.err == "error: run: cannot be written (No space left on device)\n"
    assert {path.name: path.read_bytes() for path in (folder / "run").iterdir()} == before
    assert files(folder) == {"fleet.yaml", "unsized.yaml", "run"}


def test_the_default_folder_stays_below_runs(penstock, folder):
    penstock("run", "fleet.yaml", "--set", "name=../../up", "--no-report")
    assert files(folder) == {"fleet.yaml", "unsized.yaml", "runs"}
    assert len(files(folder / "runs")) == 1


def test_the_order_of_a_mix_says_nothing(penstock, folder):
    """Targets go with a class's name, wherever it stands."""
    text = FLEET.replace("rate_per_s: 5", "rate_per_s: 200")
    (folder / "fleet.yaml").write_text(text)
    (folder / "turned.yaml").write_text(
        text.replace("{chat: 0.6, batch: 0.4}", "{batch: 0.4, chat: 0.6}"))
    runs = [penstock("run", name, "--json", "--no-report", "--set",
                     "service_classes[0].slo.ttft_s=0.2").json
            for name in ("fleet.yaml", "turned.yaml")]
    for run in runs:
        assert run["classes"]["batch"]["attainment"] == 1
        assert run["classes"]["chat"]["attainment"] < 1


def test_simulate_takes_the_number_of_replicas(penstock):
    found = penstock("simulate", "unsized.yaml", "--replicas", 3, "--json", "--no-report").json
    assert [entry["replica"] for entry in found["replicas"]] == [0, 1, 2]
    assert "sizing" not in found
    assert found["overall"]["cost"]["per_hour"] == pytest.approx(3 * 3.4309)


def test_replicas_of_several_groups_are_refused(penstock):
    outcome = penstock("simulate", "fleet.yaml", "--replicas", 2, "--set",
                       "replicas=[{service_classes: [chat]}, {service_classes: [batch]}]")
    assert outcome.status == 2
    assert "2 groups" in outcome.err


def test_report_prints_what_run_printed(penstock):
    first = penstock("run", "fleet.yaml", "--out", "run")
    again = penstock("lab", "report", "run")
    assert again.out == first.out
    assert penstock("lab", "report", "run", "--json").json["name"] == "small"


def test_report_says_where_the_page_is(penstock, folder):
    penstock("run", "fleet.yaml", "--out", "run")
    assert penstock("lab", "report", "run").err == \
        f"page: {(folder / 'run' / 'report.html').resolve().as_uri()}\n"
    penstock("run", "fleet.yaml", "--out", "run", "--no-report")
    assert penstock("lab", "report", "run").err == ""


def test_report_writes_the_page_anew_from_what_is_stored(penstock, folder):
    first = penstock("run", "fleet.yaml", "--out", "run", "--no-report")
    again = penstock("lab", "report", "run", "--html", "run/report.html")
    assert (again.status, again.out) == (0, first.out)
    page = (folder / "run" / "report.html").read_text()
    assert "Latency distributions" in page
    assert "Arrivals, queue and batch" in page
    for absent in ("Step timeline", "KV memory in use"):
        assert absent not in page
    penstock("run", "fleet.yaml", "--out", "whole")
    whole = (folder / "whole" / "report.html").read_text()
    assert "Step timeline" in whole
    figures = [json.loads(text.split('id="figures">')[1].split("</script>")[0])
               for text in (page, whole)]
    assert set(figures[1]) - set(figures[0]) == {"steps", "step_cost"}
    for name in ("ttft", "itl", "e2e"):
        assert figures[0][name] == figures[1][name]
    refused = penstock("lab", "report", "whole", "--html", "whole/report.html")
    assert refused.status == 2
    assert "expected another path" in refused.err
    assert (folder / "whole" / "report.html").read_text() == whole


def test_a_page_without_its_requests_is_refused(penstock, folder):
    penstock("run", "fleet.yaml", "--out", "run", "--no-report")
    assert "ends in .html" in penstock("lab", "report", "run", "--html", "page.txt").err
    (folder / "run" / "requests.parquet").write_bytes(b"PAR1")
    assert "requests.parquet" in penstock("lab", "report", "run", "--html", "page.html").err
    (folder / "run" / "requests.parquet").unlink()
    outcome = penstock("lab", "report", "run", "--html", "page.html")
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert not (folder / "page.html").exists()


def test_report_of_a_summary_that_lacks_something(penstock, folder):
    (folder / "summary.json").write_text('{"overall": {}, "classes": {}, "window_s": 1}')
    outcome = penstock("lab", "report", ".")
    assert outcome.status == 2
    assert outcome.err.startswith("error: summary.json: overall.")
    assert "missing; this key is required" in outcome.err


@pytest.mark.parametrize(("key", "value", "words"), [
    ("classes", [], "classes: found []; expected keys and values"),
    ("window_s", "long", "window_s: found long; expected a number"),
    ("refusals", 3, "refusals: found 3; expected a list"),
    ("plan", {"demands": [{"replicas": [1]}]}, "plan: found another form"),
    ("fleet", {"replicas": 3}, "fleet: found another form")])
def test_report_of_a_damaged_summary_names_the_key(key, value, words, penstock, folder):
    penstock("simulate", "fleet.yaml", "--out", "run", "--no-report")
    path = folder / "run" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    outcome = penstock("lab", "report", "run")
    assert outcome.status == 2
    assert outcome.err.startswith(f"error: run/summary.json: {words}")


def test_replay_agrees_and_notices_a_difference(penstock, folder):
    penstock("simulate", "fleet.yaml", "--replicas", 2, "--out", "run", "--journal", "--no-report")
    journal = folder / "run" / "journal-1.jsonl"
    plans = journal.read_bytes().count(b'"kind":"plan"')
    same = penstock("lab", "replay", journal, "--json")
    assert same.status == 0
    assert same.json == {"num_plans": plans, "same": True}
    lines = journal.read_bytes().splitlines(keepends=True)
    changed = next(i for i, line in enumerate(lines) if b'"kind":"plan"' in line)
    record = orjson.loads(lines[changed])
    record["plan"]["features"][0] += 1
    lines[changed] = orjson.dumps(record) + b"\n"
    journal.write_bytes(b"".join(lines))
    other = penstock("lab", "replay", journal, "--json")
    assert other.status == 1
    assert other.json["same"] is False
    assert other.json["expected"]["features"][0] == other.json["got"]["features"][0] + 1
    assert "step 0 differs after 0 equal plans" in penstock("lab", "replay", journal).out


def test_capacity_is_between_a_rate_that_meets_and_one_that_does_not(penstock):
    outcome = penstock("capacity", "fleet.yaml", "--seeds", 2, "--tolerance", 0.2, "--json",
                       "--set", "traffic[0].num_requests=400", "--set",
                       "service_classes[0].slo.ttft_s=0.1")
    found = outcome.json
    assert outcome.status == 0
    assert [entry["seed"] for entry in found["by_seed"]] == [0, 1]
    for entry in found["by_seed"]:
        probes = [probe for probe in found["probes"] if probe["seed"] == entry["seed"]]
        met = max(probe["rate_per_s"] for probe in probes if probe["meets"])
        missed = min(probe["rate_per_s"] for probe in probes if not probe["meets"])
        assert met == entry["rate_per_s"] < missed <= 1.2 * met * (1 + 1e-9)
    assert found["rate_per_s"] == pytest.approx(
        sum(entry["rate_per_s"] for entry in found["by_seed"]) / 2)
    assert found["half_width_per_s"] > 0
    assert found["share_of_bound"] == found["rate_per_s"] / found["bound_per_s"]


def test_no_capacity_is_status_1(penstock):
    outcome = penstock("capacity", "fleet.yaml", "--set", "service_classes[0].slo.ttft_s=0.001")
    assert outcome.status == 1
    assert "capacity 0.000 requests/s" in outcome.out


def test_traffic_too_short_to_load_the_fleet_is_told(penstock):
    outcome = penstock("capacity", "fleet.yaml")
    assert outcome.status == 0
    stopped, field = outcome.out.splitlines()[-2:]
    assert stopped.startswith("the search stopped at the bound: the requests are too few to miss a "
                              "target of 300 s:")
    assert field.startswith("raise traffic[0].num_requests to ")
    found = penstock("capacity", "fleet.yaml", "--json").json
    assert found["reached_bound"] is True
    assert list(found["raise_to"]) == ["traffic[0].num_requests"]
    needed = 5 * 300 * found["rate_per_s"]
    assert needed <= found["raise_to"]["traffic[0].num_requests"] <= 1.1 * needed
    warm = penstock("capacity", "fleet.yaml", "--set", "run.warmup_s=1000")
    assert warm.status == 2
    assert "within warmup_s, 1000 s" in warm.err


def test_capacity_keeps_below_its_ceiling(penstock):
    found = penstock("capacity", "fleet.yaml", "--high", 4, "--json").json
    assert found["rate_per_s"] == 4
    assert max(probe["rate_per_s"] for probe in found["probes"]) == 4


def test_bound_adds_up_replicas(penstock):
    one = penstock("capacity", "--method", "bound", "fleet.yaml", "--json").json
    three = penstock("capacity", "--method", "bound", "fleet.yaml", "--set", "replicas[0].count=3",
                     "--json").json
    assert one["rate_per_s"] == one["groups"][0]["replica_rate_per_s"] > 5
    assert three["rate_per_s"] == pytest.approx(3 * one["rate_per_s"])
    assert penstock("capacity", "--method", "bound", "unsized.yaml",
                    "--json").json["rate_per_s"] is None
    assert "all replicas together" in penstock("capacity", "--method", "bound", "fleet.yaml").out


def test_bound_says_how_many_replicas_the_traffic_needs(penstock):
    rate = "traffic[0].rate_per_s=70"
    found = penstock("capacity", "--method", "bound", "unsized.yaml", "--json", "--set", rate).json
    needed = found["replicas_needed"]
    assert needed == found["groups"][0]["replicas_needed"] > 1
    each = found["groups"][0]["replica_rate_per_s"]
    assert (needed - 1) * each < found["traffic_rate_per_s"] <= needed * each
    assert f"at the bound: {needed} replicas\n" in penstock("capacity", "--method", "bound",
                                                            "unsized.yaml", "--set",
                                                            rate).out
    silo = penstock("capacity", "--method", "bound", "fleet.yaml", "--json", "--set",
                    "replicas=[{service_classes: [chat]}, {service_classes: [batch]}]").json
    assert silo["replicas_needed"] == 2
    shared = penstock("capacity", "--method", "bound", "fleet.yaml", "--json", "--set",
                      "replicas=[{count: 1}, {}]").json
    assert shared["replicas_needed"] is None


@pytest.mark.parametrize("command", ["run unsized.yaml --no-report", "bound unsized.yaml",
                                     "compare fleet.yaml --policies sarathi:chunk_tokens=256,fcfs",
                                     "report run", "capacity fleet.yaml --tolerance 0.2",
                                     "sweep fleet.yaml --set run.seed=1,2"])
@pytest.mark.parametrize("columns", [80, 120])
def test_outputs_fit_the_window_and_cut_nothing(command, columns, penstock, monkeypatch):
    penstock("run", "fleet.yaml", "--out", "run", "--no-report")
    monkeypatch.setenv("COLUMNS", str(columns))
    text = penstock(*command.split()).out
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text


def test_compare_runs_every_policy_on_the_same_requests(penstock):
    found = penstock("compare", "fleet.yaml", "--policies",
                     "penstock,sarathi:chunk_tokens=128:max_num_seqs=8,fcfs", "--seeds", 2,
                     "--json").json
    assert found["seeds"] == [0, 1]
    labels = [policy["label"] for policy in found["policies"]]
    assert labels == ["penstock", "sarathi:chunk_tokens=128:max_num_seqs=8", "fcfs"]
    options = found["policies"][1]["options"]
    assert (options["policy"], options["chunk_tokens"], options["max_num_seqs"]) == \
        ("sarathi", 128, 8)
    prompts = {tuple(run["overall"]["prompt_tokens"] for run in policy["runs"])
               for policy in found["policies"]}
    assert len(prompts) == 1
    table = penstock("compare", "fleet.yaml", "--policies", "edf,srpf").out
    assert "edf" in table
    assert "srpf" in table
    assert "Differences to edf" in table
    figures = found["policies"][2]["figures"]
    assert figures["chat.ttft_s.p99"]["num_known"] == 2
    assert figures["chat.ttft_s.p99"]["difference"]["mean"] == pytest.approx(
        figures["chat.ttft_s.p99"]["mean"]
        - found["policies"][0]["figures"]["chat.ttft_s.p99"]["mean"])


def test_compare_draws_every_policy_over_the_rates(penstock, folder):
    arguments = ("compare", "fleet.yaml", "--policies", "penstock,fcfs", "--rate", "4,40")
    told = penstock(*arguments, "--html", "page.html")
    assert told.status == 0
    assert "Latency and goodput by level" in told.out
    page = (folder / "page.html").read_text()
    assert "arrivals, requests/s" in page
    assert len(page) < 1_000_000
    found = penstock(*arguments, "--json").json["rates"]
    assert [entry["rate_per_s"] for entry in found] == [4, 40]
    runs = [entry["policies"][0]["runs"][0] for entry in found]
    assert [run["overall"]["received_requests_per_s"] for run in runs] == \
        pytest.approx([4, 40], rel=0.2)
    assert runs[0]["overall"]["received"] == runs[1]["overall"]["received"]


def test_compare_has_a_page_of_policies_at_the_files_rate(penstock, folder):
    plain = penstock("compare", "fleet.yaml", "--policies", "penstock,fcfs")
    paged = penstock("compare", "fleet.yaml", "--policies", "penstock,fcfs", "--html", "page.html")
    assert plain.out == paged.out
    assert "Policies on the same requests" in (folder / "page.html").read_text()


@pytest.mark.parametrize(("arguments", "said"), [
    (("fleet.yaml", "--grid", "run.seed=1,2", "--html", "page.html"), "beside --grid"),
    (("fleet.yaml", "--policies", "penstock", "--rate", "0"), "--rate '0'"),
    (("fleet.yaml", "--policies", "penstock", "--html", "page.txt"), "ends in .html"),
    ((".", ".", "--rate", "1"), "--rate goes with a fleet file")])
def test_a_page_or_rate_that_compare_cannot_have(arguments, said, penstock, folder):
    done = penstock("compare", *arguments)
    assert done.status == 2
    assert said in done.err


def test_capacity_has_a_page_of_the_rates_tried(penstock, folder):
    arguments = ("capacity", "fleet.yaml", "--tolerance", "0.3")
    assert penstock(*arguments).out == penstock(*arguments, "--html", "page.html").out
    page = (folder / "page.html").read_text()
    assert "Capacity of small" in page
    assert "arrivals, requests/s" in page
    refused = penstock("capacity", "fleet.yaml", "--method", "bound", "--html", "page.html")
    assert refused.status == 2


def test_report_overlays_runs(penstock, folder):
    penstock("run", "fleet.yaml", "--out", "a", "--no-report")
    penstock("run", "fleet.yaml", "--out", "b", "--no-report", "--seed", 2)
    told = penstock("lab", "report", "a", "b", "--html", "both.html")
    assert told.status == 0
    assert told.out == penstock("compare", "a", "b").out
    page = (folder / "both.html").read_text()
    assert "a against b" in page
    assert "sent different requests" in page


def test_report_lists_the_worst_as_the_run_did(penstock, folder):
    first = penstock("run", "fleet.yaml", "--out", "run", "--set",
                     "service_classes[0].slo.ttft_s=0.001")
    assert first.status == 1
    assert "Worst requests" in first.out
    assert penstock("lab", "report", "run").out == first.out
    assert "Requests that missed" in (folder / "run/report.html").read_text()


def test_sweep_runs_the_grid_and_keeps_its_rows(penstock, folder):
    arguments = ("compare", "fleet.yaml", "--out", "rows.csv", "--seeds", 2, "--grid",
                 "policies.schedule=sarathi", "--grid", "policies.schedule.chunk_tokens=128,512")
    outcome = penstock(*arguments)
    assert outcome.status == 0
    assert "chunk_tokens" in outcome.out
    with (folder / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["policies.schedule.chunk_tokens"], row["seed"]) for row in rows] == \
        [("128", "0"), ("128", "1"), ("512", "0"), ("512", "1")]
    assert len({row["key"] for row in rows}) == 4
    assert float(rows[0]["chat.ttft_s.p99"]) > 0
    assert "exists; --resume" in penstock(*arguments).err


def test_jobs_write_the_same_file(penstock, folder):
    arguments = ("compare", "fleet.yaml", "--seeds", 2, "--grid", "traffic[0].rate_per_s=4,8")
    assert penstock(*arguments, "--out", "one.csv").status == 0
    outcome = penstock(*arguments, "--out", "three.csv", "--jobs", 3)
    assert (outcome.status, outcome.err) == (0, "")
    assert (folder / "three.csv").read_bytes() == (folder / "one.csv").read_bytes()


def test_a_resumed_sweep_computes_only_what_is_missing(penstock, folder, monkeypatch):
    arguments = ("compare", "fleet.yaml", "--grid", "run.seed=1,2,3")
    whole = penstock(*arguments, "--out", "whole.json").status, (folder / "whole.json").read_bytes()
    rows = json.loads(whole[1])
    (folder / "part.json").write_text(json.dumps(rows[:2]))
    ran = []
    import penstock.experiment.sweep as module
    run_point = module.run_point
    monkeypatch.setattr(module, "run_point", lambda point, *drawn: ran.append(
        point) or run_point(point, *drawn))
    assert penstock(*arguments, "--out", "part.json", "--resume", "--json").json == rows
    assert [point.seed for point in ran] == [3]
    assert (folder / "part.json").read_bytes() == whole[1]


@pytest.mark.parametrize("text", ["junk\n", "a,b\n1,2\n"])
def test_a_table_of_something_else_is_not_resumed(penstock, folder, text):
    (folder / "other.csv").write_text(text)
    outcome = penstock("compare", "fleet.yaml", "--grid", "run.seed=1", "--out", "other.csv",
                       "--resume")
    assert (outcome.status, outcome.out) == (2, "")
    assert "other.csv: has no rows of a grid" in outcome.err
    assert (folder / "other.csv").read_text() == text


def test_sweep_sizes_a_fleet_without_replicas_at_every_point(penstock):
    rows = penstock("compare", "unsized.yaml", "--json", "--grid", "traffic[0].rate_per_s=2,60",
                    "--set", "service_classes[0].slo.ttft_s=0.2").json
    assert rows[0]["num_replicas"] < rows[1]["num_replicas"]
    assert [row["traffic[0].rate_per_s"] for row in rows] == [2, 60]


def test_a_kind_of_replica_that_nobody_named_is_told(penstock, folder):
    """--replicas without kinds means the first accelerator; sweep alone plans."""
    text = (folder / "unsized.yaml").read_text().replace(
        "[{name: a100-80gb, count: 4}]", "[{name: a100-80gb, count: 4, price_per_hour: 4}, "
        "{name: l4, count: 8, price_per_hour: 1}]")
    (folder / "kinds.yaml").write_text(text)
    compared = penstock("compare", "kinds.yaml", "--replicas", 1, "--policies", "penstock,fcfs")
    swept = penstock("compare", "kinds.yaml", "--grid", "run.seed=0", "--replicas", 1, "--json")
    for done in (compared, swept):
        assert done.status == 0
        assert done.err.startswith("--replicas 1: of a100-80gb, the first accelerator of the file;")
    assert swept.json[0]["cost_per_hour"] == 4
    planned = penstock("compare", "kinds.yaml", "--grid", "run.seed=0", "--json")
    assert (planned.err, planned.json[0]["cost_per_hour"]) == ("", penstock(
        "plan", "kinds.yaml", "--json", "--no-report").json["cost_per_hour"])
    for file in ("unsized.yaml", "fleet.yaml"):
        assert penstock("compare", file, "--grid", "run.seed=0", "--replicas", 1,
                        "--json").err == ""


def test_trace_generate_convert_and_info_agree(penstock, folder):
    penstock("trace", "generate", "fleet.yaml", "t.csv", "--seed", 5)
    penstock("trace", "convert", "t.csv", "t.parquet")
    penstock("trace", "convert", "t.parquet", "t.jsonl.gz")
    stats = [penstock("trace", "info", name, "--json").json
             for name in ("t.csv", "t.parquet", "t.jsonl.gz")]
    assert stats[0]["num_requests"] == 60
    assert stats[0]["prompt"]["mean"] == 400
    for other in stats[1:]:
        assert other["output"] == stats[0]["output"]
    assert stats[1]["rate_per_s"] == stats[0]["rate_per_s"]
    assert files(folder) == {"fleet.yaml", "unsized.yaml", "t.csv", "t.parquet", "t.jsonl.gz"}
    assert "mean rate" in penstock("trace", "info", "t.csv").out


def test_a_generated_trace_runs_like_the_traffic_it_came_from(penstock, folder):
    penstock("trace", "generate", "fleet.yaml", "t.csv")
    start, end = FLEET.index("traffic"), FLEET.index("replicas")
    (folder / "replayed.yaml").write_text(
        f"{FLEET[:start]}traffic: [{{trace: {{file: t.csv}}}}]\n{FLEET[end:]}")
    drawn = penstock("run", "fleet.yaml", "--json", "--no-report").json
    replayed = penstock("run", "replayed.yaml", "--json", "--no-report").json
    assert replayed["overall"] == drawn["overall"]
    assert replayed["classes"] == drawn["classes"]


def test_data_is_where_traces_are_looked_for(penstock, folder):
    (folder / "data").mkdir()
    (folder / "data" / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,9,3\n1,9,3\n")
    found = penstock("run", "fleet.yaml", "--data", "data", "--json", "--no-report", "--set",
                     "traffic=[{mix: {chat: 1.0}, trace: {file: t.csv}}]").json
    assert found["overall"]["received"] == 2
    assert found["classes"]["batch"]["meets_slo"] is None


def test_catalog_lists_and_shows(penstock, folder):
    names = penstock("catalog", "list", "--json").json
    assert "a100-80gb" in names["accelerators"]
    assert "llama-3-8b" in names["models"]
    assert "a100-80gb" in penstock("catalog", "list").out
    shown = penstock("catalog", "show", "llama-3-8b", "--json").json
    assert shown["kind"] == "model"
    assert shown["num_params"] == pytest.approx(8.03e9, rel=0.01)
    assert "80 GiB" in penstock("catalog", "show", "a100-80gb").out
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64,
              "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128,
              "vocab_size": 1000, "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    assert penstock("catalog", "show", "./config.json", "--json").json["num_layers"] == 2


def test_schema_describes_the_fleet_file(penstock):
    schema = penstock("lab", "schema").json
    assert set(yaml.safe_load(FLEET)) <= set(schema["properties"])


def test_fit_writes_a_model_that_a_fleet_file_takes(penstock, folder):
    rows = ["prefill_tokens,work,decode_seqs,decode_context_tokens,duration_s"]
    rows += [f"{p},{p * p / 2},{d},{d * 700},{0.008 + 6e-5 * p + 1e-5 * d + 7e-5 * d}"
             for p in (0, 64, 256, 512, 1024) for d in (1, 4, 9, 30, 70)]
    (folder / "steps.csv").write_text("\n".join(rows))
    found = penstock("profile", "fit", "step-time", "steps.csv", "--form", "linear", "--out",
                     "fit.yaml",
                     "--json").json
    assert found["kind"] == "linear"
    assert found["blocked"]["mean"] < 0.02
    outcome = penstock("run", "fleet.yaml", "--no-report", "--set",
                       "replicas[0].step_time=fit.yaml")
    assert outcome.status == 0
    assert "Linear fit to 25 steps" in penstock("profile", "fit", "step-time", "steps.csv",
                                                "--form",
                                                "linear").out


def test_kernel_tables_become_a_model_that_a_fleet_file_takes(penstock, folder):
    write_tables(folder / "tables")
    config = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 1024,
              "num_attention_heads": 16, "num_key_value_heads": 4, "intermediate_size": 2048,
              "vocab_size": 4096, "max_position_embeddings": 8192}
    (folder / "config.json").write_text(json.dumps(config))
    arguments = ("profile", "fit", "kernels", "tables", "--model", "./config.json", "--system",
                 "toy",
                 "--tensor", "2")
    found = penstock(*arguments, "--out", "toy.yaml", "--json").json
    assert found["kind"] == "tabulated"
    assert found["errors"]["mean"] < 0.05
    assert found["examples"][0]["parts_s"]["communication"] > 0.0
    printed = penstock(*arguments).out
    assert "Compact form against the composition" in printed
    assert "source: composed from toy kernel tables" in printed
    outcome = penstock("run", "fleet.yaml", "--no-report", "--set",
                       "replicas[0].step_time=toy.yaml")
    assert outcome.status == 0


def test_loads_become_a_model_and_a_profile_is_questioned(penstock, folder):
    sizes = {"a": 20, "b": 26, "c": 32}
    warm = ["run,model,size_bytes,seconds,cached_bytes"]
    rows = ["run,model,size_bytes,seconds"]
    for name, size in sizes.items():  # the first of a run is not counted
        warm += [f"{name},{name},{size}000000000,{1 + size / 10},{size}000000000"] * 2
    memory = HostMemory(46_000_000_000)
    for run in range(8):
        for name in "abcabac":
            read = memory.read(name, sizes[name] * 10**9)
            rows.append(f"{run},{name},{sizes[name]}000000000,"
                        f"{1 + sizes[name] / 10 + read.disk_bytes / 2e9}")
    (folder / "warm.csv").write_text("\n".join(warm))
    (folder / "loads.csv").write_text("\n".join(rows))
    arguments = ("profile", "fit", "loading", "loads.csv", "--profile", "warm.csv", "--page-cache",
                 "46")
    found = penstock(*arguments, "--out", "loading.yaml", "--json").json
    assert found["disk_bytes_per_s"] == pytest.approx(2e9, rel=0.05)
    assert found["held_out"]["plain"]["r2"] > 0.95 > found["per_model_mean"]["plain"]["r2"]
    assert found["profile"][0]["factor"] > 2.0
    model, page_cache_bytes = load_loading(folder / "loading.yaml")
    assert page_cache_bytes == 46_000_000_000
    assert model.disk_bytes_per_s == found["disk_bytes_per_s"]
    printed = penstock(*arguments).out
    assert "Loading model fitted to 56 loads in 8 runs" in printed
    assert "do not fit into the page cache" in " ".join(printed.split())


SPELLINGS = [entry.spelling for entry in (*FIRST_PAGE.values(), *IN_LAB.values())]


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_command_helps_with_an_example(name, penstock):
    outcome = penstock(*name.split(), "--help")
    assert outcome.status == 0
    assert f"Example: penstock {name}" in outcome.out


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command_and_fits_a_screen(arguments, penstock):
    outcome = penstock(*arguments)
    assert outcome.status == 0
    for entry in FIRST_PAGE.values():
        assert f"  {entry.name} " in outcome.out
    lines = outcome.out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line in ("Plan", "Simulate", "Serve", "Measure", "Lab")] == [
        "Plan", "Simulate", "Serve", "Measure", "Lab"]


def test_the_labs_help_names_its_commands(penstock):
    outcome = penstock("lab", "--help")
    for name in IN_LAB:
        assert f"  {name} " in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


@pytest.mark.parametrize("name", ["trace info", "trace convert", "trace generate", "catalog list",
                                  "catalog show", "catalog explain",
                                  "profile fit step-time", "profile fit loading",
                                  "profile estimate", "lab queue solve", "lab queue size",
                                  "lab queue optimize"])
def test_every_subcommand_helps_with_an_example(name, penstock):
    outcome = penstock(*name.split(), "--help")
    assert outcome.status == 0
    assert f"Example: penstock {name}" in outcome.out


def test_names_with_brackets_are_no_markup(penstock):
    outcome = penstock("run", "fleet.yaml", "--no-report", "--set", "name='[red]x'",
                       "--set", "service_classes[1].name='[b]atch'", "--set",
                       "traffic[0].mix={chat: 0.6, '[b]atch': 0.4}")
    assert outcome.status == 0
    assert "[b]atch" in outcome.out


def test_a_bug_is_one_line_and_a_traceback_on_demand(penstock, monkeypatch):
    def broken(*arguments, **settings):
        raise KeyError("replica\nof old")

    monkeypatch.setattr("penstock.fleet.load.load_fleet", broken)
    outcome = penstock("capacity", "--method", "bound", "fleet.yaml")
    assert outcome.status == 70
    assert outcome.err.count("\n") == 1
    assert "bug in Penstock (KeyError" in outcome.err
    assert "PENSTOCK_DEBUG=1" in outcome.err
    monkeypatch.setenv("PENSTOCK_DEBUG", "1")
    assert "Traceback" in penstock("capacity", "--method", "bound", "fleet.yaml").err


def test_an_interrupt_is_130_and_leaves_nothing(penstock, folder, monkeypatch):
    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("penstock.experiment.run.simulate", interrupted)
    outcome = penstock("run", "fleet.yaml")
    assert outcome.status == 130
    assert outcome.err == "error: interrupted\n"
    assert not (folder / "runs").exists()


def test_too_little_memory_is_told(penstock, monkeypatch):
    def exhausted(*arguments, **settings):
        raise MemoryError("Unable to allocate 7.45 GiB")

    monkeypatch.setattr("penstock.fleet.sources.fleet_traffic", exhausted)
    outcome = penstock("run", "fleet.yaml")
    assert outcome.status == 2
    assert outcome.err == "error: not enough memory (Unable to allocate 7.45 GiB)\n"


def test_progress_is_drawn_on_a_terminal_only(penstock, monkeypatch):
    assert "━" not in penstock("run", "fleet.yaml").err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.progress("counting", 2) as update:
        update("one")
        update("two", 2)
    assert main(["--version"]) == 0
