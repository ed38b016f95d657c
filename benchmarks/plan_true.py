"""Are plans true? Random fleets are planned and simulated again on seeds that no plan has seen.

    python benchmarks/plan_true.py fleets     # 30 fleets, about 10 minutes on 2 cores
    python benchmarks/plan_true.py cheapest   # 10 small ones against a search by simulation alone
    python benchmarks/plan_true.py confident [N]  # N (500) small ones of stock engines, at 0.95

The first prints, per fleet, what the analytic model expected of p99 TTFT and ITL, what simulation
gave, and whether the checked plan keeps its objectives on five unseen seeds. The second prices the
plan against the cheapest fleet that trying fleets in order of price, by simulation, finds. The
third plans with `confidence: 0.95` and counts the fleets that keep every objective on every unseen
seed.
"""

import sys
from itertools import product
from typing import Any

import numpy as np
from common import in_parallel, show

UNSEEN_SEEDS = range(1000, 1005)
NUM_FLEETS, NUM_SMALL, NUM_CONFIDENT = 30, 10, 500

MODELS = ("llama-3.1-8b", "qwen2.5-7b", "mistral-7b", "qwen2.5-32b", "llama-3.1-70b",
          "mixtral-8x7b")
ACCELERATORS = ("a100-80gb", "h100-80gb", "h200", "l40s", "mi300x", "a40", "l4", "gaudi2")
LENGTHS = ("azure-2023-code", "azure-2023-conv", "sharegpt-8k")
ARRIVALS: tuple[dict[str, Any], ...] = (
    {"name": "poisson"}, {"name": "gamma", "gap_cv": 2.0},
    {"name": "bursty", "on_s": 20.0, "off_s": 40.0, "off_share": 0.5})


def random_fleet(number: int) -> dict[str, Any]:
    """A fleet file's document, all of it drawn from the number."""
    rng = np.random.default_rng(number)
    classes = [
        {"name": "interactive", "priority": 1, "slo": {
            "ttft_s": float(rng.choice([1.0, 2.0, 6.0])), "itl_s": float(rng.choice([0.05, 0.1])),
            "itl": str(rng.choice(["paced", "strict"])), "percentile": 99}},
        {"name": "standard", "priority": 2, "slo": {
            "ttft_s": float(rng.choice([5.0, 10.0, 20.0])), "percentile": 95}},
        {"name": "batch", "priority": 3, "slo": {
            "e2e_s": float(rng.choice([60.0, 120.0])), "percentile": 99}}]
    chosen = classes[:int(rng.integers(1, 4))]
    shares = rng.dirichlet(np.ones(len(chosen)) * 3.0).round(3)
    shares[0] = 1.0 - shares[1:].sum()
    accelerators = rng.choice(ACCELERATORS, size=int(rng.integers(1, 5)), replace=False)
    model = str(rng.choice(MODELS))
    rate_per_s = float(rng.uniform(1.0, 4.0) if "32b" in model or "70b" in model
                       else rng.uniform(4.0, 30.0))
    arrivals = ARRIVALS[int(rng.integers(len(ARRIVALS)))]
    schedule: Any = str(rng.choice(["penstock", "sarathi", "edf"]))
    return {
        "name": f"random-{number}",
        "accelerators": [{"name": str(name)} for name in accelerators],
        "models": [{"name": model, "precisions": ["bf16", "fp8"], "max_context_tokens": 32768}],
        "service_classes": chosen,
        "traffic": [{"mix": {c["name"]: float(s) for c, s in zip(chosen, shares, strict=True)},
                     "trace": str(rng.choice(LENGTHS)), "arrivals": arrivals,
                     "rate_per_s": round(rate_per_s, 3), "num_requests": 4000}],
        "policies": {"schedule": schedule}, "plan": {"num_seeds": 3},
        "run": {"seed": number, "beliefs": "exact"}}


def stock_fleet(number: int) -> dict[str, Any]:
    """A smaller fleet of a stock engine, to be planned with confidence."""
    rng = np.random.default_rng((number, 1))
    document = random_fleet(number)
    document["traffic"][0] |= {"num_requests": 300}
    document["accelerators"] = document["accelerators"][:2]
    del document["policies"], document["run"]["beliefs"]
    return document | {
        "engine": {"name": str(rng.choice(["vllm", "sglang", "tensorrt-llm"]))},
        "plan": {"num_seeds": 3, "confidence": 0.95, "tensor": [1, 2, 4]}}


def planned(document: dict[str, Any]) -> Any:
    """The document's checked plan."""
    import json

    from penstock.fleet.load import parse_fleet
    from penstock.plan.assign.solve import solve
    from penstock.plan.plan import plan_fleet

    return plan_fleet(parse_fleet(json.dumps(document)), solve)


def holds_unseen(plan: Any) -> tuple[bool, float]:
    """Whether every class keeps its objective over all unseen seeds together, and the worst
    distance of a class's attainment to it."""
    return over_all(plan, unseen(plan))


def unseen(plan: Any) -> list[Any]:
    """The attainment of each class on every unseen seed."""
    from penstock.experiment.run import run_fleet
    from penstock.fleet.judge import attainment_by_class
    from penstock.fleet.sources import fleet_workload

    return [attainment_by_class(plan.fleet, run_fleet(
        plan.fleet, fleet_workload(plan.fleet, seed), seed).result.table) for seed in UNSEEN_SEEDS]


def over_all(plan: Any, seeds: list[Any]) -> tuple[bool, float]:
    """Whether every class keeps its objective over all these seeds together, and the worst
    distance of a class's attainment to it."""
    margins = [100.0 * sum(one[name].met for one in seeds) / sum(one[name].received
                                                                 for one in seeds)
               - plan.fleet.service_class(name).slo.percentile for name in seeds[0]]
    return all(margin >= 0.0 for margin in margins), min(margins)


def fleet_truth(number: int) -> dict[str, Any]:
    """One fleet: what was expected, what came, and whether it lasts."""
    from penstock.plan.document import plan_document

    plan = planned(random_fleet(number))
    document = plan_document(plan)
    row: dict[str, Any] = {"fleet": number, "schedule": plan.fleet.policies.schedule.policy,
                           "served": plan.served_in_full, "trials": len(document["trials"]),
                           "replicas": document["demands"][0]["replicas"],
                           "cost_per_hour": document["cost_per_hour"]}
    row["classes"] = {c["name"]: {"predicted": c.get("predicted"), "simulated": c.get("simulated")}
                      for c in document["demands"][0]["classes"]}
    if plan.fleet.replicas:
        row["holds_unseen"], row["worst_margin_points"] = holds_unseen(plan)
    return row


def confident(number: int) -> dict[str, Any]:
    """One fleet planned with confidence: on how many unseen seeds each class keeps its objective,
    with the step times that the engine is expected to have."""
    from penstock.fleet.judge import meets_all

    plan = planned(stock_fleet(number))
    row: dict[str, Any] = {"fleet": number, "served": plan.served_in_full,
                           "engine": plan.fleet.engine.name}
    if plan.served_in_full:
        seeds = unseen(plan)
        row["seeds_kept"] = sum(meets_all(plan.fleet, one) for one in seeds)
        row["kept_together"], row["worst_margin_points"] = over_all(plan, seeds)
    return row


def all_confident(count: int) -> dict[str, Any]:
    """The share of fleets that keep every objective on every unseen seed."""
    rows = in_parallel(confident, range(5000, 5000 + count))
    served = [row for row in rows if row["served"]]
    kept = [row for row in served if row["seeds_kept"] == len(UNSEEN_SEEDS)]
    return {"fleets": count, "served_in_full": len(served), "kept_every_objective": len(kept),
            "share": len(kept) / len(served),
            "kept_over_all_seeds": sum(row["kept_together"] for row in served),
            "seeds": len(UNSEEN_SEEDS) * len(served),
            "seeds_kept": sum(row["seeds_kept"] for row in served),
            "missed": [row for row in served if row not in kept]}


def cheapest(number: int) -> dict[str, Any]:
    """The plan's price over that of the cheapest fleet found by trying fleets in order of price."""
    document = random_fleet(number)
    document["accelerators"] = [{"name": a["name"], "count": 4}
                                for a in document["accelerators"][:2]]
    document["models"][0] |= {"name": "llama-3.1-8b", "precisions": ["bf16"]}
    document["traffic"][0] |= {"rate_per_s": 8.0, "num_requests": 2000}
    document["plan"] = {"num_seeds": 3, "tensor": [1, 2]}
    plan = planned(document)
    found, tried = by_simulation_alone(plan)
    cost = plan.checked.solution.cost_per_hour
    return {"fleet": number, "plan_per_hour": cost, "cheapest_per_hour": found,
            "over": None if not found else cost / found - 1.0, "fleets_tried": tried,
            "served": plan.served_in_full, "plan_trials": len(plan.checked.trials)}


def by_simulation_alone(plan: Any) -> tuple[float | None, int]:
    """The price of the first fleet, of all in order of price, that keeps every objective on the
    plan's own seeds. No estimate takes part."""
    from dataclasses import replace

    from penstock.fleet.sources import fleet_workload
    from penstock.plan.demands import demands_of
    from penstock.plan.judge import judge
    from penstock.plan.variants import variants_of

    fleet = plan.before
    seed = fleet.run.seed
    demand = demands_of(fleet, tuple(fleet_workload(fleet, seed + i) for i in range(3)))[0]
    variants, _ = variants_of(fleet, demand.model, demand.longest_tokens)
    fleets = []
    for counts in product(*(range(5) for _ in variants)):
        used: dict[str, int] = {}
        for variant, count in zip(variants, counts, strict=True):
            name = variant.group.accelerator.name
            used[name] = used.get(name, 0) + count * variant.group.num_accelerators
        if any(counts) and all(used[p.accelerator.name] <= (p.count or 0)
                               for p in fleet.accelerators if p.accelerator.name in used):
            cost = sum(c * v.cost_per_hour for c, v in zip(counts, variants, strict=True))
            fleets.append((cost, counts))
    for tried, (cost, counts) in enumerate(sorted(fleets), 1):
        groups = tuple(replace(v.group, count=c)
                       for v, c in zip(variants, counts, strict=True) if c)
        if judge(fleet, demand, groups, seed=seed).meets:
            return cost, tried
    return None, len(fleets)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "fleets"
    if what == "confident":
        show({what: all_confident(int(sys.argv[2]) if len(sys.argv) > 2 else NUM_CONFIDENT)})
        raise SystemExit
    least = NUM_SMALL if what == "cheapest" else NUM_FLEETS
    number = 100 if what == "cheapest" else 0
    rows: list[dict[str, Any]] = []
    while (missing := least - sum(row["served"] for row in rows)) > 0:  # nothing can serve some
        rows += in_parallel(cheapest if what == "cheapest" else fleet_truth,
                            range(number, number + missing))
        number += missing
    show({what: rows})
