"""Figures of the pools of a run: devices that models share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from penstock.experiment.swapping import device_times, together
from penstock.fleet.values import Fleet
from penstock.metrics.attainment import Attainment, per_second
from penstock.metrics.definitions import BoolColumn, FloatColumn, IntColumn
from penstock.metrics.pool_summary import DeviceTimes, Pool, PooledModel
from penstock.metrics.table import FINISHED, REJECTED, SHED, UNFINISHED, RequestTable
from penstock.sim.multiplex.pools import PoolRun
from penstock.sim.simulation import SimulationResult


def pool_busy_s(result: SimulationResult) -> FloatColumn:
    """Seconds in which each device of the pools computed, in the order of their numbers."""
    return np.array([times["computing_share"] * result.end_s for one in result.pools
                     for times in _times(one, result.end_s)], dtype=np.float64)


def pool_figures(fleet: Fleet, result: SimulationResult, window_s: float) -> tuple[Pool, ...]:
    """A run's pools."""
    found = []
    for one in result.pools:
        table = result.table.take(one.rows)
        # Requests that leave the model open are counted with the one that they were given.
        counts = table.arrival_s >= fleet.run.warmup_s
        found.append(_pool(one, _times(one, result.end_s), table.take(counts),
                           one.run.model[counts], window_s))
    return tuple(found)


def reduced_figures(result: SimulationResult, figures: Sequence[Pool]) -> tuple[Pool, ...]:
    """Return the disclosed figures of pools. Those with confidential requests have none by model or
    device: the loaded models and the number of loads would reveal the subject of requests."""
    return tuple(replace(
        whole, loads=None, failed_loads=None, load_mean_s=None, batches=None, mean_batch=None,
        loading_share=None, computing_share=None, idle_share=None, devices=(), models=())
        if one.is_secret else whole for one, whole in zip(result.pools, figures, strict=True))


def secret_devices(result: SimulationResult) -> set[int]:
    """Numbers of the devices of pools that had confidential requests."""
    found: set[int] = set()
    first = len(result.busy_s)
    for one in result.pools:
        if one.is_secret:
            found.update(range(first, first + one.pool.count))
        first += one.pool.count
    return found


def _times(one: PoolRun, end_s: float) -> list[dict[str, float]]:
    """Shares of each device's time. Where batching is continuous only the sum of its steps is
    known, so that it is idle at least for what is left beside them and loading."""
    found = device_times(one.run, end_s, range(one.pool.count))
    for times, computing_s in zip(found, one.computing_s, strict=False):
        times["computing_share"] = computing_s / end_s
        times["idle_share"] = max(0.0, 1.0 - times["loading_share"] - times["computing_share"])
    return found


def _pool(one: PoolRun, times: Sequence[Mapping[str, float]], table: RequestTable,
          places: IntColumn, window_s: float) -> Pool:
    """A pool; ``times`` are its devices', ``table`` has its requests, each of the model at its
    place."""
    pool, run = one.pool, one.run
    loads: list[list[float]] = [[] for _ in pool.models]
    batches: list[list[int]] = [[] for _ in pool.models]
    for load in run.loads:
        loads[load.model].append(load.seconds)
    for batch in run.batches:
        batches[batch.model].append(batch.num_requests)
    outcomes = _outcomes(len(pool.models), places, table, window_s)
    return Pool(
        name=pool.name, accelerator=pool.accelerator.name, num_devices=pool.count,
        policy=pool.policy, settings=dict(pool.settings), num_models=len(pool.models),
        batching="continuous" if pool.continuous else "static",
        loads=len(run.loads), failed_loads=sum(load.failed for load in run.loads),
        load_mean_s=_mean([load.seconds for load in run.loads]), batches=len(run.batches),
        mean_batch=_mean([batch.num_requests for batch in run.batches]), **together(times),
        devices=tuple(DeviceTimes(**shares) for shares in times),
        models=tuple(PooledModel(
            model=model.spec.name, **outcome, loads=len(loads[place]),
            load_mean_s=_mean(loads[place]), mean_batch=_mean(batches[place]))
            for place, (model, outcome) in enumerate(zip(pool.models, outcomes, strict=True))))


def _outcomes(num_models: int, places: IntColumn, table: RequestTable,
              window_s: float) -> Iterator[dict[str, Any]]:
    """Return the outcomes of each model's requests, by counts over all models at once."""
    def of(rows: BoolColumn, weights: FloatColumn | None = None) -> list[float]:
        found: list[float] = np.bincount(
            places[rows], None if weights is None else weights[rows], num_models).tolist()
        return found

    everybody = np.ones(len(table), np.bool_)
    counts = {name: of(np.equal(table.status, code)) for name, code in (
        ("finished", FINISHED), ("rejected", REJECTED), ("shed", SHED),
        ("unfinished", UNFINISHED))}
    received, met, e2e_s = of(everybody), of(table.met_slo), of(table.finished, table.e2e_s)
    for place in range(num_models):
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
