"""Simulated fault schedules of the gateway: how many a minute, which faults, which laws broke.

    python benchmarks/gateway_simulation.py N            # the schedules of seeds 0 to N - 1
    python benchmarks/gateway_simulation.py N FIRST      # of N seeds from FIRST on
    python benchmarks/gateway_simulation.py 1 SEED       # one schedule, with its trace

A schedule is the whole gateway in simulated time, with clients, engines, the ledger and its
database, up to two gateways on one ledger, and faults drawn from the seed: see
``tests/support/simulated_schedule.py``, and ``tests/support/gateway_laws.py`` for the laws. The
seeds are spread over two processes.
"""

import argparse
import gc
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.simulated_schedule import World

NUM_PROCESSES = 2
_EACH = 100  # schedules between two reports of a process


class Part(NamedTuple):
    """Counts of some schedules. ``broken`` are the violations by seed."""

    num_schedules: int
    cpu_s: float
    simulated_s: float
    seen: Counter
    faults: Counter
    broken: dict


def run(seeds):
    """Run some schedules in this process."""
    begun_s, simulated_s = time.process_time(), 0.0
    seen, faults, broken = Counter(), Counter(), {}
    for seed in seeds:
        world = World(seed)
        if violated := world.run():
            broken[seed] = violated
        simulated_s += world.loop.time() - 1000.0
        faults += world.faults
        seen["gateways"] += len(world.all_gateways)
        seen["tries of clients"] += len(world.heard)
        seen["requests admitted"] += sum(len(one.leases) for one in world.all_gateways)
        seen["requests at engines"] += len(world.answers)
        seen["answers seen to their end"] += sum(
            one.ended and one.status == 200 for one in world.heard)
        seen["charges"] += len(world.database.charges())
    gc.collect()
    return Part(len(seeds), time.process_time() - begun_s, simulated_s, seen, faults, broken)


def main():
    """Run the schedules and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("num", type=int)
    parser.add_argument("first", type=int, nargs="?", default=0)
    wanted = parser.parse_args()
    if wanted.num == 1:
        for line in World(wanted.first, traced=True).run():
            print("violated:", line)
        return
    seeds = range(wanted.first, wanted.first + wanted.num)
    begun_s, parts = time.monotonic(), []
    with multiprocessing.get_context("spawn").Pool(NUM_PROCESSES) as pool:
        for part in pool.imap_unordered(run, [seeds[i:i + _EACH]
                                              for i in range(0, len(seeds), _EACH)]):
            parts.append(part)
            for seed, lines in part.broken.items():
                print(f"seed {seed}: {'; '.join(lines[:3])}", flush=True)
    wall_s, cpu_s = time.monotonic() - begun_s, sum(one.cpu_s for one in parts)
    total = sum(one.num_schedules for one in parts)
    print(f"schedules {total}, of which {sum(len(one.broken) for one in parts)} violate a law")
    print(f"{60 * total / wall_s:.0f} schedules a minute on {NUM_PROCESSES} processes, "
          f"{60 * total / cpu_s:.0f} a minute of CPU; "
          f"{sum(one.simulated_s for one in parts) / 3600:.1f} hours simulated")
    for title, counts in (("seen", sum((one.seen for one in parts), Counter())),
                          ("faults", sum((one.faults for one in parts), Counter()))):
        print(title)
        for name, number in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
            print(f"{number:10d}  {name}")


if __name__ == "__main__":
    main()
