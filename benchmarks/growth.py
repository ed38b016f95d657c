"""How a simulation's CPU time and memory grow: requests, replicas, classes, lengths, features.

    python benchmarks/growth.py                       # all axes, about 30 minutes on a busy host
    python benchmarks/growth.py requests 'replicas, joint'

Every point is a process of its own: ``run_fleet`` on requests that are drawn before, its processor
time and how much it raises the peak memory. The exponent of an axis is the slope of log(CPU time)
over log(size), by least squares, with its 95 % interval; ``last`` is the slope between the two
largest sizes, which shows a growth that small sizes hide. Along ``replicas`` each replica keeps its
load and the number of requests is fixed, so that what grows is the cost of a decision and of
replicas that hold fewer requests a step. Along ``lengths`` prompts and outputs grow and the rate
falls, so that tokens per second stay.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import show

RATE_PER_S = 6.5  # of each replica
REQUESTS = 10_000
ROUTERS = ("round_robin", "least_loaded", "joint", "least_added_time")
Document = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """Fleets by size. ``expected`` is the largest exponent that their work justifies."""

    sizes: tuple[int, ...]
    fleet: Callable[[int], Document]
    expected: float


def fleet(*, requests: int = REQUESTS, replicas: int = 8, rate_per_s: float | None = None,
          classes: int = 2, route: str = "least_loaded", **sections: Any) -> Document:
    """A fleet of equal A100s whose classes alternate between interactive and batch."""
    slos = ({"ttft_s": 6, "itl_s": 0.05, "percentile": 99}, {"e2e_s": 600, "percentile": 99})
    names = [f"class-{number}" for number in range(classes)]
    traffic = {"mix": dict.fromkeys(names, 1.0 / classes), "trace": "azure-2023-conv",
               "rate_per_s": rate_per_s or RATE_PER_S * replicas, "num_requests": requests}
    return {"name": "growth", "accelerators": [{"name": "a100-80gb", "count": replicas}],
            "models": [{"name": "llama-3.1-8b"}],
            "service_classes": [{"name": name, "priority": 1 + place % 2, "slo": slos[place % 2]}
                                for place, name in enumerate(names)],
            "traffic": [traffic],
            "replicas": [{"accelerator": "a100-80gb", "count": replicas,
                          "step_time": "vidur-a100-llama-3-8b"}],
            "policies": {"schedule": "penstock", "route": route}, "run": {"beliefs": "exact"},
            **sections}


def lengths(factor: int) -> Document:
    found = fleet(requests=4_000, rate_per_s=80.0 / factor)
    del found["traffic"][0]["trace"]
    found["traffic"][0]["lengths"] = {"prompt": {"fixed": 200 * factor},
                                      "output": {"fixed": 40 * factor}}
    return found


def prefixes(replicas: int) -> Document:
    """Requests of 400 shared prompts of 1,024 tokens, each with 500 tokens of its own."""
    path = Path(tempfile.gettempdir()) / "penstock-growth.jsonl"
    rate_per_s, own = RATE_PER_S * replicas, 10_000
    with path.open("w") as file:
        for number in range(REQUESTS):
            shared = number * 7919 % 400
            file.write(json.dumps({
                "timestamp": 1e3 * number / rate_per_s, "input_length": 1524, "output_length": 200,
                "hash_ids": [2 * shared, 2 * shared + 1, own + number]}) + "\n")
    found = fleet(replicas=replicas, route="least_added_time")
    found["traffic"] = [{"mix": found["traffic"][0]["mix"],
                         "trace": {"file": str(path), "arrivals": "own"}}]
    return {**found, "engine": {"prefix_caching": True}}


def closed(requests: int) -> Document:
    found = fleet(requests=requests)
    del found["traffic"][0]["rate_per_s"]
    found["traffic"][0]["arrivals"] = {"name": "closed", "clients": 256}
    return found


def scaling(requests: int) -> Document:
    found = fleet(requests=requests, replicas=4, rate_per_s=26.0,
                  scaling={"start_s": 60})
    found["accelerators"][0]["count"] = 16
    found["replicas"][0] |= {"min_replicas": 1, "max_replicas": 16}
    found["traffic"][0]["arrivals"] = {"name": "square", "low": 0.5, "high": 1.5, "low_s": 300,
                                       "high_s": 300}
    found["policies"]["scale"] = "penstock"
    return found


def speculation(requests: int) -> Document:
    found = fleet(requests=requests, rate_per_s=32.0)
    found["accelerators"] = [{"name": "h100-80gb", "count": 8}]
    found["replicas"] = [{"accelerator": "h100-80gb", "count": 8, "speculation": {
        "method": "eagle3", "tokens": 3, "acceptance": [0.7, 0.45, 0.28]}}]
    return found


def disaggregation(requests: int) -> Document:
    found = fleet(requests=requests, rate_per_s=32.0)
    group = {"accelerator": "a100-80gb", "count": 4, "step_time": "vidur-a100-llama-3-8b"}
    return {**found, "replicas": [{**group, "role": "prefill"}, {**group, "role": "decode"}],
            "disaggregation": {"transfer": {"gb_per_s": 50}}}


def multiplexing(requests: int) -> Document:
    names = ("llama-3-8b", "qwen2.5-7b", "mistral-7b", "llama-2-7b", "gemma-7b")
    return {"name": "growth", "accelerators": [{"name": "h100-80gb", "count": 1}],
            "models": [{"name": name} for name in names],
            "service_classes": [{"name": "chat", "slo": {"e2e_s": 30, "percentile": 95}}],
            "traffic": [{"model": name, "rate_per_s": 1.0, "num_requests": requests // len(names),
                         "lengths": {"prompt": {"fixed": 200}, "output": {"fixed": 100}}}
                        for name in names],
            "multiplexing": [{"name": "gpu", "policy": "penstock",
                              "host": {"memory_gib": 96, "disk_gb_per_s": 5.5,
                                       "copy_gb_per_s": 6.1, "fixed_s": 1},
                              "models": [{"model": name, "size_gib": 23} for name in names]}],
            "run": {"beliefs": "exact"}}


def _replicas(route: str) -> Callable[[int], Document]:
    return lambda size: fleet(replicas=size, route=route)


_MANY = (1, 2, 8, 32, 128, 512, 1000)
_FEATURE = (1_000, 3_000, 10_000, 30_000)
AXES = {
    "requests": Axis((1_000, 3_000, 10_000, 30_000, 100_000, 300_000),
                     lambda size: fleet(requests=size), 1.0),
    **{f"replicas, {route}": Axis(_MANY, _replicas(route), 0.5) for route in ROUTERS[:-1]},
    "replicas, least_added_time with prefix caches": Axis(_MANY, prefixes, 0.5),
    "classes": Axis((1, 2, 4, 8, 16, 32, 64), lambda size: fleet(classes=size), 0.2),
    "lengths": Axis((1, 2, 4, 8, 16, 32, 64), lengths, 1.0),
    "requests, closed loops": Axis(_FEATURE, closed, 1.0),
    "requests, scaling": Axis(_FEATURE, scaling, 1.0),
    "requests, speculation": Axis(_FEATURE, speculation, 1.0),
    "requests, disaggregation": Axis(_FEATURE, disaggregation, 1.0),
    "requests, multiplexing": Axis(_FEATURE, multiplexing, 1.0),
}


def memory_mb(name: str) -> float:
    """VmRSS, the memory that this process holds, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def point(job: tuple[str, int]) -> tuple[float, float]:
    """CPU seconds of one run, and the MB by which it raised the peak."""
    from penstock.experiment.run import run_fleet
    from penstock.fleet.load import parse_fleet
    from penstock.fleet.sources import fleet_workload

    name, size = job
    document = parse_fleet(json.dumps(AXES[name].fleet(size)))
    workload = fleet_workload(document)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
    before_mb, began_s = memory_mb("VmRSS"), time.process_time()
    run_fleet(document, workload, 0)
    return time.process_time() - began_s, memory_mb("VmHWM") - before_mb


def slope(sizes: list[float], values: list[float]) -> tuple[float, float]:
    """The slope of the logarithms and half of its 95 % interval."""
    import numpy as np
    from scipy.stats import t

    x, y = np.log(sizes), np.log(np.maximum(values, 1e-2))
    design = np.column_stack([np.ones_like(x), x])
    (_, found), *_ = np.linalg.lstsq(design, y, rcond=None)
    free = len(x) - 2
    error = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    variance = float(error @ error) / free / float(((x - x.mean())**2).sum())
    return float(found), float(t.ppf(0.975, free)) * variance**0.5


def row(name: str, found: list[tuple[float, float]]) -> dict[str, Any]:
    axis = AXES[name]
    sizes = [float(size) for size in axis.sizes]
    cpu_s, peak_mb = ([one[place] for one in found] for place in (0, 1))
    exponent, half = slope(sizes, cpu_s)
    last, _ = slope([*sizes[-2:], sizes[-1]], [*cpu_s[-2:], cpu_s[-1]])
    memory, memory_half = slope(sizes, peak_mb)
    return {"axis": name, "sizes": list(axis.sizes), "cpu_s": [round(one, 3) for one in cpu_s],
            "memory_mb": [round(one, 1) for one in peak_mb],
            "exponent": round(exponent, 2), "interval": [round(exponent - half, 2),
                                                         round(exponent + half, 2)],
            "last": round(last, 2), "memory_exponent": round(memory, 2),
            "memory_interval": [round(memory - memory_half, 2), round(memory + memory_half, 2)],
            "expected": axis.expected, "too_fast": max(exponent - half, last) > axis.expected + 0.1}


if __name__ == "__main__":
    results = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in sys.argv[1:] or AXES:
            results.append(row(name, list(pool.map(point, [(name, size)
                                                           for size in AXES[name].sizes]))))
            print(results[-1], file=sys.stderr, flush=True)
    show({"growth": results})
