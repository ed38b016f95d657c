"""The command as users start it: a process of its own."""

import json
import os
import shlex
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


def test_an_interrupt_while_modules_are_imported_is_one_line():
    code = ("import sys\n"
            "class Interrupt:\n"
            "    def find_spec(name, path=None, target=None):\n"
            "        if name == 'typer':\n"
            "            raise KeyboardInterrupt\n"
            "sys.meta_path.insert(0, Interrupt)\n"
            "from penstock.__main__ import start\n"
            "sys.exit(start())\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          check=False)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_the_command_runs_and_its_output_can_be_piped(folder):
    status, out, err = finish(start("run", "fleet.yaml", "--out", "run", cwd=folder))
    assert status == 0
    assert "every class meets its objective" in out
    assert err == "files in run\n"
    assert (folder / "run" / "report.html").stat().st_size < 1_000_000
    assert (folder / "run" / "plotly.min.js").stat().st_size > 1_000_000


def test_a_run_of_stated_replicas_loads_no_planner_and_no_scipy(folder):
    code = ("import sys\n"
            "from penstock.cli.main import main\n"
            "main()\n"
            "print(*sorted(sys.modules), file=sys.stderr)\n")
    done = subprocess.run([sys.executable, "-c", code, "run", "fleet.yaml", "--out", "run"],
                          cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    loaded = done.stderr.split()
    assert "penstock.sim.simulation" in loaded
    assert not {"scipy", "highspy", "pandas", "penstock.plan.plan", "penstock.plan.assign.solve",
                "penstock.report.html.plan_page"}.intersection(loaded)


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


@pytest.mark.parametrize("command", ["lab schema", "catalog list", "plan --help",
                                     "capacity fleet.yaml --method bound"])
def test_a_reader_that_leaves_is_no_error(command, folder):
    with start(*command.split(), cwd=folder) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("command", ["capacity fleet.yaml --method bound", "plan --help",
                                     "catalog list"])
def test_a_terminal_that_lacks_characters_is_no_error(command, folder):
    status, out, err = finish(start(*command.split(), cwd=folder,
                                    env={**os.environ, "PYTHONIOENCODING": "ascii"}))
    assert (status, err) == (0, "")
    assert out.isascii()


def test_json_is_whole_where_the_terminal_lacks_characters(folder):
    path = folder / "fleet.yaml"
    path.write_text(path.read_text().replace("name: small", "name: größe-日本", 1))
    status, out, _ = finish(start("run", "fleet.yaml", "--out", "run", "--json", cwd=folder,
                                  env={**os.environ, "PYTHONIOENCODING": "ascii"}))
    assert status == 0
    assert json.loads(out)["name"] == "größe-日本"


@pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")
@pytest.mark.parametrize(("command", "status"), [
    ("catalog list >&-", 0), ("catalog list 2>&-", 0), ("catalog lst 2>&-", 2),
    ("init x.yaml --model llama-3-8b <&-", 2)])
def test_closed_streams_are_no_error(command, status, folder):
    shell = f"exec {shlex.quote(sys.executable)} -m penstock {command}"
    done = subprocess.run(["sh", "-c", shell], cwd=folder, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert "bug" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_error_that_cannot_be_told_keeps_its_status(folder):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "penstock", "run", "nowhere.yaml"], cwd=folder,
                              stderr=full, timeout=60, check=False)
    assert done.returncode == 2


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
    assert not (folder / "out").exists()


def is_gone(group, within_s):
    """Whether a process group ends; whoever adopts its orphans takes their ends in at leisure."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_ends_the_workers_of_a_sweep_too(folder):
    process = start("compare", "fleet.yaml", "--jobs", 2, "--out", "rows.csv", "--grid",
                    "traffic[0].num_requests=60,4000000", "--seeds", 2, cwd=folder,
                    start_new_session=True)
    deadline = time.monotonic() + 60
    while not (folder / "rows.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    status, out, err = finish(process)
    assert (status, out) == (130, "")
    assert "Traceback" not in err
    assert is_gone(process.pid, within_s=30)
    assert (folder / "rows.csv").read_text().count("\n") >= 2


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
