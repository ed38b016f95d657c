"""Plans with prefill and decode apart, whole replicas, and the chosen of both, over drawn fleets.

    python benchmarks/split_plans.py [FLEETS] [--seed N]

Each fleet is drawn: model, accelerators, lengths, rate and targets. The chosen plan must not cost
more than the cheaper of both kinds alone, and must keep its objectives on seeds that no plan saw.
"""

import argparse
from dataclasses import replace

import numpy as np
import yaml

from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.plan.assign.solve import solve
from penstock.plan.plan import FleetPlan, plan_fleet

_UNSEEN = (101, 102, 103)


def drawn(rng: np.random.Generator) -> Fleet:
    """Return a fleet whose plan takes seconds."""
    model, tensor = [("llama-3.1-8b", [1, 2]), ("qwen3-32b", [2, 4]),
                     ("llama-3.3-70b", [4, 8])][rng.integers(3)]
    strict = bool(rng.integers(2))
    prompt, output = int(rng.choice([500, 2000, 6000])), int(rng.choice([50, 150, 400]))
    slo = {"ttft_s": float(rng.choice([1.0, 3.0])), "itl_s": float(rng.choice([0.02, 0.03, 0.05])),
           "itl": "strict" if strict else "paced"}
    return parse_fleet(yaml.safe_dump({
        "name": "drawn", "accelerators": [{"name": "h100-80gb", "count": 64},
                                          {"name": "a100-80gb", "count": 64}],
        "models": [{"name": model}], "service_classes": [{"name": "chat", "slo": slo}],
        "traffic": [{"lengths": {"prompt": {"shares": [0, 1], "tokens": [prompt // 2, 2 * prompt]},
                                 "output": {"shares": [0, 1], "tokens": [output // 2, 2 * output]}},
                     "rate_per_s": float(rng.choice([2.0, 6.0, 15.0])), "num_requests": 250}],
        "engine": {"name": "vllm"}, "plan": {"tensor": tensor},
        "disaggregation": {"transfer": {"gb_per_s": 50}}}))


def attainment(plan: FleetPlan, fleet: Fleet) -> float:
    """Return the least attainment on unseen seeds."""
    found = []
    for seed in _UNSEEN:
        planned = replace(plan.fleet, run=replace(plan.fleet.run, seed=seed))
        found.append(run_fleet(planned, fleet_workload(fleet, seed), seed).summary
                     .overall.attainment or 0.0)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fleets", nargs="?", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    dearer = split = kept = 0
    for number in range(given.fleets):
        fleet = drawn(rng)
        chosen = plan_fleet(fleet, solve)
        whole_cost = chosen.checked.solution.cost_per_hour
        whole_serves = all(chosen.checked.serves(c.demand.name) for c in chosen.choices)
        least = attainment(chosen, fleet) if chosen.served_in_full else float("nan")
        split += bool(chosen.splits)
        dearer += whole_serves and chosen.cost_per_hour > whole_cost * (1.0 + 1e-9)
        kept += least >= 0.99
        print(f"{number:2d} {fleet.models[0].spec.name:14s} "
              f"whole ${whole_cost:8.2f}{'' if whole_serves else ' (not in full)':15s} "
              f"chosen ${chosen.cost_per_hour:8.2f} {'apart' if chosen.splits else 'whole':6s} "
              f"served {chosen.served_in_full} unseen {least:.2%}", flush=True)
    print(f"{given.fleets} fleets: {split} with prefill and decode apart, {dearer} dearer than "
          f"whole replicas, {kept} keep 99 % on unseen seeds")


if __name__ == "__main__":
    main()
