"""The command as users start it: a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXECUTABLE = Path(sys.executable).with_name("penstock")


def start(*arguments, **settings):
    command = [str(EXECUTABLE)] if EXECUTABLE.exists() else [sys.executable, "-m", "penstock"]
    return subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **settings)


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_command_runs_and_its_output_can_be_piped(folder):
    status, out, err = finish(start("run", "fleet.yaml", "--out", "run", cwd=folder))
    assert status == 0
    assert "every class meets its objective" in out
    assert err == "files in run\n"
    assert (folder / "run" / "report.html").stat().st_size > 1_000_000


def test_as_a_module_with_warnings_as_errors(folder):
    process = subprocess.run([sys.executable, "-W", "error", "-m", "penstock", "run", "fleet.yaml",
                              "--out", "run", "--json"], cwd=folder, capture_output=True,
                             text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stderr == "files in run\n"


def test_a_missed_target_and_bad_input_reach_the_shell(folder):
    status, _, err = finish(start("run", "fleet.yaml", "--no-report", "--set",
                                  "service_classes[0].slo.ttft_s=0.001", cwd=folder))
    assert (status, err) == (1, "files in runs/small\n")
    status, out, err = finish(start("run", "nowhere.yaml", cwd=folder))
    assert (status, out) == (2, "")
    assert err.startswith("error: nowhere.yaml: no such file")


@pytest.mark.parametrize("command", ["schema", "catalog list", "bound fleet.yaml"])
def test_a_reader_that_leaves_is_no_error(command, folder):
    with start(*command.split(), cwd=folder) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_leaves_nothing_behind(folder):
    process = start("simulate", "fleet.yaml", "--set", "traffic[0].num_requests=2000000", "--set",
                    "traffic[0].rate_per_s=20", "--out", "out/run", cwd=folder)
    deadline = time.monotonic() + 30
    while not list(folder.glob("out/.run.*.partial")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(folder.glob("out/.run.*.partial"))
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert (status, out) == (130, "")
    assert "Traceback" not in err
    assert list((folder / "out").iterdir()) == []


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_ends_the_workers_of_a_sweep_too(folder):
    process = start("sweep", "fleet.yaml", "--workers", 2, "--out", "rows.csv", "--set",
                    "traffic[0].num_requests=60,4000000", "--seeds", 2, cwd=folder,
                    start_new_session=True)
    deadline = time.monotonic() + 60
    while not (folder / "rows.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    status, out, err = finish(process)
    assert (status, out) == (130, "")
    assert "Traceback" not in err
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)
    assert (folder / "rows.csv").read_text().count("\n") >= 2


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
@pytest.mark.parametrize(("term", "columns"), [("xterm", 120), ("xterm", 60), ("dumb", 80)])
def test_nothing_of_the_progress_stays_on_the_screen(term, columns, folder):
    from terminal import run_on_terminal, screen

    written = run_on_terminal([sys.executable, "-m", "penstock", "run", "unsized.yaml",
                               "--no-report"], columns, folder, term)
    assert ("sizing" in written) is (term == "xterm")
    lines = screen(written, columns)
    assert lines[0].startswith("Sized to 1 replica of llama-3-8b")
    assert lines[-2:] == ["files in runs/small", ""]
    for frame in ("\N{BOX DRAWINGS HEAVY HORIZONTAL}", "simulating", "0:00:0"):
        assert not any(frame in line for line in lines)


def test_what_every_command_pays_for_stays_light(folder):
    """Start-up loads none of what only a simulation needs."""
    code = ("import sys; from penstock.cli.main import main; main(['--version']); "
            "print(sorted({'numpy', 'pydantic', 'rich', 'pyarrow', 'scipy', 'plotly'}"
            " & set(sys.modules)))")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                             timeout=60, check=True)
    assert process.stdout.splitlines()[1] == "[]"


def test_a_run_loads_neither_scipy_nor_plotly(folder):
    code = ("import sys; from penstock.cli.main import main; main(['run', 'fleet.yaml', '--json', "
            "'--out', 'run']); "
            "print(sorted({'rich', 'scipy', 'plotly', 'pandas'} & set(sys.modules)),"
            " file=sys.stderr)")
    process = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True,
                             text=True, timeout=60, check=True)
    assert process.stderr.splitlines()[-1] == "[]"
