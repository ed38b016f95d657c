"""Commands whose files do not fit: one line, status 2, nothing half-written, and --resume."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="limits of POSIX")

GRID = ("compare", "fleet.yaml", "--grid", "run.seed=" + ",".join(map(str, range(30))), "--json")


@pytest.fixture
def limited(folder: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a command line whose files may have so many bytes: as on a disk that fills."""
    def call(most_bytes: int, *arguments: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            # Python itself would leave halves of the modules that it compiles.
            [sys.executable, "-B", "-m", "penstock", *map(str, arguments)], cwd=folder, text=True,
            capture_output=True, check=False, timeout=300, preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY)))

    return call


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.parquet"])
def test_a_grid_keeps_its_rows_and_goes_on(limited, penstock, folder: Path, name: str) -> None:
    whole = penstock(*GRID, "--out", f"whole-{name}")
    assert whole.status == 0
    before = names(folder)
    done = limited(2500, *GRID, "--out", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"error: --out {name}: cannot be written (File too large); --resume "
                           "goes on with the rows that it has\n")
    assert all(one == name or one.startswith(f"{name}/part-") for one in names(folder) - before)
    again = penstock(*GRID, "--out", name, "--resume")
    assert again.status == 0, again.err
    one, other = folder / f"whole-{name}", folder / name
    if name.endswith("parquet"):
        one, other = one / "part-000000.parquet", other / "part-000000.parquet"
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("arguments", [
    ("simulate", "fleet.yaml", "--out", "made", "--no-report"),
    ("run", "unsized.yaml", "--out", "made"),
    ("plan", "unsized.yaml", "--out", "made", "--no-report"),
    ("compare", "fleet.yaml", "--policies", "penstock,fcfs", "--html", "made.html")])
def test_nothing_is_half_written(limited, folder: Path, arguments: tuple[str, ...]) -> None:
    before = names(folder)
    done = limited(1000, *arguments)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: made")
    assert "cannot be written" in last
    assert names(folder) == before


def test_a_run_does_not_fail_for_its_entry(limited, penstock, folder: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    assert penstock("simulate", "fleet.yaml", "--out", "made", "--no-report").status == 0
    monkeypatch.setenv("PENSTOCK_RUNS", str(folder / "runs.db"))
    done = limited(4096, "runs", "add", "made")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {folder / 'runs.db'}: the store of runs cannot be used")
    assert penstock("runs", "list", "--json").json["runs"] == []
    assert penstock("runs", "add", "made").status == 0
    assert len(penstock("runs", "list", "--json").json["runs"]) == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="names there are UTF-8")
@pytest.mark.parametrize("command", ["simulate", "run"])
def test_names_that_are_not_utf_8(penstock, folder: Path, command: str) -> None:
    before = names(folder)
    done = penstock(command, "fleet.yaml", "--out", os.fsdecode(b"made\xff"))
    assert (done.status, done.out) == (2, "")
    assert done.err == "error: made?: a name that is not UTF-8; expected UTF-8\n"
    assert names(folder) == before


def test_trace_files_whose_names_are_not_utf_8(penstock, folder: Path) -> None:
    name = os.fsdecode(b"made\xff.parquet")
    (folder / name).touch()
    done = penstock("trace", "info", name)
    assert done.status == 2, done.err
    assert done.err == "error: made?.parquet: a name that is not UTF-8; expected UTF-8\n"
