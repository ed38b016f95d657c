import json

import pytest

from penstock.report import files
from penstock.report.files import write_summary, write_text


def test_summary_is_stable_json(run, tmp_path):
    paths = [tmp_path / "a" / "summary.json", tmp_path / "b" / "summary.json"]
    for path in paths:
        write_summary(path, run.summary)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert json.loads(paths[0].read_bytes()) == run.summary
    assert [path.name for path in paths[0].parent.iterdir()] == ["summary.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "plan.txt"
    write_text(path, "old")
    with pytest.raises(TypeError):
        files.write_bytes(path, b"new", None)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
