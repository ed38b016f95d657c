import json

import pytest

from penstock.core.errors import InputError
from penstock.report import files
from penstock.report.files import read_json, write_summary, write_text


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


def test_a_document_is_read(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, null]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}


@pytest.mark.parametrize(("content", "message"), [
    (None, "a.json: cannot be read (No such file or directory); expected b"),
    ("{", "a.json: not JSON (")])
def test_a_file_that_is_no_json_is_told(tmp_path, content, message) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError) as told:
        read_json(tmp_path / "a.json", "; expected b")
    assert message in str(told.value)
