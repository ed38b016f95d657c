"""Thousands of small cells in one process, in two, and on a Ray cluster of two nodes.

    python benchmarks/cells.py [--cells 10000] [--requests 20]

Runs `penstock compare --grid` over rates and seeds: in this order with `--jobs 1`, with `--jobs 2`
and with `--on ray:HOST:PORT`, on a cluster of a head without cores and two nodes of one core each,
on this machine. Each dataset must equal the first, byte for byte; exit status 1 if one does not.

Columns: wall time; CPU time of the command and of all that computes for it (the cluster's head and
nodes included, from the command's start to its end); both for each cell; CPU time for each cell
above that of one process (overhead); CPU time of one process over that of this place (efficiency).
Below: the CPU time by kind of process. That of a cluster's own ones grows with the wall time, not
with the cells. The start of the cluster is not counted. On a host with other work, compare CPU
times.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common import host

FLEET = """\
name: cells
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.05}}]
traffic:
  - {lengths: {prompt: {fixed: 400}, output: {fixed: 40}}, rate_per_s: 5, num_requests: REQUESTS}
replicas: [{count: 1}]
policies: {schedule: penstock, route: least_loaded}
"""
HEAD = ("place", "wall, s", "CPU, s", "wall per cell, ms", "CPU per cell, ms",
        "overhead per cell, ms", "efficiency", "dataset")
_SEEDS = 1000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.2


class CpuTime:
    """CPU seconds of the processes below this one, those included that end meanwhile."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], float] = {}
        self._last: dict[tuple[int, int], float] = {}
        self._parents: dict[int, int] = {}
        self._names: dict[tuple[int, int], str] = {}

    def sample(self, *, start: bool = False) -> None:
        """Read the times of all processes."""
        seen = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has just ended
                name, _, rest = path.read_text().partition("(")[2].rpartition(")")
                pid, fields = int(path.parent.name), rest.split()
                self._names[pid, int(fields[19])] = name
                self._parents.setdefault(pid, int(fields[1]))
                seen[pid, int(fields[19])] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        for key, seconds in seen.items():
            if self._is_below(key[0]):
                if start:
                    self._first[key] = seconds
                self._last[key] = seconds

    def _is_below(self, pid: int) -> bool:
        while pid > 1:
            pid = self._parents.get(pid, 0)
            if pid == os.getpid():
                return True
        return False

    @property
    def by_kind(self) -> dict[str, float]:
        """Seconds since the start, by kind of process."""
        found: dict[str, float] = {}
        for key, seconds in self._last.items():
            name = self._names[key]
            kind = "Ray's workers" if name.startswith(("ray::computed", "ray::IDLE")) else \
                "Ray itself" if name.startswith(("ray", "gcs")) else "Python"
            found[kind] = found.get(kind, 0.0) + seconds - self._first.get(key, 0.0)
        return found


@contextmanager
def cluster() -> Iterator[str]:
    """Start a head without cores and two nodes of one core each; the address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (as the other places)
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            found.add_node(num_cpus=1)
        yield str(found.address)
    finally:
        found.shutdown()


def run(folder: Path, rates: int, name: str, *options: str
        ) -> tuple[float, dict[str, float], str]:
    """Wall time, CPU times by kind of process, and digest of the dataset of a place."""
    out = folder / f"{name.replace(' ', '-')}.csv"
    axis = ",".join(f"{2 + rate / 10:g}" for rate in range(rates))
    command = [sys.executable, "-m", "penstock", "compare", "cells.yaml", "--grid",
               f"traffic[0].rate_per_s={axis}", "--seeds", str(_SEEDS), "--out", str(out), "--json",
               *options]
    cpu, begun_s = CpuTime(), time.monotonic()
    cpu.sample(start=True)
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_S):
            cpu.sample()

    watcher = threading.Thread(target=watch)
    watcher.start()
    # The command is not reaped before it is read: its own time counts to the end.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    wall_s = time.monotonic() - begun_s
    ended.set()
    watcher.join()
    cpu.sample()
    if process.wait():
        sys.exit(f"{name}: exit status {process.returncode}")
    return wall_s, cpu.by_kind, hashlib.sha256(out.read_bytes()).hexdigest()


def main() -> None:
    """Run the grid in each place and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--cells", type=int, default=10_000, help="a multiple of 1000")
    parser.add_argument("--requests", type=int, default=20, help="requests of a cell")
    options = parser.parse_args()
    rates = max(1, options.cells // _SEEDS)
    cells = rates * _SEEDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cells.yaml").write_text(FLEET.replace("REQUESTS", str(options.requests)))
        found = {"one process": run(folder, rates, "one process", "--jobs", "1"),
                 "two processes": run(folder, rates, "two processes", "--jobs", "2")}
        with cluster() as address:
            found["Ray, two nodes"] = run(folder, rates, "Ray, two nodes", "--on", f"ray:{address}")
    _, one, digest = found["one process"]
    one_s = sum(one.values())
    sums = {place: (wall_s, sum(kinds.values()), found_digest)
            for place, (wall_s, kinds, found_digest) in found.items()}
    print(host())
    print(f"{cells:,} cells of {options.requests} requests")
    for line in (HEAD, ["---"] * len(HEAD), *(
            (place, f"{wall_s:.0f}", f"{cpu_s:.0f}", f"{1e3 * wall_s / cells:.2f}",
             f"{1e3 * cpu_s / cells:.2f}", f"{1e3 * (cpu_s - one_s) / cells:.2f}",
             f"{one_s / cpu_s:.0%}", "identical" if found_digest == digest else "DIFFERS")
            for place, (wall_s, cpu_s, found_digest) in sums.items())):
        print("|", " | ".join(map(str, line)), "|")
    for place, (_, kinds, _) in found.items():
        print(f"{place}:", ", ".join(f"{kind} {1e3 * cpu_s / cells:.2f} ms per cell"
                                     for kind, cpu_s in kinds.items() if cpu_s))
    sys.exit(any(found_digest != digest for _, _, found_digest in found.values()))


if __name__ == "__main__":
    main()
