"""Exact optima of Inferno's samples, computed elsewhere on the same candidates."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.plan.assign.decompose import solve_decomposed
from penstock.plan.assign.exact import solve_exact
from penstock.plan.assign.problem import Demand, Option, Pool, Problem, Supply
from support.long_params import with_long
from support.plan_check import check

SAMPLES = {"old": "v1", "new": "v2"}
FACTORS = {"cap50": 0.5, "cap25": 0.25}
CASES = [f"{age}_small_{mode}" for age in SAMPLES for mode in (
    "single", "multi", "multi_unlimited", *(f"{f}_{m}" for f in FACTORS
                                            for m in ("single", "multi")))
         if (age, mode) != ("new", "cap25_multi")]  # like old's, and its proof takes 12 s


@pytest.fixture(scope="module")
def inferno(shared_data: Path) -> Path:
    folder = shared_data / "inferno"
    if not (folder / "golden_milp_reference.json").is_file():
        pytest.skip(f"Inferno's samples are not at {folder}")
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def sample_problem(inferno: Path, case: str) -> Problem:
    """Candidates of a sample as pools of each server's own; load from the candidate's rate."""
    words = case.split("_")
    version = SAMPLES[words[0]]
    folder = inferno / f"sample_{version}" / "small"
    units = {a["name"]: a for a in read(folder / "accelerator-data.json")["accelerators"]}
    profiles = {(m["name"], m["acc"]): m for m in read(folder / "model-data.json")["models"]}
    servers = {s["name"]: s for s in read(folder / "server-data.json")["servers"]}
    factor = next((FACTORS[word] for word in words if word in FACTORS), 1.0)
    cards = {} if "unlimited" in words else {
        entry["type"]: int(entry["count"] * factor)
        for entry in read(folder / "capacity-data.json")["count"]}
    pools, demands = [], []
    for name, candidates in read(inferno / "golden_candidates.json")[f"{version}_small"].items():
        rate = servers[name]["currentAlloc"]["load"]["arrivalRate"]
        options = []
        for unit, candidate in candidates.items():
            count = max(1, profiles[servers[name]["model"], unit].get("accCount", 1))
            pools.append(Pool(f"{name}@{unit}", units[unit]["cost"] * count, {
                units[unit]["type"]: units[unit].get("multiplicity", 1) * count}))
            options.append(Option(f"{name}@{unit}", rate / candidate["maxRPM"]))
        demands.append(Demand(name, tuple(options), rate_per_s=rate / 60, mixed="multi" in words))
    return Problem(tuple(pools), tuple(demands), Supply(cards))


LONG = ("new_small_cap50_multi", "old_small_cap25_multi", "old_small_cap50_multi")


@pytest.mark.parametrize("case", with_long(CASES, LONG))
def test_the_reference_cost_is_met_and_proven(inferno: Path, case: str) -> None:
    reference = read(inferno / "golden_milp_reference.json")[case]["cost"]
    problem = sample_problem(inferno, case)
    solution = solve_exact(problem)
    assert check(problem, solution) == []
    assert solution.worst_gap == 0.0
    if reference is None:
        assert solution.unserved  # not everything can be served, and that is proven
    else:
        assert solution.objective == pytest.approx(reference, rel=1e-6)
        assert solution.unserved == ()


@pytest.mark.parametrize("case", [case for case in CASES if "cap" not in case])
def test_the_bound_by_columns_holds(inferno: Path, case: str) -> None:
    reference = read(inferno / "golden_milp_reference.json")[case]["cost"]
    problem = sample_problem(inferno, case)
    solution = solve_decomposed(problem)
    assert check(problem, solution) == []
    assert solution.unserved == ()
    assert solution.bound <= reference * (1 + 1e-9)
    assert solution.objective == pytest.approx(reference, rel=1e-3)
