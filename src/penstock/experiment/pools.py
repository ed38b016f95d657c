"""One run of a fleet whose models take turns on devices: simulate, then say what happened."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from penstock import __version__
from penstock.experiment.disclosed import without_confidential
from penstock.experiment.swapping import device_times, together
from penstock.fleet.judge import cost_per_hour, counted
from penstock.fleet.values import Fleet
from penstock.fleet.write import resolved
from penstock.metrics.attainment import Attainment, per_second
from penstock.metrics.definitions import BoolColumn, FloatColumn
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import FINISHED, REJECTED, SHED, UNFINISHED, RequestTable
from penstock.sim.multiplex.pools import PoolRun, PoolsResult, simulate_pools
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
    times = [_times(one, result.end_s) for one in result.pools]
    busy_s = [[device["computing_share"] * result.end_s for device in pool] for pool in times]
    every = list(chain.from_iterable(busy_s))
    usage = Usage(np.array(every), cost_per_hour(fleet), range(len(every)))
    outcome = summarise(counted(fleet, result.table), fleet.service_classes, usage)
    figures = {**outcome, "refusals": [{"reason": reason, "num_requests": count}
                                       for reason, count in sorted(result.reasons.items())],
               "end_s": result.end_s,
               "residency": [_pool(one, devices, counted(fleet, result.table.take(one.rows)),
                                   outcome["window_s"])
                             for one, devices in zip(result.pools, times, strict=True)]}
    shown = result.table
    if any(one.is_secret for one in result.pools):
        figures, shown = _reduced(fleet, result, figures, busy_s)
    summary = {"name": fleet.name, "version": __version__, "engine": "sim", "seed": seed,
               **figures, "fleet": resolved(fleet)}
    return PoolsRun(fleet, seed, result, summary, shown)


def _reduced(fleet: Fleet, result: PoolsResult, figures: Mapping[str, Any],
             busy_s: Sequence[Sequence[float]]) -> tuple[dict[str, Any], RequestTable]:
    """Return the disclosed results where pools had confidential requests, without figures by model
    or device. The loaded models and the number of loads would reveal the subject of requests."""
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
    found = device_times(one.run, end_s, range(one.pool.count))
    for times, computing_s in zip(found, one.computing_s, strict=False):
        times["computing_share"] = computing_s / end_s
        times["idle_share"] = max(0.0, 1.0 - times["loading_share"] - times["computing_share"])
    return found


def _pool(one: PoolRun, times: Sequence[Mapping[str, float]], table: RequestTable,
          window_s: float) -> dict[str, Any]:
    """A pool; ``times`` are its devices', ``table`` has its requests."""
    pool, run = one.pool, one.run
    loads: list[list[float]] = [[] for _ in pool.models]
    batches: list[list[int]] = [[] for _ in pool.models]
    for load in run.loads:
        loads[load.model].append(load.seconds)
    for batch in run.batches:
        batches[batch.model].append(batch.num_requests)
    return {
        "name": pool.name, "accelerator": pool.accelerator.name, "num_devices": pool.count,
        "policy": pool.policy, "settings": dict(pool.settings),
        "num_models": len(pool.models),
        "batching": "continuous" if pool.continuous else "static",
        "loads": len(run.loads), "failed_loads": sum(load.failed for load in run.loads),
        "load_mean_s": _mean([load.seconds for load in run.loads]), "batches": len(run.batches),
        "mean_batch": _mean([batch.num_requests for batch in run.batches]),
        **together(times),
        "devices": list(times),
        "models": [{"model": model.spec.name, **outcome, "loads": len(loads[place]),
                    "load_mean_s": _mean(loads[place]), "mean_batch": _mean(batches[place])}
                   for place, (model, outcome) in enumerate(zip(
                       pool.models, _outcomes(one, table, window_s), strict=True))]}


def _outcomes(one: PoolRun, table: RequestTable, window_s: float) -> Iterator[dict[str, Any]]:
    """Return the outcomes of each model's requests, by counts over all models at once."""
    names = [model.spec.name for model in one.pool.models]

    def of(rows: BoolColumn, weights: FloatColumn | None = None) -> list[float]:
        found = np.bincount(table.model_index[rows], None if weights is None else weights[rows],
                            len(table.models)).tolist()
        return [found[table.models.index(name)] if name in table.models else 0 for name in names]

    everybody = np.ones(len(table), np.bool_)
    counts = {name: of(np.equal(table.status, code)) for name, code in (
        ("finished", FINISHED), ("rejected", REJECTED), ("shed", SHED),
        ("unfinished", UNFINISHED))}
    received, met, e2e_s = of(everybody), of(table.met_slo), of(table.finished, table.e2e_s)
    for place in range(len(names)):
        reached = Attainment(int(met[place]), int(received[place]))
        low, high = reached.interval or (None, None)
        finished = counts["finished"][place]
        yield {
            "received": reached.received, "met": reached.met, "attainment": reached.share,
            "attainment_low": low, "attainment_high": high,
            **{name: int(count[place]) for name, count in counts.items()},
            "goodput_requests_per_s": per_second(reached.met, window_s),
            "e2e_mean_s": e2e_s[place] / finished if finished else None}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
