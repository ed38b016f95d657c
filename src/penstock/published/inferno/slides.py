"""Figures of the project's slides (2024), built in: no file of theirs exists any more.

The three tables of a single replica are recomputed. Examples 1 and 3 are planned on the large
sample, which is not their input, so they stand beside ours and are not judged; Examples 2 and 4
start from random loads that were not published.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from penstock.published.figures import Figure
from penstock.published.inferno.queueing.chain import FiniteChain
from penstock.published.inferno.samples import Samples
from penstock.published.inferno.solve import InfernoPlan, Settings, solve

TOKENS = 1024
STATES = 200
# Per row: requests per minute as printed, batch, what the rate was chosen for (a mean of the row
# and its target); then each mean as printed and half a unit of its last digit.
TABLES: tuple[tuple[str, int, tuple[str, float] | None, dict[str, tuple[float, float]]], ...] = (
    ("30", 32, None,
     {"p0": (5.7982e-7, 5e-12), "P(n<=N)": (0.93803, 5e-6), "L": (21.24, 5e-3), "S": (20.90, 5e-3),
      "R, ms": (42481.0, 0.5), "T, ms": (41808.0, 0.5), "W, ms": (674.0, 0.5),
      "token, ms": (40.8, 0.05)}),
    ("35.20031", 48, ("token, ms", 50.0),
     {"rate": (35.20031, 5e-6), "p0": (1.0542e-8, 5e-13), "P(n<=N)": (0.96847, 5e-6),
      "L": (30.23, 5e-3), "S": (30.04, 5e-3), "R, ms": (51533.0, 0.5), "T, ms": (51200.0, 0.5),
      "W, ms": (333.0, 0.5), "token, ms": (50.0, 0.05)}),
    ("36.613", 48, ("W, ms", 1000.0),
     {"rate": (36.613, 5e-4), "p0": (3.001e-9, 5e-13), "P(n<=N)": (0.92202, 5e-6),
      "L": (33.78, 5e-3), "S": (33.16, 5e-3), "R, ms": (55349.0, 0.5), "T, ms": (54349.0, 0.5),
      "W, ms": (1000.0, 0.5), "token, ms": (53.1, 0.05)}))
# Example 1: on G2 of its 27 servers, all others on MI300X.
ON_G2 = frozenset({"Premium-llama_7b", "Bronze-llama_7b", "Free-llama_7b", "Premium-mistral_7b",
                   "Premium-llama_13b"})
# Example 3's devices.
DEVICES = {"L4": 128, "L40S": 64, "MI210": 128, "A100": 128, "H100": 64, "G2": 128, "AIU2": 256,
         "MI250": 128, "MI300X": 128}


def slide_figures() -> Iterator[Figure]:
    """The three tables: mu(n) = n / (1024 (19 + n)) per ms, 200 requests at most."""
    for printed, batch, chosen_for, published in TABLES:
        rate = highest_rate(batch, *chosen_for) if chosen_for else float(printed)
        ours = single_replica(rate, batch) | {"rate": rate}
        for name, (value, half_unit) in published.items():
            yield Figure(f"slide, {printed} requests/min, N {batch}: {name}", value, ours[name],
                         "absolute", half_unit, "as printed")


def highest_rate(batch: int, mean: str, target: float) -> float:
    """Requests per minute at which a rising mean reaches its target."""
    low, high = 1.0, 60.0
    while high - low > 1e-9:
        middle = (low + high) / 2.0
        if single_replica(middle, batch)[mean] > target:
            high = middle
        else:
            low = middle
    return low


def single_replica(per_min: float, batch: int) -> dict[str, float]:
    """Means of the slides' replica at a rate; the names are those of the slides."""
    number = np.arange(1.0, batch + 1.0)[None, :]
    chain = FiniteChain(number / (TOKENS * (19.0 + number)), np.array([float(batch)]),
                        np.array([float(STATES - batch)]))
    found = chain.occupancy(np.array([per_min / 60_000.0]))
    # Little's law: times are means in the system and in service over the throughput.
    response, service = (float((mean / found.throughput)[0])
                         for mean in (found.in_system, found.in_service))
    states = found.probabilities[0]
    return {"p0": float(states[0]), "P(n<=N)": float(states[:batch + 1].sum()),
            "L": float(found.in_system[0]), "S": float(found.in_service[0]), "R, ms": response,
            "T, ms": service, "W, ms": response - service, "token, ms": service / TOKENS}


def example_figures(samples: Samples) -> Iterator[Figure]:
    """Examples 1 and 3 in shape, where the large sample of schema v1 is in the folder."""
    found = samples.system("v1_large")
    if found is None:
        return
    candidates = samples.candidates(*found)
    note = "in shape: another input, not judged"
    plan = solve(found[1], Settings("unlimited"), candidates=candidates)
    for name, published, ours in (
            ("Example 1: servers on the slide's type, of 27", 27, _as_in_example_1(plan)),
            ("Example 1: MI300X devices", 270, plan.used_devices.get("MI300X", 0)),
            ("Example 1: G2 devices", 21, plan.used_devices.get("G2", 0)),
            ("Example 1: cents/h", 25_053, plan.total_cost)):
        yield Figure(name, published, ours, "shown", note=note)
    limited = solve(replace(found[1], capacity=DEVICES), Settings("greedy", "RoundRobin"),
                    candidates=candidates)
    types = {found[1].accelerators[part.accelerator].type
             for parts in limited.parts.values() for part in parts}
    yield Figure("Example 3: accelerator types in use", 6, len(types), "shown", note=note)
    yield Figure("Example 3: cents/h", 43_203, limited.total_cost, "shown", note=note)


def _as_in_example_1(plan: InfernoPlan) -> int:
    types = {name: plan.system.accelerators[parts[0].accelerator].type
             for name, parts in plan.parts.items()}
    return sum(found == ("G2" if name in ON_G2 else "MI300X") for name, found in types.items())
