"""The event loop alone: requests per second of one core, without reading, tables or files.

    python benchmarks/event_loop.py           # about 10 s; needs ../shared/data/vidur
    python benchmarks/event_loop.py --growth  # time against the number of requests

``over_bare_loop`` is the ratio to a naive loop of this script over steps, sequences and tokens
without any abstraction, taken in the same run.
"""

import gc
import statistics
import sys
import time
from typing import Any

from common import REPOSITORY, SHARED, show

RUNS = 7


def cluster(fleet: Any, workload: Any) -> Any:
    """A cluster ready to run, and its requests."""
    from penstock.sim.simulation import build_cluster
    from penstock.sim.upcoming import InOrder
    from penstock.workload.requests import requests

    classes = {c.name: c for c in fleet.service_classes}
    return build_cluster(fleet, workload), InOrder(list(requests(workload, classes)))


def seconds(fleet: Any, workload: Any) -> float:
    """CPU seconds of one event loop."""
    ready, stream = cluster(fleet, workload)
    gc.collect()
    gc.disable()
    start = time.process_time()
    ready.run(stream)
    taken = time.process_time() - start
    gc.enable()
    return taken


def bare_loop(rows: list[tuple[float, int, int]], chunk: int, seconds_of: Any) -> int:
    """Sarathi's decisions without any abstraction: every step, every sequence, every token.

    No KV blocks, no checks, no records but the token times themselves.
    """
    waiting: list[list[int]] = []
    decoding: list[tuple[list[int], list[float]]] = []
    times: list[list[float]] = []
    now, row, steps = 0.0, 0, 0
    while row < len(rows) or waiting or decoding:
        if not waiting and not decoding:
            now = max(now, rows[row][0])
        while row < len(rows) and rows[row][0] <= now:
            waiting.append([rows[row][1], 0, rows[row][2]])
            row += 1
        budget, work, taken, done = chunk - len(decoding), 0.0, 0, []
        while waiting and budget > 0:
            head = waiting[0]
            tokens = min(budget, head[0] - head[1])
            work += tokens * (head[1] + tokens / 2)
            head[1] += tokens
            budget -= tokens
            taken += tokens
            if head[1] < head[0]:
                break
            done.append(waiting.pop(0))
        context = sum(state[0] for state, _ in decoding)
        now += seconds_of(taken, work, len(decoding), context)
        steps += 1
        for state, tokens_s in decoding:
            state[0] += 1
            state[1] -= 1
            tokens_s.append(now)
        decoding = [entry for entry in decoding if entry[0][1] > 0]
        for prompt, _, output in done:
            times.append([now])
            if output > 1:
                decoding.append(([prompt + 1, output - 1], times[-1]))
    return steps


def vidur() -> dict[str, Any]:
    """The 5,000-request file, per policy."""
    from penstock.experiment.compare import with_schedule
    from penstock.fleet.load import load_fleet
    from penstock.fleet.replica_factory import step_time
    from penstock.fleet.sources import fleet_workload
    from penstock.policy.schedule.options import PRESETS, scheduler_options

    fleet = load_fleet(REPOSITORY / "examples" / "vidur-a100.yaml",
                       {"run.beliefs": "exact"}, SHARED / "vidur")
    workload = fleet_workload(fleet)
    columns = (workload.arrival_s, workload.prompt_tokens, workload.output_tokens)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    model = step_time(fleet.replicas[0])
    bare: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in PRESETS}
    for _ in range(RUNS):
        start = time.process_time()
        bare_loop(rows, 512, model.seconds)
        bare.append(time.process_time() - start)
        for name, taken in found.items():
            taken.append(seconds(with_schedule(fleet, scheduler_options(name)), workload))
    per_s = {name: len(rows) / statistics.median(taken) for name, taken in found.items()}
    bare_per_s = len(rows) / statistics.median(bare)
    return {"bare_loop_requests_per_s": bare_per_s,
            "requests_per_s": per_s,
            "over_bare_loop": {name: value / bare_per_s for name, value in per_s.items()}}


def growth() -> dict[str, Any]:
    """CPU seconds of the whole simulation on eight replicas by number of requests."""
    from penstock.experiment.run import run_fleet
    from penstock.fleet.load import load_fleet
    from penstock.fleet.sources import fleet_workload

    rows = []
    for count in (62_500, 125_000, 250_000, 500_000, 1_000_000):
        fleet = load_fleet(REPOSITORY / "benchmarks" / "million.yaml",
                           {"traffic[0].num_requests": count})
        workload = fleet_workload(fleet)
        start = time.process_time()
        run_fleet(fleet, workload, 0)
        taken = time.process_time() - start
        rows.append({"requests": count, "cpu_s": taken, "us_per_request": 1e6 * taken / count})
    return {"growth": rows}


if __name__ == "__main__":
    show(growth() if "--growth" in sys.argv else vidur())
