"""Random faults of the controller and of its cluster: is the desired state reached, by one hand?

    python benchmarks/cluster_faults.py 200 --seed 1            # in memory, in simulated time
    python benchmarks/cluster_faults.py 200 --seed 1 --real 20  # and on a real API server

In memory, a schedule has 150 simulated seconds with two or three controllers of one cluster, up to
three Fleets whose numbers change, and faults: controllers are killed, stopped or cut off, the API
server goes down, watches are too old or slow, writes conflict, requests are throttled, a webhook
hangs and its step is carried out when nobody waits for it, answers are lost, pods die, somebody
scales by hand. On the real server (../shared/k8s, with Kubernetes' controllers and played nodes) a
schedule has 25 seconds, two controller processes behind proxies, one Fleet, and the same faults by
signals, proxies and an admission webhook that does not answer.

Columns: schedules; those in which the desired state was reached, and stayed; the longest time after
the last fault until workloads have the wanted numbers, and until all replicas serve and the status
says so; on the real server, how long the status took once they served, and schedules in which
Kubernetes did not make the pods within two minutes, where the status has to say that;
changes of replicas, and those beyond what was wanted; steps that a slow server carried out after
the client had given up; changes by a controller that did not lead, and moments at which two could
act. Exit status 1 if a schedule did not reach its state or had two owners.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from common import REPOSITORY, host

sys.path.insert(0, str(REPOSITORY / "tests"))

from support.cluster_schedule import World
from support.kube_api_server import AbsentError, api_server
from support.real_schedule import RealSchedule

HEAD = ("where", "schedules", "reached", "to the number, s", "to the state, s", "status after, s",
        "pods lacking", "changes", "beyond wanted", "late steps", "double owners")
NUM_PROCESSES = 2


class Outcome(NamedTuple):
    """Figures of one schedule."""

    name: str
    broken: list
    ordered_s: float
    reached_s: float
    changes: int
    extra: int
    late: int
    double: int
    faults: Counter
    told: str = ""
    status_s: float = 0.0
    lacking: list | None = None


def in_memory(seed):
    """Run one schedule in simulated time."""
    world = World(seed)
    with tempfile.TemporaryDirectory() as folder:
        broken = world.run(Path(folder))
    return Outcome(f"seed {seed}", broken, world.ordered_s, world.reached_s, len(world.moved),
                   world.num_extra, sum(one.is_late for one in world.moved), world.num_double,
                   world.faults)


async def on_server(number, seed, at_once):
    """Run schedules on a real API server. Raises AbsentError."""
    found, lock, places = [], asyncio.Lock(), asyncio.Semaphore(at_once)
    with tempfile.TemporaryDirectory() as name, api_server(
            Path(name) / "kube", controllers=True) as kube:
        async def one(number):
            folder = Path(name) / str(number)
            folder.mkdir()
            schedule = RealSchedule(random.Random(f"{seed}-{number}"), kube, folder, lock)
            async with places:
                try:
                    await schedule.run()
                except Exception as error:
                    schedule.broken.append(f"{type(error).__name__}: {error}"[:300])
            found.append(Outcome(
                f"real {seed}-{number}", schedule.broken, schedule.ordered_s,
                schedule.reached_s or 0.0, schedule.num_changes, schedule.num_extra, 0,
                schedule.num_double, Counter(schedule.faults), schedule.told,
                schedule.status_s, schedule.lacking))
            print(found[-1], file=sys.stderr, flush=True)

        await asyncio.gather(*(one(number) for number in range(number)))
    return found


def row(where, found):
    """Return a line of the table."""
    return (where, len(found), sum(not one.broken for one in found),
            f"{max((one.ordered_s for one in found), default=0.0):.1f}",
            f"{max((one.reached_s for one in found), default=0.0):.1f}",
            f"{max(one.status_s for one in found):.1f}" if where == "real server" else "-",
            sum(one.lacking is not None for one in found) if where == "real server" else "-",
            sum(one.changes for one in found), sum(one.extra for one in found),
            sum(one.late for one in found) if where == "in memory" else "-",
            sum(one.double for one in found))


def main():
    """Run the schedules and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("number", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first schedule")
    parser.add_argument("--real", type=int, default=0, help="schedules on a real API server")
    parser.add_argument("--at-once", type=int, default=2, help="real schedules side by side")
    options = parser.parse_args()
    with ProcessPoolExecutor(NUM_PROCESSES) as pool:
        simulated = [*pool.map(in_memory, range(options.seed, options.seed + options.number))]
    rows, found = [row("in memory", simulated)], list(simulated)
    if options.real:
        try:
            real = asyncio.run(on_server(options.real, options.seed, options.at_once))
        except AbsentError as reason:
            sys.exit(str(reason))
        rows.append(row("real server", real))
        found += real
    for one in found:
        if one.lacking is not None:
            print(f"{one.name}: ReplicaSets (wanted, made) {one.lacking}", file=sys.stderr)
        if one.broken or one.extra or one.double:
            print(f"{one.name}: {one.extra} beyond wanted, {one.double} double owners; "
                  f"{one.broken[:2]} {one.told}", file=sys.stderr)
    print(host())
    print("faults:", dict(sum((one.faults for one in found), Counter())))
    for line in (HEAD, ["---"] * len(HEAD), *rows):
        print("|", " | ".join(map(str, line)), "|")
    sys.exit(1 if any(one.broken or one.double for one in found) else 0)


if __name__ == "__main__":
    main()
