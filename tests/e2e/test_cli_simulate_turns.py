"""``penstock simulate`` of a fleet whose models take turns on devices."""

import json

import pytest
import yaml

from penstock.fleet.load import load_fleet
from penstock.metrics.request_file import read_requests
from support.html_pages import headings_descend_by_one, outline

NAMES = ("llama-3-8b", "llama-2-7b", "mistral-7b")
TURNS = {
    "accelerators": [{"name": "h100-80gb", "count": 1}],
    "models": [{"name": name} for name in NAMES],
    "service_classes": [{"name": "chat", "slo": {"e2e_s": 15}}],
    "traffic": [{"model": name, "rate_per_s": 20, "num_requests": 100,
                 "lengths": {"prompt": {"fixed": 200}, "output": {"fixed": 50}}}
                for name in NAMES],
    "multiplexing": [{"name": "gpu", "memory_gib": 20, "batching": "static",
                   "host": {"memory_gib": 16, "disk_gb_per_s": 4},
                   "models": [{"model": name, "max_batch": 16} for name in NAMES]}]}


@pytest.fixture
def turns(folder):
    (folder / "turns.yaml").write_text(yaml.safe_dump(TURNS))


@pytest.mark.usefixtures("turns")
def test_files_tables_and_page(folder, penstock) -> None:
    done = penstock("simulate", "turns.yaml", "--out", "run")
    assert done.status == 1  # 99 % of them do not meet their target
    for text in ("Served by 3 models on 1 h100-80gb: chat misses its objective.", "Models on gpu",
                 "too late", "loading", "penstock"):
        assert text in done.out
    summary = json.loads((folder / "run/summary.json").read_text())
    table = read_requests(folder / "run/requests.parquet")
    assert summary["overall"]["received"] == len(table) == 300
    assert summary["overall"]["met"] == int(table.met_slo.sum())
    page = outline((folder / "run/report.html").read_text())
    assert headings_descend_by_one(page.headings)
    assert {"device_time", "model_attainment", "e2e"} <= set(page.figures)
    assert "Model multiplexing" in " ".join(page.text)
    # The stored fleet file simulates to the same, and its page can be made anew.
    again = penstock("simulate", "run/fleet.yaml", "--out", "again", "--json", "--no-report")
    assert again.json["multiplexing"] == summary["multiplexing"]
    assert load_fleet(folder / "run/fleet.yaml").multiplexing == load_fleet(
        folder / "turns.yaml").multiplexing
    assert penstock("lab", "report", "run").status == 0


@pytest.mark.usefixtures("turns")
def test_runs_of_two_policies_compare(penstock) -> None:
    for policy in ("penstock", "edf"):
        penstock("simulate", "turns.yaml", "--out", policy,
                 "--set", f"multiplexing[0].policy={policy}")
    done = penstock("compare", "penstock", "edf")
    assert done.status == 0
    assert "attainment" in done.out


@pytest.mark.usefixtures("turns")
def test_policies_on_the_same_requests(penstock) -> None:
    done = penstock("compare", "turns.yaml", "--policies", "penstock,longest-queue:shed=true",
                    "--seeds", "2", "--json")
    assert done.status == 0
    first, second = done.json["policies"]
    assert second["options"] == {"policy": "longest-queue", "shed": True}
    assert [run["overall"]["received"] for run in first["runs"] + second["runs"]] == [300] * 4
    assert first["figures"]["attainment"]["mean"] > second["figures"]["attainment"]["mean"]
    assert second["figures"]["attainment"]["difference"]["mean"] < 0
    assert first["turns"][0]["loads"]["mean"] == sum(
        run["multiplexing"][0]["loads"] for run in first["runs"]) / 2
    shown = penstock("compare", "turns.yaml", "--policies", "penstock,edf")
    assert "Devices of model multiplexing" in shown.out
    assert "Differences to penstock" in shown.out
    wrong = penstock("compare", "turns.yaml", "--policies", "penstock,edf:quantum_s=3")
    assert wrong.status == 2
    assert "no setting of this name" in wrong.err


@pytest.mark.usefixtures("turns")
def test_a_plan_says_that_it_leaves_turns_out(penstock) -> None:
    done = penstock("plan", "turns.yaml", "--no-report", "--set", "accelerators[0].count=4",
                    "--json")
    assert done.status in (0, 1)
    assert done.json
    assert "models get replicas of their own" in done.err


@pytest.mark.usefixtures("turns")
@pytest.mark.parametrize(("arguments", "said"), [
    (("--set", "multiplexing[0].policy=sincere-best-batch", "--set",
      "multiplexing[0].batching=continuous"), "batching: static"),
    (("--replicas", "2"), "take turns on devices"), (("--journal",), "--journal"),
    (("--set", "multiplexing[0].policy=fifo"), "unknown multiplexing policy 'fifo'"),
    (("--set", "multiplexing[0].host.disk_gb_per_s=0"), "disk_gb_per_s"),
    (("--set", "replicas=[{model: llama-3-8b}]"), "1 beside 1 of replicas and other pools")])
def test_bad_input_is_one_line(folder, penstock, arguments, said) -> None:
    done = penstock("simulate", "turns.yaml", "--out", "run", *arguments)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert not (folder / "run").exists()


@pytest.mark.usefixtures("turns")
def test_run_simulates_the_devices_too(penstock) -> None:
    run = penstock("run", "turns.yaml", "--out", "run", "--json", "--no-report")
    assert run.status == 1
    again = penstock("simulate", "turns.yaml", "--out", "again", "--json", "--no-report")
    assert run.json["multiplexing"] == again.json["multiplexing"]


@pytest.mark.usefixtures("turns")
def test_the_bound_knows_of_replicas_only_and_says_so(penstock) -> None:
    done = penstock("capacity", "turns.yaml", "--method", "bound")
    assert done.status == 2
    assert ("take turns on devices (multiplexing), of which penstock capacity --method bound"
            in done.err)


@pytest.mark.usefixtures("turns")
def test_settings_of_devices_are_swept(penstock) -> None:
    done = penstock("compare", "turns.yaml", "--grid", "multiplexing[0].memory_gib=20,60", "--json")
    assert done.status == 0
    small, large = done.json
    assert (small["num_replicas"], small["num_devices"]) == (0, 1)
    assert small["attainment"] < large["attainment"]


@pytest.mark.usefixtures("turns")
def test_devices_have_a_capacity(penstock) -> None:
    done = penstock("capacity", "turns.yaml", "--attainment", "0.9", "--tolerance", "0.2", "--json")
    assert done.status == 0
    assert done.json["rate_per_s"] < done.json["bound_per_s"]  # which counts no load
    met = [probe["rate_per_s"] for probe in done.json["probes"] if probe["meets"]]
    missed = [probe["rate_per_s"] for probe in done.json["probes"] if not probe["meets"]]
    assert done.json["rate_per_s"] == max(met) < min(missed)


@pytest.mark.usefixtures("turns")
def test_a_plan_says_that_it_leaves_turns_aside(penstock) -> None:
    assert "multiplexing is left aside" in penstock("plan", "turns.yaml", "--out", "plan").err


@pytest.mark.usefixtures("turns")
@pytest.mark.parametrize("policy", [
    "sincere-best-batch", "sincere-select-batch-timer", "sincere-best-batch-partial-timer"])
def test_a_strategy_of_sincere_keeps_to_the_largest_batch(penstock, policy) -> None:
    done = penstock("simulate", "turns.yaml", "--out", "run", "--json", "--no-report",
                    "--set", f"multiplexing[0].policy={policy}",
                    "--set", "multiplexing[0].models[0].max_batch=3")
    assert done.status in (0, 1), done.err
