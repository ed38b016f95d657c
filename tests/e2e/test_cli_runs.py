"""``penstock runs``: what commands keep of their runs, and what becomes of it."""

import os
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest

from penstock import __version__
from penstock.experiment.runs.store import RunStore
from support.kept_runs import kept_run


@pytest.fixture
def store(tmp_path, monkeypatch):
    path = tmp_path / "store" / "runs.db"
    monkeypatch.setenv("PENSTOCK_RUNS", str(path))
    return path


@pytest.fixture
def two(penstock, store):
    """A met run in runs/a and a later one with more replicas in runs/b, by their ids."""
    for name, count in (("a", 1), ("b", 2)):
        assert penstock("simulate", "fleet.yaml", "--replicas", count, "--out", f"runs/{name}",
                        "--no-report").status == 0
    return [run["id"] for run in reversed(listed(penstock))]


def listed(penstock, *options):
    return penstock("runs", "list", "--json", *options).json["runs"]


def test_a_run_is_kept_with_its_figures(penstock, folder, two):
    later, first = listed(penstock)
    summary = penstock("lab", "report", "runs/a", "--json").json
    assert first["folder"] == str(folder / "runs" / "a")
    assert first["fleet_file"] == str(folder / "fleet.yaml")
    assert (first["kind"], first["status"], first["name"], first["files"], first["version"]) == (
        "simulate", "met", "small", "present", __version__)
    assert first["attainment"] == summary["overall"]["attainment"]
    assert first["ttft_p99_s"] == summary["overall"]["latency"]["ttft_s"]["p99"]
    assert first["cost"] == summary["overall"]["cost"]["total"]
    assert first["gpu_hours"] == pytest.approx(summary["window_s"] / 3600)
    assert (first["replicas"], later["replicas"]) == (1, 2)
    assert first["host"]
    assert first["duration_s"] > 0
    assert later["begun_s"] > first["begun_s"] > 1.7e9


def test_the_list_is_filtered_sorted_and_cut(penstock, two):
    a, b = two
    assert [run["id"] for run in listed(penstock, "--sort", "replicas")] == [a, b]
    assert [run["id"] for run in listed(penstock, "--sort", "-replicas", "--limit", 1)] == [b]
    assert [run["id"] for run in listed(penstock, "--where", "replicas<2", "--where",
                                        "name=sm*")] == [a]
    shown = penstock("runs", "list")
    assert a in shown.out
    assert "runs/b" in shown.out
    none = penstock("runs", "list", "--where", "kind=plan")
    assert (none.status, none.out) == (0, "")
    assert "has no such runs" in none.err
    wrong = penstock("runs", "list", "--sort", "replcas")
    assert (wrong.status, wrong.out) == (2, "")
    assert "did you mean 'replicas'" in wrong.err


def test_a_run_is_shown_by_id_and_by_folder(penstock, folder, two):
    shown = penstock("runs", "show", two[0][:6])
    assert "Service classes" in shown.out
    assert f"configuration: {folder / 'runs/a/fleet.yaml'}" in shown.err
    as_json = penstock("runs", "show", "runs/a", "--json").json
    assert (as_json["id"], as_json["configuration"]) == (two[0], str(folder / "runs/a/fleet.yaml"))
    assert as_json["summary"]["name"] == "small"
    unknown = penstock("runs", "show", "runs/aa")
    assert (unknown.status, unknown.out) == (2, "")
    assert "no run 'runs/aa'" in unknown.err


def test_long_paths_leave_the_tables_as_they_are(penstock, folder, store):
    deep = "/".join(["deep" * 20, "deeper" * 20, "end"])
    assert penstock("simulate", "fleet.yaml", "--out", deep, "--no-report").status == 0
    (run,) = listed(penstock)
    assert f"...{deep[-27:]}" in penstock("runs", "list").out
    lines = penstock("runs", "show", run["id"]).out.splitlines()
    assert f"folder: {folder / deep}" in "".join(lines)
    assert ["status", "met"] in [line.split() for line in lines]


def test_a_run_whose_folder_is_gone_says_so(penstock, two):
    shutil.rmtree("runs/a")
    assert [run["files"] for run in listed(penstock)] == ["present", "gone"]
    shown = penstock("runs", "show", two[0])
    assert shown.status == 0
    assert "are gone" in shown.err
    assert penstock("runs", "show", two[0], "--json").json["summary"] is None
    refused = penstock("runs", "compare", *two)
    assert (refused.status, refused.out) == (2, "")
    assert "are gone" in refused.err


def test_a_run_into_the_same_folder_replaces_the_earlier(penstock, two):
    assert penstock("run", "fleet.yaml", "--out", "runs/a", "--seed", 5, "--no-report").status == 0
    newest, _, oldest = listed(penstock)
    assert (newest["kind"], newest["seed"], newest["files"]) == ("run", 5, "present")
    assert (oldest["files"], oldest["replaced_by"]) == ("replaced", newest["id"])
    refused = penstock("runs", "compare", *two)
    assert f"replaced by run {newest['id']}" in refused.err
    assert penstock("runs", "show", "runs/a", "--json").json["id"] == newest["id"]


def test_runs_are_compared_as_their_folders_are(penstock, folder, two):
    by_key = penstock("runs", "compare", *two, "--json", "--html", "both.html")
    assert by_key.json == penstock("compare", "runs/a", "runs/b", "--json").json
    assert (folder / "both.html").stat().st_size > 10_000
    shown = penstock("runs", "compare", *two)
    assert "gpu_hours" in shown.out
    assert "difference" in shown.out
    assert "single run" in penstock("runs", "compare", two[0]).err
    assert "appears twice" in penstock("runs", "compare", two[0], "runs/a").err


def test_plans_are_kept_and_compared_by_their_figures(penstock, two):
    assert penstock("plan", "unsized.yaml", "--out", "runs/p", "--no-report").status == 0
    plan = listed(penstock, "--where", "kind=plan")[0]
    assert plan["cost_per_hour"] > 0
    assert "cost per hour" in penstock("runs", "show", plan["id"]).out.lower()
    both = penstock("runs", "compare", plan["id"], two[0], "--json").json["runs"]
    assert [run["id"] for run in both] == [plan["id"], two[0]]
    assert "is a plan" in penstock("runs", "compare", *two, plan["id"], "--html", "x.html").err


def test_a_copied_folder_is_added_once(penstock, two):
    shutil.copytree("runs/b", "runs/copy")
    added = penstock("runs", "add", "runs/copy", "--json").json
    assert (added["kind"], added["replicas"], added["host"]) == ("simulate", 2, None)
    assert penstock("runs", "add", "runs/copy").out.strip() == added["id"]
    assert len(listed(penstock)) == 3
    wrong = penstock("runs", "add", ".")
    assert (wrong.status, wrong.out) == (2, "")


def test_prune_lists_first_and_removes_then(penstock, folder, two):
    (folder / "runs/b/notes.txt").write_text("mine")
    assert penstock("runs", "prune").status == 2
    dry = penstock("runs", "prune", "--keep", 0)
    assert "2 runs would go" in dry.err
    assert (folder / "runs/a/summary.json").exists()
    assert penstock("runs", "prune", "--older-than", "1d", "--keep", 0, "--yes").status == 0
    assert len(listed(penstock)) == 2
    gone = penstock("runs", "prune", "--keep", 1, "--yes", "--json").json
    assert (gone["removed"], [run["id"] for run in gone["runs"]]) == (True, [two[0]])
    assert not (folder / "runs/a").exists()
    assert "stays with other files: notes.txt" in penstock(
        "runs", "prune", "--keep", 0, "--yes").err
    assert [path.name for path in (folder / "runs/b").iterdir()] == ["notes.txt"]
    assert listed(penstock) == []


def test_prune_removes_entries_of_what_is_gone(penstock, folder, two):
    shutil.rmtree("runs/a")
    assert penstock("runs", "prune", "--gone", "--yes").status == 0
    assert [run["id"] for run in listed(penstock)] == [two[1]]
    assert (folder / "runs/b/summary.json").exists()


def test_prune_says_what_stays(penstock, folder, two, monkeypatch):
    shutil.move("runs", "moved")
    (folder / "runs").symlink_to("moved")
    refused = penstock("runs", "prune", "--keep", 0, "--yes")
    assert refused.status == 2
    assert "2 of 2 runs are not removed" in refused.err
    assert "behind a symbolic link" in refused.err
    assert len(listed(penstock)) == 2
    assert (folder / "moved/a/summary.json").exists()


def unusable(store, how):
    if how == "newer":
        RunStore(store).add(kept_run(), lambda: "00")
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("PRAGMA user_version = 9")
    elif how == "damaged":
        store.parent.mkdir()
        store.write_bytes(b"damaged" * 1000)
    else:
        store.parent.write_text("a file where the folder should be")


@pytest.mark.parametrize(("how", "words"), [
    ("newer", "later release"), ("damaged", "damaged"), ("no folder", "cannot be written")])
def test_a_store_that_cannot_be_used_fails_no_run(penstock, store, how, words):
    unusable(store, how)
    before = store.read_bytes() if store.exists() else None
    done = penstock("simulate", "fleet.yaml", "--out", "runs/a", "--no-report", "--json")
    assert (done.status, done.json["name"]) == (0, "small")
    (line,) = [line for line in done.err.splitlines() if "no entry of this run is kept" in line]
    assert words in line
    if before is not None:
        listing = penstock("runs", "list")
        assert (listing.status, listing.out) == (2, "")
        assert words in listing.err
        assert store.read_bytes() == before


def test_the_store_can_be_turned_off(penstock, store, monkeypatch):
    monkeypatch.setenv("PENSTOCK_RUNS", "off")
    done = penstock("simulate", "fleet.yaml", "--out", "runs/a", "--no-report")
    assert (done.status, "entry" in done.err) == (0, False)
    assert not store.parent.exists()
    assert "PENSTOCK_RUNS=off" in penstock("runs", "list").err


def test_the_usual_store_is_in_the_users_data(penstock, tmp_path, monkeypatch):
    monkeypatch.delenv("PENSTOCK_RUNS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert penstock("runs", "list", "--json").json["store"] == str(
        tmp_path / "data/penstock/runs.db")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert penstock("runs", "list", "--json").json["store"] == str(
        tmp_path / "home/.local/share/penstock/runs.db")


def test_export_needs_mlflow_and_knows_nothing_else(penstock, two, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    assert "needs the extra 'mlflow'" in penstock("runs", "export", two[0]).err
    assert "expected mlflow" in penstock("runs", "export", two[0], "--to", "wandb").err


def test_a_name_that_no_text_holds_fails_no_plan(penstock, store, folder):
    done = penstock("plan", "unsized.yaml", "--out", os.fsdecode(b"runs/\xff"), "--no-report",
                    "--json")
    assert done.status == 0
    assert "no entry of this run is kept" in done.err
    assert listed(penstock) == []
