from contextlib import nullcontext
from typing import get_args

import pytest

from penstock.core.errors import InputError
from penstock.metrics.run_summary import RunSummary
from penstock.report.run_files import Kind, read_summary, staged, write_run_files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_of_files(run, tmp_path):
    write_run_files(tmp_path, RunSummary.read(run.summary), run.table, run.series, "name: demo\n")
    assert names(tmp_path) == [
        "fleet.yaml", "plotly.min.js", "report.html", "requests.parquet", "summary.json"]
    assert read_summary(tmp_path)["name"] == "demo"


def test_without_the_page(run, tmp_path):
    write_run_files(tmp_path, RunSummary.read(run.summary), run.table, run.series,
                    "name: demo\n", page=False)
    assert "report.html" not in names(tmp_path)


def test_a_folder_appears_whole(tmp_path):
    with staged(tmp_path / "a" / "run") as staging:
        (staging / "summary.json").write_text("{}")
        assert not (tmp_path / "a" / "run").exists()
    assert names(tmp_path / "a" / "run") == ["summary.json"]
    assert names(tmp_path / "a") == ["run"]
    assert (tmp_path / "a" / "run").stat().st_mode & 0o777 == 0o755


def test_a_failure_leaves_nothing(run, tmp_path):
    unwritable = RunSummary.read(run.summary | {"fleet": {"name": object()}})
    with pytest.raises(TypeError), staged(tmp_path / "run") as staging:
        write_run_files(staging, unwritable, None, None, "")
    assert names(tmp_path) == []


def test_a_failure_leaves_no_new_folder_above(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError), staged(tmp_path / "old" / "new" / "newer" / "run"):
        raise InputError("no")
    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == []


def test_an_earlier_run_is_replaced_file_by_file(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("summary.json", "report.html", "requests.parquet", "journal-3.jsonl", "mine"):
        (folder / name).write_text("old")
    with staged(folder) as staging:
        for name in ("summary.json", "journal-0.jsonl"):
            (staging / name).write_text("new")
    assert names(folder) == ["journal-0.jsonl", "mine", "summary.json"]
    assert (folder / "summary.json").read_text() == "new"
    assert (folder / "mine").read_text() == "old"


def test_other_peoples_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(InputError, match="holds other files"), staged(tmp_path):
        pass
    with pytest.raises(InputError, match="is a file"), staged(tmp_path / "thesis.tex"):
        pass
    assert names(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(("files", "held"), [
    ("plan.json fleet.yaml", "plan"), ("summary.json", "run"),
    ("plan.json solution-data.json", "plan of a bundle"),
    ("plan.json solution-data.json fleet.yaml", None),
    ("server-data.json solution-data.json", None)])
def test_results_of_one_kind_do_not_replace_those_of_another(tmp_path, files, held):
    """Plans of both kinds have a plan.json; solution-data.json tells whose it is."""
    for kind in get_args(Kind):
        may = kind == held
        folder = tmp_path / kind
        folder.mkdir()
        for name in files.split():
            (folder / name).write_text("old")
        with nullcontext() if may else pytest.raises(InputError, match="holds other files"), \
                staged(folder, kind) as staging:
            (staging / "new").write_text("new")
        assert (folder / "new").exists() is may
        assert may or names(folder) == sorted(files.split())


def test_an_empty_folder_is_welcome(tmp_path):
    (tmp_path / "run").mkdir()
    with staged(tmp_path / "run") as staging:
        (staging / "summary.json").write_text("{}")
    assert names(tmp_path / "run") == ["summary.json"]


def test_a_full_disk_is_told_of(tmp_path):
    with pytest.raises(InputError, match=r"run: cannot be written \(No space left"), \
            staged(tmp_path / "run"):
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"overall": {}}', "\x00"])
def test_what_is_no_summary_is_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary\.json"):
        read_summary(tmp_path)
