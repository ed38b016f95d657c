"""Processes of ours: none gets lost, none is mistaken for another, all of one ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from penstock.core.errors import InputError
from penstock.engines import process

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")


def begin(folder, code, *arguments):
    with (folder / "log").open("ab") as log:
        return process.begin([sys.executable, "-c", code, *arguments], dict(os.environ), log,
                             folder)


def until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


def ended(gated, grace_s=5.0):
    asyncio.run(process.end(gated.pid, process.started_mark(gated.pid), grace_s))


def test_nothing_runs_before_the_gate_opens(tmp_path):
    gated = begin(tmp_path, "print('ran', flush=True)")
    mark = process.started_mark(gated.pid)
    assert process.is_same(gated.pid, mark)
    assert (tmp_path / "log").read_text() == ""
    gated.open()
    until(lambda: not process.is_same(gated.pid, mark))
    assert (tmp_path / "log").read_text() == "ran\n"


def test_a_gate_that_is_shut_ends_it(tmp_path):
    gated = begin(tmp_path, "print('ran')")
    gated.shut()
    assert (tmp_path / "log").read_text() == ""
    assert process.started_mark(gated.pid) == ""


def test_whoever_dies_at_the_gate_leaves_nothing(tmp_path):
    code = ("import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
            "from test_process import begin;"
            "gated = begin(Path(sys.argv[2]), 'print(1)');"
            "print(gated.pid, flush=True); os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code, os.path.dirname(__file__), str(tmp_path)],  # noqa: PTH120
                          stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: not process.started_mark(int(done.stdout)))
    assert (tmp_path / "log").read_text() == ""


def test_the_mark_is_the_same_to_everybody_and_of_one_process(tmp_path):
    first, second = (begin(tmp_path, "import time; time.sleep(60)") for _ in range(2))
    assert process.started_mark(first.pid) == process.started_mark(first.pid) != ""
    asked = subprocess.run(
        [sys.executable, "-c", "import sys; from penstock.engines import process;"
         "print(process.started_mark(int(sys.argv[1])))", str(first.pid)],
        stdout=subprocess.PIPE, text=True, check=True)
    assert asked.stdout.strip() == process.started_mark(first.pid)
    assert not process.is_same(first.pid, "another boot 1")
    assert not process.is_same(first.pid, "")
    asyncio.run(process.end(second.pid, "another boot 1", 1.0))
    assert process.started_mark(second.pid)  # it was not meant
    first.shut()
    second.shut()


FAMILY = """
import signal, subprocess, sys, time
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time;"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["deaf", "polite"])
def test_the_whole_family_ends(tmp_path, kind):
    gated = begin(tmp_path, FAMILY, kind)
    gated.open()
    until(lambda: len((tmp_path / "log").read_text().split()) == 2)
    child = next(int(word) for word in (tmp_path / "log").read_text().split() if word != "up")
    ended(gated, grace_s=0.3 if kind == "deaf" else 1.0)
    assert process.started_mark(gated.pid) == ""
    until(lambda: not process.started_mark(child))


def test_what_a_dead_leader_left_behind_ends_too(tmp_path):
    gated = begin(tmp_path, FAMILY, "polite")
    mark = process.started_mark(gated.pid)
    gated.open()
    until(lambda: len((tmp_path / "log").read_text().split()) == 2)
    child = next(int(word) for word in (tmp_path / "log").read_text().split() if word != "up")
    os.kill(gated.pid, signal.SIGKILL)
    until(lambda: not process.is_same(gated.pid, mark))
    assert process.started_mark(child)
    asyncio.run(process.end(gated.pid, "another boot 1", 0.1))
    assert process.started_mark(child)
    asyncio.run(process.end(gated.pid, mark, 0.1))
    assert not process.started_mark(child)


def test_what_cannot_be_started(tmp_path):
    with (tmp_path / "log").open("ab") as log:
        gated = process.begin(["/no/such/program"], {}, log, tmp_path)
        gated.open()
        until(lambda: not process.started_mark(gated.pid))
        with pytest.raises(InputError, match="cannot be started"):
            process.begin(["x"], {}, log, tmp_path / "nowhere")
    assert "no/such/program" in process.last_words(tmp_path / "log")
    assert process.last_words(tmp_path / "none") == ""


def test_ports_in_a_row_are_free():
    first = process.free_port(8)
    sockets = [socket.socket() for _ in range(8)]
    try:
        for more, one in enumerate(sockets):
            one.bind(("127.0.0.1", first + more))
    finally:
        for one in sockets:
            one.close()
