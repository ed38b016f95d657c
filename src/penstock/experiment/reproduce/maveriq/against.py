"""Penstock's plans beside every published system, on the same arrivals and in the same precisions.

A system is compared with the plan that its user would have taken: of Penstock's plans of the cell,
the quickest by forecast among those that, by forecast, take no more GPU-seconds than the system
took. So no result decides which plan is compared. What a system did not answer counts as never
answered in its median; its mean, and its GPU-seconds, are of what it answered, and there ours are
of requests for the models that it serves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penstock.catalog.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.experiment.reproduce.figures import Figure, Options
from penstock.experiment.reproduce.maveriq.own_plan import (
    ANY,
    FP16,
    INTENTS,
    Arrivals,
    Judged,
    arrivals_of,
    described,
    forecast_of,
    judge,
    plan_for,
)
from penstock.experiment.reproduce.maveriq.records import Cell, Records, Run
from penstock.experiment.reproduce.maveriq.services import Profiles, Services
from penstock.metrics.definitions import FloatColumn

SEEN = {"0.1": "0.2"}
"""From which scale of the same trace the mean rate is known; 0.1 for others than 0.1."""

SLOS = ("0", "5.0")
"""Runs that differ in a target for their reports only are compared by one of them."""


@dataclass(frozen=True, slots=True)
class Published:
    """A system on a cell. ``median_s`` counts what was not answered, ``mean_s`` does not."""

    name: str
    models: frozenset[str]
    answered: float
    median_s: float
    mean_s: float
    p95_s: float
    gpu_s: float


def own_plan_figures(data: Path, records: Records,
                     options: Options) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Figures per cell and system, and a table of all plans and systems. Cells whose log of
    arrivals is lost are left out."""
    runs = [records.run(key) for key in records.keys]
    services = Services(Profiles(data, load_catalog()), runs)
    figures: list[Figure] = []
    rows: list[dict[str, Any]] = []
    for cell in sorted({run.key.cell for run in runs}):
        here = [run for run in runs if run.key.cell == cell and run.key.slo in SLOS]
        asked = max((run for run in here if run.replayable), default=None,
                    key=lambda run: (len(run.e2e_s), run.key.policy))
        if asked is None:
            continue
        arrivals = arrivals_of(asked)
        for precisions, compared in ((ANY, [run for run in here if run.key.system == "MaverIQ"]),
                                     (FP16, [run for run in here if run.key.system != "MaverIQ"])):
            options.on_progress(f"plans for {cell.name}, {_said(precisions)}")
            judged = _plans(arrivals, services, _rate_seen(runs, cell), precisions, options.seed)
            systems = [_published(run, len(arrivals.arrival_s)) for run in compared]
            rows += _table(cell, precisions, arrivals, systems, judged)
            if judged:
                for system in systems:
                    figures += _compared(cell, precisions, system, arrivals, judged)
    return figures, rows


def _plans(arrivals: Arrivals, services: Services, seen: tuple[int, float],
           precisions: Sequence[str], seed: int) -> list[Judged]:
    forecast = forecast_of(arrivals.cell, *seen, seed)
    found = []
    for intent in INTENTS:
        try:
            plan = plan_for(arrivals, services, forecast, intent, precisions)
        except InputError:
            return []  # the models do not fit in these precisions
        found.append(judge(arrivals, intent, plan, services))
    return found


def _rate_seen(runs: Sequence[Run], cell: Cell) -> tuple[int, float]:
    """Requests of the trace at another scale, and that scale."""
    scale = SEEN.get(cell.scale, "0.1")
    return max(len(run.e2e_s) for run in runs
               if run.key.cell == Cell("large", cell.trace, scale)), float(scale)


def _published(run: Run, num_asked: int) -> Published:
    e2e_s = run.e2e_s
    missing = np.full(max(0, num_asked - len(e2e_s)), np.inf)
    everybody = np.sort(np.concatenate((e2e_s, missing)))
    gpu_s = run.gpu_s
    return Published(run.key.name, frozenset(run.models.values()), len(e2e_s) / num_asked,
                     float(everybody[len(everybody) // 2]), float(e2e_s.mean()),
                     float(np.percentile(e2e_s, 95.0)),
                     float("nan") if gpu_s is None else float(gpu_s.mean()))


def _compared(cell: Cell, precisions: Sequence[str], system: Published, arrivals: Arrivals,
              judged: Sequence[Judged]) -> list[Figure]:
    chosen = counterpart(judged, system.gpu_s)
    served = np.array([arrivals.models[client] in system.models for client in arrivals.client])
    name = f"{cell.name}, {_said(precisions)}: {chosen.intent.name} against {system.name}"
    note = f"{system.name} answers {system.answered:.0%}"
    found = [Figure(f"{name}: mean e2e, s", system.mean_s, float(chosen.e2e_s[served].mean()),
                    "at_most", note=note)]
    if np.isfinite(system.median_s):
        found.append(Figure(f"{name}: median e2e, s", system.median_s,
                            float(np.median(chosen.e2e_s)), "at_most", note=note))
    if np.isfinite(system.gpu_s):
        found.append(Figure(f"{name}: GPU-seconds per request", system.gpu_s,
                            float(chosen.gpu_s[served].mean()), "at_most", note=note))
    return found


def counterpart(judged: Sequence[Judged], gpu_s: float) -> Judged:
    """The quickest plan by forecast of those that take no more GPU-seconds by forecast; the one
    that takes least if none does."""
    within = [one for one in judged if not one.plan.device_s > gpu_s]
    return min(within, key=lambda one: one.plan.e2e_s) if within \
        else min(judged, key=lambda one: one.plan.device_s)


def _table(cell: Cell, precisions: Sequence[str], arrivals: Arrivals,
           systems: Sequence[Published], judged: Sequence[Judged]) -> list[dict[str, Any]]:
    where = {"cell": cell.name, "precisions": _said(precisions)}
    rows = [{**where, "system": one.name, "answered": one.answered, "median_s": one.median_s,
             "mean_s": one.mean_s, "p95_s": one.p95_s, "gpu_s": one.gpu_s, "plan": ""}
            for one in systems]
    rows += [{**where, "system": f"Penstock, {one.intent.name}", "answered": 1.0,
              **_statistics(one.e2e_s), "gpu_s": float(one.gpu_s.mean()),
              "plan": described(one.plan.seats, arrivals.models)} for one in judged]
    return rows


def _statistics(e2e_s: FloatColumn) -> dict[str, float]:
    return {"median_s": float(np.median(e2e_s)), "mean_s": float(e2e_s.mean()),
            "p95_s": float(np.percentile(e2e_s, 95.0))}


def _said(precisions: Sequence[str]) -> str:
    return "fp16" if tuple(precisions) == FP16 else "any precision"
