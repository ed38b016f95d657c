import os
import subprocess
import sys

import pytest

from penstock.report.abandoned import LOCK, owned, remove_abandoned
from penstock.report.run_files import staged

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
KILLED = """
import os, signal, sys
from pathlib import Path
from penstock.report.run_files import staged
with staged(Path(sys.argv[1])) as staging:
    (staging / "requests.parquet").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def kill_a_run(folder):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert done.returncode == -9


def test_the_next_run_beside_it_removes_what_a_killed_one_left(tmp_path):
    kill_a_run(tmp_path / "first")
    assert len(names(tmp_path)) == 1
    assert names(tmp_path)[0].startswith(".first.")
    with staged(tmp_path / "second") as staging:
        assert names(tmp_path) == [staging.name]
        (staging / "summary.json").write_text("{}")
    assert names(tmp_path) == ["second"]
    assert names(tmp_path / "second") == ["summary.json"]


def test_a_living_run_keeps_its_folder(tmp_path):
    with staged(tmp_path / "slow") as slow:
        (slow / "half").write_text("")
        with staged(tmp_path / "fast") as fast:
            (fast / "summary.json").write_text("{}")
        code = "import sys, pathlib; from penstock.report.abandoned import remove_abandoned; " \
               "remove_abandoned(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
        assert (slow / "half").exists()
    assert names(tmp_path / "slow") == ["half"]


def test_nothing_of_others_is_touched(tmp_path):
    (tmp_path / ".mine.partial").mkdir()
    (tmp_path / ".mine.partial" / "notes").write_text("")
    (tmp_path / ".file.partial").write_text("")
    (tmp_path / "visible.partial").mkdir()
    (tmp_path / "visible.partial" / LOCK).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / LOCK).write_text("")
    (tmp_path / ".link.partial").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_mark_goes_with_its_owner(tmp_path):
    folder = tmp_path / ".run.x.partial"
    folder.mkdir()
    with owned(folder):
        assert names(folder) == [LOCK]
        remove_abandoned(tmp_path)
        assert folder.exists()
    assert names(folder) == []


def test_without_locks_nothing_is_marked(tmp_path, monkeypatch):
    import fcntl

    def refuse(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with staged(tmp_path / "run") as staging:
        assert names(staging) == []
        (staging / "summary.json").write_text("{}")
    assert names(tmp_path) == ["run"]
