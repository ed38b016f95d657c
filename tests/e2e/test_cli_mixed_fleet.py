"""Commands on a fleet with replicas and devices that models share."""

import json

import pytest

from penstock.metrics.request_file import read_requests

FEW = ("--set", "traffic[0].num_requests=60", "--set", "traffic[1].num_requests=20")


@pytest.fixture
def mixed(repository, folder):
    (folder / "mixed.yaml").write_text((repository / "examples" / "mixed.yaml").read_text())


@pytest.mark.usefixtures("mixed")
def test_both_kinds_are_simulated_as_one(folder, penstock) -> None:
    done = penstock("simulate", "mixed.yaml", "--out", "run", *FEW)
    assert done.status == 0, done.err
    assert "Served by 2 replicas of llama-3-8b on h100-80gb and 3 models on 1 h100-80gb" in done.out
    assert "Models on shared" in done.out
    summary = json.loads((folder / "run/summary.json").read_text())
    table = read_requests(folder / "run/requests.parquet")
    pool, = summary["multiplexing"]
    assert len(table) == summary["overall"]["received"] == 140
    assert sum(model["received"] for model in pool["models"]) == 60
    # Replicas are numbered first; who leaves the model open goes to one that is loaded.
    assert [one["replica"] for one in summary["replicas"]] == [0, 1, 2]
    assert set(table.replica[table.model_index == table.models.index("auto")].tolist()) == {0, 1}
    assert set(table.replica[table.class_index == 1].tolist()) == {2}
    assert summary["num_steps"] > 0
    assert "device_time" in (folder / "run/report.html").read_text()
    run = penstock("run", "mixed.yaml", "--out", "again", "--no-report", "--json", *FEW)
    assert run.json == summary


@pytest.mark.usefixtures("mixed")
def test_journals_of_its_replicas_replay(penstock) -> None:
    done = penstock("simulate", "mixed.yaml", "--out", "run", "--no-report", "--journal", *FEW)
    assert done.status == 0
    for number in (0, 1):
        assert penstock("lab", "replay", f"run/journal-{number}.jsonl").status == 0


@pytest.mark.usefixtures("mixed")
def test_policies_of_either_kind_compare(penstock) -> None:
    done = penstock("compare", "mixed.yaml", "--policies", "penstock,sarathi,edf:shed=true",
                    "--json", *FEW)
    assert done.status == 0, done.err
    chosen = [(one["options"]["schedule"]["policy"], one["options"]["multiplexing"])
              for one in done.json["policies"]]
    assert chosen == [("penstock", {"policy": "penstock"}), ("sarathi", {"policy": "penstock"}),
                      ("penstock", {"policy": "edf", "shed": True})]
    wrong = penstock("compare", "mixed.yaml", "--policies", "penstock,fifo")
    assert wrong.status == 2
    assert "unknown scheduling policy 'fifo'" in wrong.err


@pytest.mark.usefixtures("mixed")
def test_settings_of_either_kind_are_swept(penstock) -> None:
    done = penstock("sweep", "mixed.yaml", "--json", *FEW, "--set", "replicas[0].count=1,2",
                    "--set", "multiplexing[0].memory_gib=30,60")
    assert done.status == 0, done.err
    assert [(row["num_replicas"], row["num_devices"]) for row in done.json] == [
        (1, 1), (1, 1), (2, 1), (2, 1)]


@pytest.mark.usefixtures("mixed")
def test_it_has_a_capacity(penstock) -> None:
    done = penstock("capacity", "mixed.yaml", "--tolerance", "0.3", "--attainment", "0.9", "--json",
                    *FEW)
    assert done.status == 0, done.err
    assert 0 < done.json["rate_per_s"] <= done.json["bound_per_s"]


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(("arguments", "said"), [
    (("--replicas", "3"),
     "--replicas 3 need 3 h100-80gb beside 1 of multiplexing; the fleet has 3"),
    (("--set", "multiplexing[0].count=2"), "2 beside 2 of replicas and other pools is more"),
    (("--set", "multiplexing[0].models=[{model: mistral-7b}, {model: llama-2-7b}]"),
     "no entry serves class 'tools' of model 'qwen2.5-14b', which has traffic")])
def test_bad_input_is_one_line(folder, penstock, arguments, said) -> None:
    done = penstock("simulate", "mixed.yaml", "--out", "run", *arguments)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
    assert not (folder / "run").exists()
