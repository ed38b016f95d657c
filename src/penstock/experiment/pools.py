"""One run of a fleet whose models take turns on devices: simulate, then say what happened."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from penstock import __version__
from penstock.engine.sim.residency.pools import PoolRun, PoolsResult, simulate_pools
from penstock.experiment.disclosed import without_confidential
from penstock.experiment.swapping import device_time, figures
from penstock.fleet.judge import cost_per_hour, counted
from penstock.fleet.values import Fleet
from penstock.fleet.write import resolved
from penstock.metrics.attainment import Attainment, per_second
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import FINISHED, SHED, UNFINISHED, RequestTable
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class PoolsRun:
    """A fleet, what became of its requests, and the same as a summary. ``summary`` and ``table``
    are what may be shown of it."""

    fleet: Fleet
    seed: int
    result: PoolsResult
    summary: dict[str, Any]
    table: RequestTable


def run_pools(fleet: Fleet, workload: Workload, seed: int,
              on_progress: Callable[[int], None] | None = None) -> PoolsRun:
    """Simulate the fleet's pools; ``on_progress`` is told how many requests have arrived. Raises
    InputError for a request that none of them serves."""
    result = simulate_pools(fleet, workload, seed, on_progress)
    busy_s = [[times["computing_share"] * result.end_s for times in _times(one, result.end_s)]
              for one in result.pools]
    every = list(chain.from_iterable(busy_s))
    usage = Usage(np.array(every), cost_per_hour(fleet), range(len(every)))
    table = counted(fleet, result.table)
    outcome = summarise(table, fleet.service_classes, usage)
    figures = {**outcome, "refusals": [{"reason": reason, "num_requests": count}
                                       for reason, count in sorted(result.reasons.items())],
               "end_s": result.end_s,
               "residency": [_pool(one, table, outcome["window_s"], result.end_s)
                             for one in result.pools]}
    shown = result.table
    if any(one.is_secret for one in result.pools):
        figures, shown = _reduced(fleet, result, figures, busy_s)
    summary = {"name": fleet.name, "version": __version__, "engine": "sim", "seed": seed,
               **figures, "fleet": resolved(fleet)}
    return PoolsRun(fleet, seed, result, summary, shown)


def _reduced(fleet: Fleet, result: PoolsResult, figures: Mapping[str, Any],
             busy_s: Sequence[Sequence[float]]) -> tuple[dict[str, Any], RequestTable]:
    """What may be shown where pools had confidential requests: of those, nothing of their models
    and devices. Which is loaded, and how often, tells what the requests are about."""
    numbers, first = [], 0
    for one, busy in zip(result.pools, busy_s, strict=True):
        if not one.is_secret:
            numbers += list(range(first, first + len(busy)))
        first += len(busy)
    every = np.array(list(chain.from_iterable(busy_s)))
    found, table = without_confidential(fleet, result.table, figures,
                                        Usage(every[numbers], 0.0, numbers))
    kept = ("name", "accelerator", "num_devices", "num_models", "policy", "settings", "batching")
    pools = [whole if not one.is_secret else {
        key: value if key in kept else ([] if isinstance(value, list) else None)
        for key, value in whole.items()}
        for one, whole in zip(result.pools, figures["residency"], strict=True)]
    return found | {"residency": pools}, table


def _times(one: PoolRun, end_s: float) -> list[dict[str, float]]:
    """Shares of each device's time. Where batching is continuous only the sum of its steps is
    known, so that it is idle at least for what is left beside them and loading."""
    found = [device_time(one.run, end_s, (index,)) for index in range(one.pool.count)]
    for times, computing_s in zip(found, one.computing_s, strict=False):
        times["computing_share"] = computing_s / end_s
        times["idle_share"] = max(0.0, 1.0 - times["loading_share"] - times["computing_share"])
    return found


def _pool(one: PoolRun, table: RequestTable, window_s: float, end_s: float) -> dict[str, Any]:
    pool, run = one.pool, one.run
    whole = figures(run, end_s, range(pool.count))
    kept = ("loads", "failed_loads", "load_mean_s", "batches", "mean_batch")
    times = _times(one, end_s)
    return {
        "name": pool.name, "accelerator": pool.accelerator.name, "num_devices": pool.count,
        "policy": pool.policy, "settings": dict(pool.settings),
        "num_models": len(pool.models),
        "batching": "continuous" if pool.continuous else "static",
        **{name: whole[name] for name in kept},
        **{name: sum(device[name] for device in times) / len(times) for name in times[0]},
        "devices": times,
        "models": [{"model": model.spec.name, **_model(table, model.spec.name, window_s),
                    **_turns(one, place)} for place, model in enumerate(pool.models)]}


def _model(table: RequestTable, name: str, window_s: float) -> dict[str, Any]:
    mine = table.take(table.model_index == table.models.index(name)) if name in table.models \
        else table.take(slice(0, 0))
    met = Attainment(int(mine.met_slo.sum()), len(mine))
    low, high = met.interval or (None, None)
    latency_s = mine.e2e_s[mine.finished]
    return {
        "received": len(mine), "met": met.met, "attainment": met.share, "attainment_low": low,
        "attainment_high": high, **{name: int((mine.status == code).sum()) for name, code in (
            ("finished", FINISHED), ("shed", SHED), ("unfinished", UNFINISHED))},
        "goodput_requests_per_s": per_second(met.met, window_s),
        "e2e_mean_s": float(latency_s.mean()) if len(latency_s) else None}


def _turns(one: PoolRun, model: int) -> dict[str, Any]:
    loads: Sequence[float] = [load.seconds for load in one.run.loads if load.model == model]
    batches = [batch.num_requests for batch in one.run.batches if batch.model == model]
    return {"loads": len(loads), "load_mean_s": _mean(loads), "mean_batch": _mean(batches)}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
