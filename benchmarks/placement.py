"""Placement on fragmented memory: exact against heuristics.

    python benchmarks/placement.py nodes      # 9,000 random nodes of 8 GPUs, one model each (1 min)
    python benchmarks/placement.py together   # 500 nodes, two or three models at once (1 minute)
    python benchmarks/placement.py churn      # models come and go on 4 nodes (half a minute)
    python benchmarks/placement.py cluster    # 1,000 GPUs, the quick placer (half a minute)

One process; times are of the processor. Memory is in use by chance: a third of the GPUs is empty,
the rest is used to any part. In ``churn`` each placer lives with what it left.
"""

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, median, quantiles
from typing import Any

from common import show

from penstock.core.units import GIB
from penstock.plan.place.exact import ExactPlacer, ExactPlan, place_exact, quick
from penstock.policy.place.balanced import BalancedPlacer
from penstock.policy.place.defragment import Defragmenter, Deployed, Migration, MoveRates
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.protocol import Placer
from penstock.policy.place.score import score
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement, by_id
from penstock.published.maveriq.placer import MaveriqPlacer

# Layers, GiB of all layers and of embedding and head together at 16 bits, and most devices by
# tensor parallelism (falcon-7b's heads cannot be divided).
MODELS = {"llama-2-7b": (32, 12.1, 0.5, 8), "llama-2-13b": (40, 23.6, 0.6, 8),
          "llama-2-70b": (80, 127.5, 1.0, 8), "falcon-40b": (60, 76.9, 1.0, 8),
          "falcon-7b": (32, 12.4, 0.5, 1), "gptj-6b": (28, 10.5, 0.8, 8)}
PRECISION = {"fp16": 1.0, "int8": 0.5, "int4": 0.25}
LINKS = ("xxyyzzww", "xxxxyyyy", "xxxxxxxx", "        ")
PLACERS: dict[str, Placer] = {
    "exact": ExactPlacer(), "penstock": PenstockPlacer(), "maveriq none": MaveriqPlacer("none"),
    "maveriq llf": MaveriqPlacer("llf"), "maveriq packing": MaveriqPlacer("packing"),
    "maveriq hybrid": MaveriqPlacer("hybrid"),
    "maveriq hybrid as published": MaveriqPlacer("hybrid", as_published=True),
    "balanced": BalancedPlacer()}


def random_footprint(rng: random.Random, most: int = 8) -> Footprint:
    """A model, a precision and a spread, with half a GiB of context and some KV cache."""
    name = rng.choice(list(MODELS))
    layers, layers_gib, ends_gib, most_tensor = MODELS[name]
    precision = rng.choice(list(PRECISION))
    spreads = [(tensor, pipeline) for tensor in (1, 2, 4, 8) for pipeline in range(1, most + 1)
               if tensor <= most_tensor and tensor * pipeline <= most]
    tensor, pipeline = rng.choice(spreads)
    weights = layers_gib * PRECISION[precision] * (1.0 + rng.choice((0.1, 0.5)))
    end = int(ends_gib * GIB / 2 / tensor)
    return Footprint(f"{name} {precision}", layers, tensor, pipeline,
                     int(weights * GIB / layers / tensor), end, end, GIB // 2)


def random_node(rng: random.Random, number: int = 0) -> list[Device]:
    """Eight GPUs of 48 or 80 GiB, each in use to some part."""
    total, links = rng.choice((48, 80)) * GIB, rng.choice(LINKS)
    return [Device(8 * number + index, f"n{number}", total,
                   rng.choice((0, rng.randrange(total), rng.randrange(total))), rng.random(),
                   links[index].strip()) for index in range(8)]


def beside(devices: Sequence[Device], placement: Placement, sign: int = 1) -> list[Device]:
    held = placement.bytes_by_device
    return [replace(d, used_bytes=d.used_bytes + sign * held.get(d.device_id, 0)) for d in devices]


def times(seconds: Sequence[float]) -> dict[str, float]:
    return {"median_ms": round(1e3 * median(seconds), 2),
            "p99_ms": round(1e3 * quantiles(seconds, n=100)[98], 2),
            "worst_ms": round(1e3 * max(seconds), 1)}


def random_case(rng: random.Random, tight: bool) -> tuple[Footprint, list[Device]]:
    """A model and a node; a tight one would take 40 to 100 % of all memory that is free there."""
    while True:
        wanted, devices = random_footprint(rng), random_node(rng)
        part = wanted.total_bytes / max(1, sum(device.free_bytes for device in devices))
        if not tight or 0.4 <= part <= 1.0:
            return wanted, devices


def nodes(count: int = 3000) -> dict[str, Any]:
    """One model on one random node, every placer: any, tight ones, and tight ones with memory for
    layers alone, which is all that MaverIQ's map knows."""
    rows = {}
    for kind in ("any", "tight", "tight, layers alone"):
        rng = random.Random(0)
        cases = [random_case(rng, kind != "any") for _ in range(count)]
        if kind == "tight, layers alone":
            cases = [(replace(wanted, first_bytes=0, last_bytes=0, fixed_bytes=0), devices)
                     for wanted, devices in cases]
        rows[kind] = compare(cases)
    return rows


def compare(cases: Sequence[tuple[Footprint, list[Device]]]) -> dict[str, Any]:
    """Every placer on the same cases. Stranded memory, evenness and splits are means over the cases
    that all but ``balanced`` place."""
    marks: dict[str, list[Any]] = {}
    seconds: dict[str, list[float]] = {}
    proven = True
    for name, placer in PLACERS.items():
        for wanted, devices in cases:
            began_s = time.process_time()
            if name == "exact":
                plan = place_exact([wanted], devices)
                proven &= isinstance(plan, Infeasible) or plan.proven
                found = plan if isinstance(plan, Infeasible) else plan.placements[0]
            else:
                found = placer.place(wanted, devices)
            seconds.setdefault(name, []).append(time.process_time() - began_s)
            marks.setdefault(name, []).append(
                None if isinstance(found, Infeasible) else score(found, by_id(devices)))
    best = marks["exact"]
    feasible = [i for i, mark in enumerate(best) if mark]
    common = [i for i in feasible
              if all(own[i] for name, own in marks.items() if name != "balanced")]
    rows: dict[str, Any] = {"proven": proven, "cases": len(cases), "feasible": len(feasible),
                            "common": len(common)}
    for name, own in marks.items():
        assert all(best[i] is not None and best[i] <= mark for i, mark in enumerate(own) if mark)
        placed = [i for i in feasible if own[i]]
        rows[name] = {
            "placed_of_feasible": round(len(placed) / len(feasible), 4),
            "best_of_placed": round(mean(float(own[i] == best[i]) for i in placed), 4),
            **times(seconds[name])}
        if name != "balanced":
            rows[name] |= {
                "stranded_gib": round(mean(own[i].stranded_bytes for i in common) / GIB, 2),
                "largest_stage_of_even": round(mean(
                    own[i].largest_stage * cases[i][0].pipeline / cases[i][0].num_layers
                    for i in common), 3),
                "link_splits": round(mean(own[i].link_splits for i in common), 3)}
    return rows


def together(count: int = 500) -> dict[str, Any]:
    """Two or three models on one random node: one program, or one after another."""
    rng = random.Random(1)
    joint = alone = proven = 0
    seconds = []
    for _ in range(count):
        wanted = [random_footprint(rng) for _ in range(rng.choice((2, 3)))]
        devices = random_node(rng)
        began_s = time.process_time()
        found = place_exact(wanted, devices)
        seconds.append(time.process_time() - began_s)
        joint += isinstance(found, ExactPlan)
        proven += found.proven if isinstance(found, ExactPlan) else "in time" not in found.reason
        alone += quick(wanted, devices) is not None
    return {"cases": count, "placed_together": joint, "placed_one_after_another": alone,
            "proven": proven, **times(seconds)}


def churn(events: int = 1500) -> dict[str, Any]:
    """Models come and go on 4 nodes of 8 x 48 GiB; who is refused, and whom moves would let in."""
    rows: dict[str, Any] = {}
    rates = MoveRates(25e9, 12.5e9, restart_s=20.0)
    for name, placer in PLACERS.items():
        if name == "exact":
            continue
        rng = random.Random(2)
        devices = [Device(8 * n + i, f"n{n}", 48 * GIB, 0, 0.0, "xxyyzzww"[i])
                   for n in range(4) for i in range(8)]
        running: list[tuple[int, Placement]] = []
        asked = placed = room = movable = 0
        downtime_s = []
        for event in range(events):
            for _, placement in [each for each in running if each[0] == event]:
                devices = beside(devices, placement, -1)
            running = [each for each in running if each[0] > event]
            wanted, until = random_footprint(rng), event + rng.randrange(1, 60)
            devices = [replace(d, busy_share=round(d.used_bytes / d.total_bytes, 2))
                       for d in devices]
            asked += 1
            found = placer.place(wanted, devices)
            if isinstance(found, Placement):
                placed += 1
                running.append((until, found))
                devices = beside(devices, found)
                continue
            room += sum(d.free_bytes for d in devices) >= wanted.total_bytes
            if name == "penstock":
                moves = Defragmenter(placer, rates, max_sets=60).make_room(wanted, devices, [
                    Deployed(f"{index}", p) for index, (_, p) in enumerate(running)])
                if isinstance(moves, Migration):
                    movable += 1
                    downtime_s.append(moves.downtime_s)
        rows[name] = {"placed": round(placed / asked, 4),
                      "refused_though_bytes_were_free": round(room / asked, 4)}
        if name == "penstock":
            rows[name] |= {"moves_would_admit": round(movable / asked, 4),
                           "median_downtime_s": round(median(downtime_s), 1)}
    return rows


def cluster(num_nodes: int = 125) -> dict[str, Any]:
    """One model on 1,000 GPUs in random use."""
    rng = random.Random(3)
    devices = [device for number in range(num_nodes) for device in random_node(rng, number)]
    rows: dict[str, Any] = {}
    for most in (8, 32):
        seconds, placed = [], 0
        for _ in range(200):
            wanted = random_footprint(rng, most)
            began_s = time.process_time()
            placed += isinstance(PenstockPlacer().place(wanted, devices), Placement)
            seconds.append(time.process_time() - began_s)
        rows[f"up to {most} GPUs"] = {"placed": placed, "of": 200, **times(seconds)}
    huge = Footprint("two hundred stages", 800, 4, 200, 30 * GIB // 8)
    began_s = time.process_time()
    found = PenstockPlacer().place(huge, devices)
    rows["800 layers on 200 stages of 4"] = {
        "placed": isinstance(found, Placement), "s": round(time.process_time() - began_s, 2)}
    return rows


if __name__ == "__main__":
    mode = sys.argv[1] if len(sys.argv) > 1 else "nodes"
    show({mode: {"nodes": nodes, "together": together, "churn": churn, "cluster": cluster}[mode]()})
