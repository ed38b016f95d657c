"""Random scaled fleets with flash crowds and faults: does anything get lost, or shrink in the dark?

    python benchmarks/scaling_faults.py 1000 --seed 1

Each case draws rates, lengths, start times and faults. Judged are: requests without an outcome or
a reason, targets below the floor, targets that fall without metrics, and, after a crowd of five
times the rate within 30 s on a fleet without other faults, whether the requests that arrive from
start time + 30 s after the crowd's end of growth on are in time. That last check leaves out cases
whose most replicas cannot serve the crowd.
"""

import argparse
import sys
from collections import Counter
from random import Random
from typing import Any

import numpy as np

from penstock.experiment.run import Run, run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload

FLEET = """\
name: crowd
accelerators: [{{name: a100-80gb, count: {most}, price_per_hour: 4}}]
models: [{{name: llama-3.1-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.05, percentile: 95}}}}]
traffic:
  - {{lengths: {lengths}, rate_per_s: {rate}, duration_s: {crowd_s}}}
{growth}
  - {{lengths: {lengths}, start_s: {full_s}, rate_per_s: {high}, duration_s: {stay_s}}}
replicas:
  - {{count: {count}, min_replicas: {floor}, max_replicas: {most}, {spot}}}
scaling:
  start_s: {start_s}
  start_spread: {spread}
  faults: {faults}
policies: {{schedule: sarathi, scale: penstock}}
"""
LENGTHS = ("azure-2023-conv", "{prompt: {fixed: 500}, output: {fixed: 100}}",
           "{prompt: {shares: [0, 1], tokens: [50, 2000]}, "
           "output: {shares: [0, 1], tokens: [10, 300]}}")
"""Lengths whose answers are short against the time for which a crowd stays."""

STEP = "  - {{lengths: {lengths}, start_s: {start_s}, duration_s: 5, rate_per_s: {rate:g}}}"
KINDS = ("crowd", "failures", "spot", "starts", "dark", "killed", "all")
FEWEST_REQUESTS = 50


def case(rng: Random) -> dict[str, Any]:
    """Draw one case."""
    kind = rng.choice(KINDS)
    start_s, rate = rng.choice([10, 30, 60, 120]), rng.choice([0.5, 1.0, 2.0, 4.0])
    crowd_s = rng.choice([200, 400, 600])
    many = kind == "all"
    faults = {
        "failed_start_share": rng.choice([0.2, 0.5]) if many or kind == "starts" else 0.0,
        "failures_per_hour": rng.choice([2.0, 10.0]) if many or kind == "failures" else 0.0,
        "blackouts": [{"from_s": crowd_s + rng.randint(-120, 60), "for_s": rng.choice([30, 120])}]
        if many or kind == "dark" else [],
        "controller_restarts_s": [crowd_s + rng.randint(-100, 60)]
        if many or kind == "killed" else []}
    spot = (f"spot: {{reclaims_per_hour: {rng.choice([3, 15])}, notice_s: {rng.choice([0, 30])}}}"
            if many or kind == "spot" else "")
    floor, lengths = rng.choice([0, 1, 1, 2]), rng.choice(LENGTHS)
    growth = [STEP.format(lengths=lengths, start_s=crowd_s + 5 * step,
                          rate=rate * (1 + 4 * (step + 1) / 6)) for step in range(6)]
    return {"kind": kind, "start_s": start_s, "spread": rng.choice([0.0, 0.3]), "rate": rate,
            "growth": "\n".join(growth), "high": 5 * rate, "crowd_s": crowd_s,
            "full_s": crowd_s + 30, "stay_s": start_s + 30 + 120, "lengths": lengths, "most": 16,
            "count": max(1, floor), "floor": floor, "spot": spot, "faults": faults}


def problems(one: dict[str, Any], run: Run) -> list[str]:
    """Return what went wrong in a case."""
    table, found = run.table, []
    if int(table.finished.sum()) + sum(run.result.reasons.values()) != len(table):
        found.append("lost without a reason")
    scaling = run.summary.scaling
    assert scaling is not None, "the fleet scales"
    if any(one["floor"] > change.target for change in scaling.changes):
        found.append("below the floor")
    found += ["shrank without metrics" for dark in one["faults"]["blackouts"] if any(
        dark["from_s"] <= choice.at_s < dark["from_s"] + dark["for_s"]
        and sum(choice.targets) < sum(choice.before) for choice in scaling.decisions)]
    if after_crowd(one, run) is False:
        found.append("not in time after the crowd")
    return found


def after_crowd(one: dict[str, Any], run: Run) -> bool | None:
    """Whether the requests are in time that arrive once the crowd's replicas have started; None
    where other faults may be the cause. Slow starts of the draw, and times without metrics, come
    on top of the start time."""
    if one["kind"] not in ("crowd", "dark", "killed"):
        return None
    slow_s = one["start_s"] * (1 + 3 * one["spread"]) + sum(
        dark["for_s"] for dark in one["faults"]["blackouts"])
    table = run.table
    rows = table.arrival_s >= one["full_s"] + slow_s + 30
    scaling = run.summary.scaling
    assert scaling is not None, "the fleet scales"
    if int(rows.sum()) < FEWEST_REQUESTS or scaling.peak_replicas >= one["most"]:
        return None
    return float(table.met_slo[rows].mean()) >= 0.95


def main() -> int:
    """Run the cases, print every problem and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, totals, cases = Random(arguments.seed), Counter[str](), Counter[str]()
    requests, num_judged, attainment = 0, 0, []
    for number in range(arguments.number):
        one = case(rng)
        fleet = parse_fleet(FLEET.format(**one))
        run = run_fleet(fleet, fleet_workload(fleet, number), number)
        cases[one["kind"]] += 1
        requests += len(run.table)
        num_judged += after_crowd(one, run) is not None
        attainment.append(float(run.table.met_slo.mean()))
        for problem in problems(one, run):
            totals[problem] += 1
            print(f"case {number} ({one['kind']}): {problem}: {one}", file=sys.stderr)
    print(f"{arguments.number} cases {dict(cases)}, {requests:,} requests, {num_judged} judged "
          f"after the crowd, mean attainment {np.mean(attainment):.2%}; "
          f"problems: {dict(totals) or 'none'}")
    return 1 if totals else 0


if __name__ == "__main__":
    sys.exit(main())
