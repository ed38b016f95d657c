"""Two hundred kills: of sweeps on cores and on Ray, and of gateways on PostgreSQL.

    python benchmarks/kills.py [--seed 1] [--cores 50] [--ray 50] [--gateways 100]

- **Cores.** `penstock compare --grid --jobs 2`: its processes are killed, and the command itself.
- **Ray.** The same on a cluster of two nodes: workers, nodes (a new one comes in their place) and
  the command are killed.
- **Gateways.** Two `penstock serve --workers 2` with keys, limits and budgets in a PostgreSQL
  server of our own, 24 clients: workers and whole gateways are killed.

A sweep that ends with another status than 0 goes on with `--resume`. Laws: the dataset of each
sweep is, byte for byte, that of a sweep that nobody harmed, and no process is left; every request
ends once, and only a kill breaks an answer off; spending equals the tokens of the charges to the
nano, and what clients saw; no limit is exceeded, a rate by no more than one lease of each killed
process. Kills are drawn from the seed; when they strike depends on the host. Exit status 1 if a law
was broken.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from common import REPOSITORY, show

sys.path.insert(0, str(REPOSITORY / "tests"))

from support.killed_gateways import BUDGET, IN_FLIGHT, PER_MINUTE, KilledGateways
from support.killed_sweeps import (
    Kill,
    KilledSweeps,
    kill_command,
    kill_ray_node,
    kill_ray_worker,
    kill_worker,
    ray_cluster,
)
from support.postgres_server import postgres_server

_CELLS, _MOST = 24, 8  # cells of a sweep, and kills


def sweeps(seed: int, on_cores: int, on_ray: int) -> dict[str, Any]:
    """Kill processes, commands, workers and nodes."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        harmed = KilledSweeps(Path(name), rng, _CELLS)
        command: tuple[str, Kill] = ("command", kill_command)
        until(harmed, on_cores, [("process of --jobs", kill_worker(rng))] * 9 + [command],
              "--jobs", "2")
        if on_ray:
            with ray_cluster() as cluster:
                until(harmed, on_cores + on_ray, [
                    *[("Ray's worker", kill_ray_worker(cluster, rng))] * 10,
                    *[("Ray's node", kill_ray_node(cluster, rng))] * 4, command],
                    "--on", f"ray:{cluster.address}")
    return {"kills": dict(harmed.killed), "sweeps": harmed.num_sweeps, "resumed": harmed.resumed,
            "broken": harmed.broken}


def until(harmed: KilledSweeps, num: int, kills: list[tuple[str, Kill]], *options: str) -> None:
    """Run sweeps until so many kills were done."""
    while (left := num - harmed.killed.total()) > 0:
        harmed.sweep(kills, min(left, _MOST), *options)
        print(dict(harmed.killed), f"{len(harmed.broken)} broken", file=sys.stderr, flush=True)


def gateways(seed: int, num: int) -> dict[str, Any]:
    """Kill workers and gateways under load."""
    with tempfile.TemporaryDirectory() as name, postgres_server() as url:
        harmed = KilledGateways(Path(name), url, random.Random(seed))
        asyncio.run(harmed.run(num))
    return {"kills": dict(harmed.killed), "requests": dict(Counter(
        one.how for one in harmed.heard)), "most_in_flight": [harmed.engines.most[0], IN_FLIGHT],
        "beyond_rate": [round(harmed.over_rate, 1), PER_MINUTE],
        "spent_of_budget": [harmed.spent.get("thrifty", 0) / 1e9, BUDGET], "broken": harmed.broken}


def main() -> None:
    """Kill, and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=50, help="kills of sweeps on cores")
    parser.add_argument("--ray", type=int, default=50, help="kills of sweeps on Ray")
    parser.add_argument("--gateways", type=int, default=100, help="kills of gateways")
    options = parser.parse_args()
    os.environ["PENSTOCK_RUNS"] = "off"
    found = {}
    if options.gateways:
        found["gateways"] = gateways(options.seed, options.gateways)
    if options.cores or options.ray:
        found["sweeps"] = sweeps(options.seed, options.cores, options.ray)
    show(found)
    sys.exit(any(one["broken"] for one in found.values()))


if __name__ == "__main__":
    main()
