"""Every policy at every rate, and what may be said of them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.metrics.seeds import half_width
from penstock.published.examples import example_fleet
from penstock.published.figures import Figure, Options, Reproduction
from penstock.published.routebalance.cells import (
    BASELINES,
    Cell,
    Policy,
    joint,
    policy,
    prompts,
    run_cell,
)
from penstock.published.routebalance.world import (
    BEST_NAMED,
    MODELS,
    ORACLE_QUALITY,
    PEAK_QUALITY,
    best_named,
    oracle_quality,
)

RATES = (6.0, 12.0, 18.0, 24.0, 30.0)
NUM_SEEDS = 3
NUM_REQUESTS = 3534
ANSWER_VALUE = 1e-3
"""Worth of a perfect answer in time in the comparison in money, in the prices' currency: about 60
times the cost of the mean answer on the smallest model, 9 times its cost on the largest."""

JOINT = joint(ANSWER_VALUE, 1e-5)
JOINTS = (JOINT, joint(1.4e-3, 5e-6, 1.0), joint(3e-2, 1e-5, 1.0), joint(1e-3, 1e-3, 1.0),
          joint(1e-5, 1e-7, 1.0))
"""In time, balanced, and the corners: quality, latency, price."""

ORACLE = joint(ANSWER_VALUE, 1e-5, oracle=True)
PIPELINE, BALANCE, PRICE = "best-route + round robin", "routebalance balance", "routebalance price"
SMALLEST = "always smallest + shortest queue"
_MIX_STEP = 4

Cells = Mapping[tuple[str, float], Sequence[Cell]]


def reproduce_routebalance(data: Path, options: Options) -> Reproduction:
    """All policies on the 13 engines. ``data`` must hold ``tiers.json``, with whose prices and
    times per token the example fleet is checked. Raises InputError where it does not."""
    fleet = example_fleet("routebalance.yaml")
    figures = _tier_figures(data, fleet)
    num = options.num_requests or NUM_REQUESTS
    workload = prompts(fleet, RATES[0], num, options.seed)
    assert workload.answers is not None
    figures += [
        Figure("quality of the best answer per prompt", ORACLE_QUALITY,
               oracle_quality(workload.answers), tolerance=0.04, note="drawn to agree"),
        Figure("prompts of which the predictor names the best model", BEST_NAMED,
               best_named(workload.answers), tolerance=0.15, note="drawn; not above published")]
    cells: dict[tuple[str, float], list[Cell]] = {}
    runs = list(_runs(options.seed))
    found_cells = options.where.results(partial(_run, fleet, num), runs)
    for (rate, chosen, seed), cell in zip(runs, found_cells, strict=True):
        options.on_progress(f"{chosen.name} at {rate:g} requests/s, seed {seed}")
        cells.setdefault((chosen.name, rate), []).append(cell)
    rows = [_row(name, rate, found) for (name, rate), found in cells.items()]
    figures += _claims(cells) + _comparisons(cells)
    return Reproduction("routebalance", tuple(figures), {"policies.csv": rows}, remarks=(
        "Qualities and lengths are drawn (docs/reproduction.md says how): order and ratios count, "
        "not the values.",))


def _run(fleet: Fleet, num: int, run: tuple[float, Policy, int]) -> Cell:
    rate, chosen, seed = run
    return run_cell(fleet, prompts(fleet, rate, num, seed), chosen, seed)


def _runs(seed: int) -> Iterator[tuple[float, Policy, int]]:
    for rate in RATES:
        for offset in range(NUM_SEEDS):
            for chosen in (*BASELINES, *JOINTS, ORACLE, *fixed_mixes()):
                yield rate, chosen, seed + offset


def fixed_mixes() -> list[Policy]:
    """Every mix of the models in quarters, the replica by shortest queue: whichever of them turns
    out best at a rate is what a careful operator might have set."""
    mixes: list[Policy] = []
    for parts in product(range(_MIX_STEP + 1), repeat=len(MODELS)):
        if sum(parts) == _MIX_STEP:
            shares = {model: part / _MIX_STEP for model, part in zip(MODELS, parts, strict=True)
                      if part}
            name = "mix " + "/".join(str(100 * part // _MIX_STEP) for part in parts)
            mixes.append(policy(name, "fixed_mix", shares=shares, dispatcher="shortest_queue"))
    return mixes


def _tier_figures(data: Path, fleet: Fleet) -> list[Figure]:
    import orjson

    path = data / "tiers.json"
    try:
        tiers = orjson.loads(path.read_bytes())["tiers"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as RouteBalance's tiers ({error})") from None
    from penstock.fleet.replica_factory import step_time

    figures: list[Figure] = []
    for group in fleet.replicas:
        tier = next((tiers[name] for name in tiers if name.startswith(group.model.name)
                     and tiers[name].get("instances_headline")), None)
        if tier is None:
            raise InputError(f"{path}: holds no tier of {group.model.name}")
        name = group.model.name
        figures.append(Figure(f"{name}: engines", tier["instances_headline"], group.count, "exact"))
        seconds = step_time(group).seconds(0, 0.0, 1, 200)
        figures.append(Figure(f"{name}: ms per token at low load", tier["tpot_lowload_median_ms"],
                              1e3 * seconds, tolerance=0.01))
    return figures


def _row(name: str, rate: float, cells: Sequence[Cell]) -> dict[str, Any]:
    row: dict[str, Any] = {"policy": name, "rate_per_s": rate, "seeds": len(cells)}
    for key in ("quality", "e2e_s", "e2e_p95_s", "ttft_s", "cost", "attainment", "value_in_time"):
        values = [getattr(cell, key) for cell in cells]
        row[key] = float(np.mean(values))
        row[f"{key}_ci95"] = _half_width(values)
    row["utility"] = float(np.mean([cell.utility(ANSWER_VALUE) for cell in cells]))
    for model in MODELS:
        row[f"share_{model}"] = float(np.mean([cell.shares[model] for cell in cells]))
    return row


def _half_width(values: Sequence[float]) -> float:
    width = half_width(values)
    return float("nan") if width is None else width


def _mean(cells: Cells, name: str, rate: float, key: str) -> float:
    return float(np.mean([getattr(cell, key) for cell in cells[name, rate]]))


def _claims(cells: Cells) -> list[Figure]:
    """Return the publication's claims, as far as order and ratio can be compared."""
    high = RATES[-1]
    slower = _mean(cells, PIPELINE, high, "e2e_s") / _mean(cells, BALANCE, high, "e2e_s")
    price, smallest = _mean(cells, PRICE, high, "cost"), _mean(cells, SMALLEST, high, "cost")
    largest = float(np.mean([cell.shares[MODELS[-1]] for cell in cells[BALANCE, high]]))
    peak = max(_mean(cells, p.name, RATES[0], "quality") for p in BASELINES)
    return [
        Figure("BEST-Route over RouteBalance, mean e2e at 30/s, at least", 2.6, slower, "at_least",
               note="published: 2.6 to 4.1 times"),
        Figure("price corner: cost over always-smallest", 1.0, price / smallest, tolerance=0.01),
        Figure("balanced: share of the largest model", 0.0, largest, "absolute", 0.02),
        Figure("highest quality of any published policy", PEAK_QUALITY, peak, tolerance=0.03)]


def _comparisons(cells: Cells) -> list[Figure]:
    """Ours against the best of the others in money, per rate; never below the best fixed mix."""
    figures: list[Figure] = []
    mixes = [mix.name for mix in fixed_mixes()]
    for rate in RATES:
        ours = _utilities(cells, JOINT.name, rate)
        for what, names in (("every baseline", [p.name for p in BASELINES]),
                            ("every fixed mix", mixes)):
            best = max(names, key=lambda name: float(np.mean(_utilities(cells, name, rate))))
            gap = ours - _utilities(cells, best, rate)
            figures.append(Figure(
                f"{rate:g}/s: joint's utility less the best of {what}, 1e-5 per request", 0.0,
                1e5 * float(gap.mean()), "at_least",
                note=f"{best}; ±{1e5 * _half_width(gap.tolist()):.2g}"))
        oracle = _utilities(cells, ORACLE.name, rate)
        figures.append(Figure(f"{rate:g}/s: regret to the oracle, share of its utility", None,
                              float(1.0 - ours.mean() / oracle.mean()), "shown"))
    return figures


def _utilities(cells: Cells, name: str, rate: float) -> Any:
    return np.array([cell.utility(ANSWER_VALUE) for cell in cells[name, rate]])
