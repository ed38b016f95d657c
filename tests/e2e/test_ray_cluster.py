"""A grid on a real Ray cluster of two nodes, of which a worker and then a node are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.killed_sweeps import ray_cluster, ray_workers

pytest.importorskip("ray.cluster_utils", reason="the extra ray is not installed",
                    exc_type=ImportError)

NUM_CELLS = 30
GRID = ("compare", "fleet.yaml", "--set", "traffic[0].num_requests=1500", "--grid",
        "run.seed=" + ",".join(map(str, range(NUM_CELLS))))

pytestmark = [pytest.mark.long, pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc")]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores, and two nodes of one core each."""
    monkeypatch.delenv("PENSTOCK_JOBS", raising=False)
    with ray_cluster() as found:
        yield found


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "penstock", *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not until() and time.monotonic() < deadline:
        time.sleep(0.05)


def num_rows(path: Path) -> int:
    return len(json.loads(path.read_text())) if path.exists() else 0


def test_every_cell_once_though_a_worker_and_a_node_are_lost(cluster: Any, penstock,
                                                             folder: Path) -> None:
    process = start(*GRID, "--out", "there.json", "--json", "--on", f"ray:{cluster.address}")
    wait(lambda: num_rows(folder / "there.json") >= 3)
    first, second = sorted(cluster.worker_nodes, key=lambda node: node.node_id)
    wait(lambda: ray_workers(first))
    os.kill(ray_workers(first)[0], signal.SIGKILL)
    wait(lambda: num_rows(folder / "there.json") >= 8)
    cluster.remove_node(second, allow_graceful=False)
    assert num_rows(folder / "there.json") < NUM_CELLS, "the node was lost while there was work"
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert penstock(*GRID, "--out", "here.json", "--jobs", 1).status == 0
    assert (folder / "there.json").read_bytes() == (folder / "here.json").read_bytes()
    assert json.loads(out) == json.loads((folder / "here.json").read_text())


def test_a_lost_driver_is_resumed_and_an_interrupt_ends_at_once(cluster: Any, folder: Path) -> None:
    command = (*GRID, "--out", "rows.csv", "--on", f"ray:{cluster.address}")
    killed = start(*command)
    wait(lambda: (folder / "rows.csv").exists())
    killed.kill()
    killed.communicate()
    before = (folder / "rows.csv").read_text().splitlines()
    resumed = start(*command, "--resume", "--json")
    wait(lambda: len((folder / "rows.csv").read_text().splitlines()) > len(before) + 2)
    resumed.send_signal(signal.SIGINT)
    out, err = resumed.communicate(timeout=60)
    assert (resumed.returncode, out) == (130, ""), err
    assert err.endswith("error: interrupted\n")
    assert "Traceback" not in err
    last = start(*command, "--resume")
    last.communicate(timeout=300)
    rows = (folder / "rows.csv").read_text().splitlines()
    assert last.returncode == 0
    assert len(set(rows)) == len(rows) == NUM_CELLS + 1
    assert rows[:len(before)] == before

