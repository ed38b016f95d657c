"""Folders that are gone on with."""

from pathlib import Path

import pytest

from penstock.core.errors import InputError
from penstock.perf.profiles.folder import DOCUMENT, POINTS, read_profile
from penstock.perf.profiles.points import Measurement
from penstock.profile.record import open_record
from support.scripted_profiling import WHOLE, record

ROW = Measurement("batch", WHOLE, 1, 8, 3, seconds=1.0)


def test_rows_are_on_disk_as_soon_as_they_are_added(tmp_path: Path) -> None:
    one = record(tmp_path)
    one.add([ROW])
    assert read_profile(tmp_path).measurements == (ROW,)
    assert record(tmp_path).repeats(ROW.key) == [ROW]


def test_sessions_are_counted(tmp_path: Path) -> None:
    record(tmp_path).end("out_of_time", {"load_average": [1, 2, 3]}, "later")
    again = record(tmp_path)
    assert again.session == 1
    first, second = again.document["sessions"]
    assert first == {"started": "now", "at_start": {}, "ended": "later", "status": "out_of_time",
                     "at_end": {"load_average": [1, 2, 3]}}
    assert second["started"] == "now"
    assert again.document["status"] == "running"


def test_what_was_left_out_is_said_once(tmp_path: Path) -> None:
    one = record(tmp_path)
    for _ in range(2):
        one.leave_out("tensor 8", "one accelerator")
    one.end("complete", {}, "later")
    assert read_profile(tmp_path).document["left_out"] == [
        {"point": "tensor 8", "reason": "one accelerator"}]


@pytest.mark.parametrize(("kind", "subject", "machine", "said"), [
    ("load", {}, {}, "holds a profile of kind 'model'; expected 'load'"),
    ("model", {"engine": "vllm"}, {}, "another subject was measured there: engine 'scripted', now"),
    ("model", {"versions": {"torch": "2"}}, {}, "another subject"),
    ("model", {}, {"host": "there"}, "another machine was measured there: host 'here', now"),
])
def test_another_subject_or_machine_does_not_mix_in(
        tmp_path: Path, kind: str, subject: dict[str, object], machine: dict[str, object],
        said: str) -> None:
    record(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        open_record(tmp_path, kind, {"engine": "scripted", "simulated": False} | subject,
                    {"host": "here"} | machine, {}, {}, "now")
    assert "expected" in str(caught.value)


def test_tuples_are_the_lists_that_json_makes_of_them(tmp_path: Path) -> None:
    for _ in range(2):
        open_record(tmp_path, "model", {"layers": (1, 2)}, {}, {}, {}, "now")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else than a profile"):
        record(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="holds something else"):
        record(tmp_path / "thesis.txt")


def test_an_empty_folder_is_a_new_one(tmp_path: Path) -> None:
    record(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {DOCUMENT}


def test_what_a_killed_run_was_writing_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / ".partial-profile.json").write_text("{")
    record(tmp_path).add([ROW])
    assert {path.name for path in tmp_path.iterdir()} == {DOCUMENT, POINTS}
