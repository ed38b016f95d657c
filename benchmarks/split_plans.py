"""Plans with prefill and decode apart, whole replicas, and both together, over drawn fleets.

    python benchmarks/split_plans.py [FLEETS] [--seed N] [--two-lengths]

Each fleet is drawn: model, accelerators, lengths, rate and targets. With ``--two-lengths``, seven
of ten prompts are short and the others long. The chosen plan must not cost more than the cheapest
of one kind alone, whole replicas or such with roles, and must keep its objectives on seeds that no
plan saw: for as long as the plan's traffic, and ten times as long. With 250 requests, three misses
break 99 %.
"""

import argparse
from collections import Counter
from dataclasses import replace
from math import inf, isfinite, nan

import numpy as np
import yaml

from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.plan.assign.solve import solve
from penstock.plan.plan import FleetPlan, plan_fleet

_UNSEEN, _LONGER = (101, 102, 103), 10


def drawn(rng: np.random.Generator, *, two_lengths: bool) -> Fleet:
    """Return a fleet whose plan takes seconds."""
    model, tensor = [("llama-3.1-8b", [1, 2]), ("qwen3-32b", [2, 4]),
                     ("llama-3.3-70b", [4, 8])][rng.integers(3)]
    strict = bool(rng.integers(2))
    prompt, output = int(rng.choice([500, 2000, 6000])), int(rng.choice([50, 150, 400]))
    slo = {"ttft_s": float(rng.choice([1.0, 3.0])), "itl_s": float(rng.choice([0.02, 0.03, 0.05])),
           "itl": "strict" if strict else "paced"}
    prompts = {"shares": [0, 1], "tokens": [prompt // 2, 2 * prompt]}
    if two_lengths:
        prompts = {"shares": [0, 0.7, 0.701, 1], "tokens": [50, 400, 2 * prompt, 4 * prompt]}
    return parse_fleet(yaml.safe_dump({
        "name": "drawn", "accelerators": [{"name": "h100-80gb", "count": 64},
                                          {"name": "a100-80gb", "count": 64}],
        "models": [{"name": model}], "service_classes": [{"name": "chat", "slo": slo}],
        "traffic": [{"lengths": {"prompt": prompts,
                                 "output": {"shares": [0, 1], "tokens": [output // 2, 2 * output]}},
                     "rate_per_s": float(rng.choice([2.0, 6.0, 15.0])), "num_requests": 250}],
        "engine": {"name": "vllm"}, "plan": {"tensor": tensor},
        "disaggregation": {"transfer": {"gb_per_s": 50}}}))


def attainment(plan: FleetPlan, fleet: Fleet, times: int) -> float:
    """Return the least attainment on unseen seeds, over ``times`` the plan's requests."""
    longer = replace(fleet, traffic=tuple(
        replace(one, num_requests=times * one.num_requests) for one in fleet.traffic
        if one.num_requests))
    found = []
    for seed in _UNSEEN:
        planned = replace(plan.fleet, run=replace(plan.fleet.run, seed=seed))
        found.append(run_fleet(planned, fleet_workload(longer, seed), seed).summary
                     .overall.attainment or 0.0)
    return min(found)


def kind(plan: FleetPlan) -> str:
    """Return whether a plan has whole replicas, replicas with roles, or both."""
    roles = {group.role for group in plan.fleet.replicas}
    return "both" if len(roles) == 3 else "apart" if len(roles) == 2 else "whole"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fleets", nargs="?", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--two-lengths", action="store_true")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    kinds: Counter[str] = Counter()
    dearer = served = kept = kept_on = 0
    totals = {"whole": 0.0, "alone": 0.0, "chosen": 0.0}
    for number in range(given.fleets):
        fleet = drawn(rng, two_lengths=given.two_lengths)
        chosen = plan_fleet(fleet, solve)
        one_kind = plan_fleet(replace(fleet, plan=replace(fleet.plan, mixed=False)), solve)
        whole = chosen.whole or chosen.checked
        costs = [found.solution.cost_per_hour for found, serves in (
            (whole, whole.holds and not whole.solution.unserved),
            (one_kind.checked, one_kind.served_in_full)) if serves]
        alone = min(costs, default=inf)
        least, lasting = (attainment(chosen, fleet, times) if chosen.served_in_full else nan
                          for times in (1, _LONGER))
        kinds[kind(chosen)] += chosen.served_in_full
        served += chosen.served_in_full
        dearer += chosen.cost_per_hour > alone * (1.0 + 1e-9)
        kept += least >= 0.99
        kept_on += lasting >= 0.99
        if kind(chosen) != "whole" and isfinite(alone) and len(costs) == 2:
            totals["whole"] += costs[0]
            totals["alone"] += alone
            totals["chosen"] += chosen.cost_per_hour
        print(f"{number:2d} {fleet.models[0].spec.name:14s} "
              f"whole ${costs[0] if costs else inf:8.2f} one kind ${alone:8.2f} chosen "
              f"${chosen.cost_per_hour:8.2f} {kind(chosen):6s} "
              f"served {chosen.served_in_full} unseen {least:.2%}, "
              f"{_LONGER} times as long {lasting:.2%}", flush=True)
    print(f"{given.fleets} fleets, {served} served in full: {dict(kinds)}; {dearer} dearer than "
          f"one kind alone; on unseen seeds {kept} keep 99 %, {kept_on} for {_LONGER} times as "
          "long; cost per hour of those with roles that whole replicas could serve, too: "
          f"{totals}")


if __name__ == "__main__":
    main()
