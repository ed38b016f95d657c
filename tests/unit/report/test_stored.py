"""Files of an earlier run go, and nothing else does."""

import pytest

from penstock.core.errors import InputError
from penstock.report.stored import holds, own_files, read_stored, remove_stored

SUMMARY = '{"overall": {}, "classes": {}, "window_s": 1.0}'
PLAN = '{"replicas": [], "cost_per_hour": 1.0, "demands": []}'


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "runs" / "a"
    made.mkdir(parents=True)
    for name in ("requests.parquet", "report.html", "fleet.yaml", "plotly.min.js",
                 "journal-0.jsonl"):
        (made / name).write_text(name)
    (made / "summary.json").write_text(SUMMARY)
    return made


def test_a_run_goes_with_its_folder(folder):
    stored = read_stored(folder)
    assert (stored.kind, stored.document["window_s"]) == ("run", 1.0)
    assert holds(folder, stored.digest)
    assert own_files(folder)[-1].name == "summary.json"
    assert remove_stored(folder, stored.digest) == []
    assert not folder.exists()
    assert folder.parent.is_dir()


def test_a_plan_goes_too(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "plan.json").write_text(PLAN)
    stored = read_stored(tmp_path / "p")
    assert stored.kind == "plan"
    assert remove_stored(tmp_path / "p", stored.digest) == []
    assert list(tmp_path.iterdir()) == []


def test_other_files_stay(folder):
    (folder / "notes.txt").write_text("mine")
    (folder / "more").mkdir()
    (folder / "more" / "summary.json").write_text(SUMMARY)
    (folder / "plan.json").write_text(PLAN)  # no file of a run
    left = ["more", "notes.txt", "plan.json", "plotly.min.js"]
    assert remove_stored(folder, read_stored(folder).digest) == left
    assert sorted(path.name for path in folder.iterdir()) == left
    assert (folder / "more" / "summary.json").exists()


def test_links_are_neither_followed_nor_removed(folder, tmp_path):
    outside = tmp_path / "outside.html"
    outside.write_text("outside")
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to(outside)
    digest = read_stored(folder).digest
    assert remove_stored(folder, digest) == ["plotly.min.js", "report.html"]
    assert outside.read_text() == "outside"


@pytest.mark.parametrize("link", ["runs/b", "linked/a"])
def test_a_folder_behind_a_link_is_refused(folder, tmp_path, link):
    (tmp_path / "runs" / "b").symlink_to(folder)
    (tmp_path / "linked").symlink_to(tmp_path / "runs")
    with pytest.raises(InputError, match="behind a symbolic link"):
        remove_stored(tmp_path / link, read_stored(folder).digest)
    assert len(list(folder.iterdir())) == 6


def test_a_summary_that_is_a_link_is_no_run_to_remove(folder, tmp_path):
    (tmp_path / "elsewhere.json").write_text(SUMMARY)
    digest = read_stored(folder).digest
    (folder / "summary.json").unlink()
    (folder / "summary.json").symlink_to(tmp_path / "elsewhere.json")
    assert not holds(folder, digest)
    with pytest.raises(InputError, match="not the run that was recorded"):
        remove_stored(folder, digest)
    assert len(list(folder.iterdir())) == 6


def test_a_run_that_came_later_is_not_removed(folder):
    digest = read_stored(folder).digest
    (folder / "summary.json").write_text(SUMMARY.replace("1.0", "2.0"))
    with pytest.raises(InputError, match="not the run that was recorded"):
        remove_stored(folder, digest)
    assert len(list(folder.iterdir())) == 6


@pytest.mark.parametrize(("name", "text", "words"), [
    ("summary.json", "{", "not JSON"), ("summary.json", "{}", "not a run's summary"),
    ("plan.json", "{", "not JSON"), ("plan.json", "[]", "not a fleet's plan"),
    ("other.json", "{}", "cannot be read")])
def test_another_folder_is_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_stored(tmp_path)
    assert not holds(tmp_path, "0" * 32)
    with pytest.raises(InputError, match="not the run that was recorded"):
        remove_stored(tmp_path, "0" * 32)
    assert (tmp_path / name).read_text() == text
