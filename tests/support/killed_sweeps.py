"""Sweeps of which processes and nodes are killed: every cell is in the dataset once, as if nothing
had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.worker_processes import children, lives

FLEET = """\
name: killed
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic: [{lengths: {prompt: {fixed: 400}, output: {fixed: 40}}, rate_per_s: 5, num_requests: 2000}]
replicas: [{count: 1}]
"""
_PATIENCE_S = 300.0
_WAITS_S = (0.2, 2.0)

Kill = Callable[[int], bool]
"""Kills something of the command with a process id; whether there was something."""


class KilledSweeps:
    """Sweeps in a folder, each with kills. ``killed`` counts them, ``broken`` has a line for each
    broken law."""

    def __init__(self, folder: Path, rng: random.Random, num_cells: int) -> None:
        self._folder, self._rng, self._num_cells = folder, rng, num_cells
        self.killed: Counter[str] = Counter()
        self.num_sweeps = self.resumed = 0
        self.broken: list[str] = []
        (folder / "killed.yaml").write_text(FLEET)
        self._start("unharmed", "--jobs", "1").communicate(timeout=_PATIENCE_S)

    def sweep(self, kills: Sequence[tuple[str, Kill]], most: int, *options: str) -> None:
        """Run a sweep with up to ``most`` kills, each one of ``kills`` by chance; resume it until
        it is complete."""
        self.num_sweeps += 1
        left, name = most, f"sweep {self.num_sweeps}"
        while True:
            process = self._start(name, *options)
            seen: set[int] = set()
            while process.poll() is None:
                seen.update(children(process.pid) if lives(process.pid) else ())
                what, kill = self._rng.choice(kills)
                time.sleep(self._rng.uniform(*_WAITS_S))
                if left and process.poll() is None and kill(process.pid):
                    left -= 1
                    self.killed[what] += 1
            _, err = process.communicate(timeout=_PATIENCE_S)
            self._judge(process.returncode, err, seen)
            if process.returncode == 0:
                break
            self.resumed += 1
        if self._rows(name) != self._rows("unharmed"):
            self.broken.append(f"{name}: the dataset is not that of an unharmed sweep")

    def _start(self, name: str, *options: str) -> "subprocess.Popen[str]":
        cells = ",".join(map(str, range(self._num_cells)))
        return subprocess.Popen(
            [sys.executable, "-m", "penstock", "compare", "killed.yaml", "--grid",
             f"run.seed={cells}", "--out", f"{name}.csv", "--resume", "--json", *options],
            cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def _rows(self, name: str) -> bytes:
        path = self._folder / f"{name}.csv"
        return path.read_bytes() if path.exists() else b""

    def _judge(self, status: int, err: str, seen: set[int]) -> None:
        if status not in (0, 2, -signal.SIGKILL):
            self.broken.append(f"exit status {status}: {err[-300:]}")
        if "Traceback" in err:
            self.broken.append(f"a traceback: {err[-300:]}")
        deadline_s = time.monotonic() + 60.0
        while (left := [pid for pid in seen if lives(pid)]) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        if left:
            self.broken.append(f"processes {left} are left of a command with status {status}")


def kill_command(pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    return True


def kill_worker(rng: random.Random) -> Kill:
    """Return what kills a process that computes for ``--jobs``."""
    def kill(pid: int) -> bool:
        with suppress(OSError):
            return _kill_one(rng, [one for one in children(pid) if "spawn_main" in _command(one)])
        return False

    return kill


def _kill_one(rng: random.Random, pids: list[int]) -> bool:
    if pids:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(pids), signal.SIGKILL)
            return True
    return False


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


# -- a Ray cluster ------------------------------------------------------------------------------


@contextmanager
def ray_cluster(num_nodes: int = 2) -> Iterator[Any]:
    """A head without cores, and nodes of one core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (15: a busy host lets none run)
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(num_nodes):
            found.add_node(num_cpus=1)
        yield found
    finally:
        found.shutdown()


def ray_workers(node: Any) -> list[int]:
    """Processes of a node's workers that compute."""
    raylet = node.all_processes["raylet"][0].process.pid
    return [pid for pid in children(raylet) if _command(pid).startswith("ray::computed")]


def kill_ray_worker(cluster: Any, rng: random.Random) -> Kill:
    return lambda _: _kill_one(rng, [pid for node in cluster.worker_nodes
                                     for pid in ray_workers(node)])


def kill_ray_node(cluster: Any, rng: random.Random) -> Kill:
    """Return what kills a node that computes; a new one comes in its place."""
    def kill(_: int) -> bool:
        busy = sorted((node for node in cluster.worker_nodes if ray_workers(node)),
                      key=lambda node: node.node_id)
        if not busy:
            return False
        cluster.remove_node(rng.choice(busy), allow_graceful=False)
        cluster.add_node(num_cpus=1)
        return True

    return kill
