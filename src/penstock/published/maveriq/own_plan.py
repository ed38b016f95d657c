"""Penstock's plan for the models of a cell, and what comes of it on the arrivals of the runs.

A plan is made from the list of models, a mean rate and what other cells measured. It is judged on
the arrivals and prompts of the cell, with service times measured there where a system ran so.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.metrics.definitions import FloatColumn
from penstock.plan.place.options import Forecast, PlacedReplicas, best_ways, shared_of
from penstock.plan.place.outcome import device_s
from penstock.plan.place.shared import Goal, NoRoomError, SharedPlan, plan_shared
from penstock.policy.place.values import Device
from penstock.policy.queue.by_set import DeviceSetQueue
from penstock.policy.queue.values import Start, Waiting
from penstock.published.maveriq.records import (
    DEVICE_GIB,
    NUM_DEVICES,
    Cell,
    Run,
)
from penstock.published.maveriq.services import Services
from penstock.sim.exclusive import Dispatch, serve

ANY, FP16 = ("fp16", "int8", "int4", "int4_gptq"), ("fp16",)
OVERHEAD_S = 0.0075
"""Dispatch, as in calm runs of every system."""

JOIN_MINUTES = {"large": (0, 5, 10, 15), "regular": tuple(range(0, 24, 3)),
                "twentyone": tuple(range(21))}
"""At which minute of the trace each model of a list is deployed."""

TRACE_MINUTES, MINUTE_S = 58, 30.0
"""Length of the traces, and the seconds in which the runs replay a minute of them."""

BUSY_FACTOR, CALM_FACTOR = 2.0, 0.5
_BUSY_EVERY, _WINDOW_S = 3, 30.0
"""Every third half minute at twice the mean rate, the others at half of it: how bursty a forecast
is taken to be. It is no fit to any trace."""

FORECAST_REQUESTS = 500


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Arrivals on a cell: moments, deployments, and the work of each request relative to its
    deployment's mean."""

    cell: Cell
    arrival_s: tuple[float, ...]
    client: tuple[int, ...]
    factor: tuple[float, ...]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Intent:
    """A goal by name. ``max_batch`` requests of a model may start together."""

    name: str
    goal: Goal
    max_batch: int = 4


INTENTS = (Intent("quick", Goal(0.25)), Intent("thrifty", Goal(2.0)),
           Intent("at most 1.1 GPU-s", Goal(0.25, 1.1)), Intent("fewest GPU-s", Goal(20.0)),
           Intent("quick, no batches", Goal(0.25), 1))
"""Worth of a GPU second in seconds of waiting. The limit of the third means nothing to models of 16
bits, which take more in any configuration."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Outcome of a plan on a cell, request by request."""

    intent: Intent
    plan: SharedPlan
    e2e_s: FloatColumn
    gpu_s: FloatColumn


def arrivals_of(run: Run) -> Arrivals:
    """A run's requests. Raises InputError where its log is lost."""
    if not np.isfinite(run.arrival_s).all():
        raise InputError(f"{run.key.name}, {run.key.cell.name}: the log of arrivals is lost")
    mean_s = {client: run.service_s[run.client == client].mean() for client in run.models}
    factor = run.service_s / np.array([mean_s[client] for client in run.client.tolist()])
    return Arrivals(run.key.cell, tuple(run.arrival_s.tolist()), tuple(run.client.tolist()),
                    tuple(factor.tolist()), tuple(run.models[at] for at in sorted(run.models)))


def only(arrivals: Arrivals, models: Collection[str]) -> Arrivals:
    """The requests for some of the models."""
    kept = [client for client, model in enumerate(arrivals.models) if model in models]
    rows = [row for row, client in enumerate(arrivals.client) if client in kept]
    return Arrivals(arrivals.cell, tuple(arrivals.arrival_s[row] for row in rows),
                    tuple(kept.index(arrivals.client[row]) for row in rows),
                    tuple(arrivals.factor[row] for row in rows),
                    tuple(arrivals.models[client] for client in kept))


def forecast_for(forecast: Forecast, arrivals: Arrivals, models: Collection[str]) -> Forecast:
    """The same of a forecast of all of the cell's models."""
    kept = [client for client, model in enumerate(arrivals.models) if model in models]
    pairs = [(arrival_s, kept.index(client)) for arrival_s, client in zip(
        forecast.arrival_s, forecast.deployment, strict=True) if client in kept]
    return Forecast(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))


def forecast_of(cell: Cell, num_seen: int, seen_scale: float, seed: int,
                num_requests: int = FORECAST_REQUESTS) -> Forecast:
    """Return the forecast for a cell after ``num_seen`` requests of its trace at another scale:
    the rate grown in proportion, models joining as in the list, each as likely; ``num_requests`` of
    them on average. Moments are drawn in bursts as ``BUSY_FACTOR`` has it."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 5)))
    rate = num_seen / (TRACE_MINUTES * MINUTE_S) * float(cell.scale) / seen_scale
    length_s = num_requests / rate
    begins = [minute / TRACE_MINUTES * length_s for minute in JOIN_MINUTES[cell.model_set]]
    moments: list[float] = []
    for window in range(int(length_s / _WINDOW_S) + 1):
        factor = CALM_FACTOR if window % _BUSY_EVERY else BUSY_FACTOR
        from_s = window * _WINDOW_S
        num = rng.poisson(rate * factor * _WINDOW_S)
        moments += np.sort(rng.uniform(from_s, from_s + _WINDOW_S, num)).tolist()
    return Forecast(tuple(moments), tuple(
        int(rng.integers(sum(begin <= moment for begin in begins))) for moment in moments))


def plan_for(arrivals: Arrivals, services: Services, forecast: Forecast, intent: Intent,
             precisions: Sequence[str] = ANY) -> SharedPlan | None:
    """A plan made without anything that was measured on the cell; of ``arrivals`` it sees the list
    of models. None where they do not fit."""
    ways = [best_ways(services.ways(model, precisions, arrivals.cell, intent.max_batch))
            for model in arrivals.models]
    try:
        return plan_shared(ways, node(), forecast, intent.goal, OVERHEAD_S)
    except NoRoomError:
        return None


def node() -> list[Device]:
    """The machine of the runs, idle."""
    return [Device(index, "node", int(DEVICE_GIB * GIB)) for index in range(NUM_DEVICES)]


def judge(arrivals: Arrivals, intent: Intent, plan: SharedPlan, services: Services) -> Judged:
    """The arrivals of a cell served by a plan. A batch takes as long as its longest request would
    alone, grown as its way says."""
    work_s = [_truth_s(services, model, seat, arrivals.cell)
              for model, seat in zip(arrivals.models, plan.seats, strict=True)]

    def of_start(start: Start) -> float:
        longest = max(arrivals.factor[request_id] for request_id in start.request_ids)
        growth = plan.seats[start.deployment].way.growth_of(len(start.request_ids))
        return work_s[start.deployment] * longest * growth

    requests = [Waiting(place, client, arrival_s) for place, (client, arrival_s) in enumerate(
        zip(arrivals.client, arrivals.arrival_s, strict=True))]
    served = serve(requests, DeviceSetQueue(shared_of(plan.seats)), of_start,
                   Dispatch([OVERHEAD_S] * len(plan.seats)))
    return Judged(intent, plan, served.e2e_s,
                  device_s(served, np.array(arrivals.client), plan.seats))


def described(seats: Iterable[PlacedReplicas], models: Sequence[str]) -> str:
    """For tables: every deployment's configuration and number of replicas."""
    return "; ".join(f"{model} {seat.way.configuration.name} x{len(seat.device_sets)}"
                     for model, seat in zip(models, seats, strict=True))


def _truth_s(services: Services, model: str, seat: PlacedReplicas, cell: Cell) -> float:
    found = services.truth_s(model, seat.way.configuration, cell)
    return seat.way.work_s if found is None else found
