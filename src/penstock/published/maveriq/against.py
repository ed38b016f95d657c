"""Penstock's plans beside every published system, on the same arrivals and in the same precisions.

A system is compared with the plan that its user would have taken: of Penstock's plans of the cell,
the quickest by forecast among those that, by forecast, take no more GPU-seconds than the system
took. So no result decides which plan is compared. What a system did not answer counts as never
answered in its median; its mean and its GPU-seconds are of what it answered. A system that leaves
models out has the machine for the others, so there Penstock's mean and GPU-seconds are of a plan
that leaves them out, too; its median is of a plan that answers everybody.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from penstock.catalog.catalog import load_catalog
from penstock.plan.place.options import Forecast
from penstock.published.figures import Figure, Options
from penstock.published.maveriq.own_plan import (
    ANY,
    FORECAST_REQUESTS,
    FP16,
    INTENTS,
    Arrivals,
    Judged,
    arrivals_of,
    described,
    forecast_for,
    forecast_of,
    judge,
    only,
    plan_for,
)
from penstock.published.maveriq.records import Cell, Records, Run
from penstock.published.maveriq.services import Profiles, Services

SEEN = {"0.1": "0.2"}
"""From which scale of the same trace the mean rate is known; 0.1 for others than 0.1."""

SLOS = ("0", "5.0")
"""Runs that differ in a target for their reports only are compared by one of them."""


@dataclass(frozen=True, slots=True)
class Published:
    """A system on a cell. ``median_s`` counts what was not answered, ``mean_s`` does not.
    ``leaves_out`` says that its placement may drop models; others without answers of a model just
    never got so far."""

    name: str
    models: frozenset[str]
    leaves_out: bool
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
    sides = list(_sides(runs, options))
    figures: list[Figure] = []
    rows: list[dict[str, Any]] = []
    found = options.where.results(partial(_compared, services), sides)
    for side, (of_side, own_rows) in zip(sides, found, strict=True):
        options.on_progress(f"plans for {side.arrivals.cell.name}, {_said(side.precisions)}")
        figures += of_side
        rows += own_rows
    return figures, rows


class _Asked(NamedTuple):
    """A cell in some precisions, and the systems that it is compared with."""

    arrivals: Arrivals
    forecast: Forecast
    precisions: Sequence[str]
    systems: Sequence[Published]


def _sides(runs: Sequence[Run], options: Options) -> Iterator[_Asked]:
    for cell in sorted({run.key.cell for run in runs}):
        here = [run for run in runs if run.key.cell == cell and run.key.slo in SLOS]
        asked = max((run for run in here if run.replayable), default=None,
                    key=lambda run: (len(run.e2e_s), run.key.policy))
        if asked is None:
            continue
        arrivals = arrivals_of(asked)
        for precisions, compared in ((ANY, [run for run in here if run.key.system == "MaverIQ"]),
                                     (FP16, [run for run in here if run.key.system != "MaverIQ"])):
            forecast = forecast_of(cell, *_rate_seen(runs, cell), options.seed,
                                   options.num_requests or FORECAST_REQUESTS)
            yield _Asked(arrivals, forecast, precisions,
                         [_published(run, len(arrivals.arrival_s)) for run in compared])


def _compared(services: Services, asked: _Asked) -> tuple[list[Figure], list[dict[str, Any]]]:
    side = _Side(asked.arrivals, services, asked.forecast, asked.precisions)
    return side.compare(asked.systems)


class _Side:
    """A cell in some precisions."""

    def __init__(self, arrivals: Arrivals, services: Services, forecast: Forecast,
                 precisions: Sequence[str]) -> None:
        self._arrivals, self._services = arrivals, services
        self._forecast, self._precisions = forecast, precisions
        self._title = f"{arrivals.cell.name}, {_said(precisions)}"
        self._plans: dict[frozenset[str], list[Judged]] = {}

    def compare(self, systems: Sequence[Published]) -> tuple[list[Figure], list[dict[str, Any]]]:
        """Figures per system, and one row per system and plan. Only rows where the models do not
        fit in these precisions."""
        everything = frozenset(self._arrivals.models)
        figures: list[Figure] = []
        rows = [self._row(one.name, one.answered, one.median_s, one.mean_s, one.p95_s, one.gpu_s)
                for one in systems]
        for system in systems:
            alike = system.models & everything if system.leaves_out else everything
            full, same = self._judged(everything), self._judged(alike)
            if full and same:
                figures += self._figures(system, counterpart(full, system.gpu_s),
                                         counterpart(same, system.gpu_s), alike == everything)
        for models, plans in self._plans.items():
            rows += [self._plan_row(one, models, everything) for one in plans]
        return figures, rows

    def _judged(self, models: frozenset[str]) -> list[Judged]:
        if models not in self._plans:
            arrivals = only(self._arrivals, models)
            forecast = forecast_for(self._forecast, self._arrivals, models)
            self._plans[models] = []
            for intent in INTENTS[:2] if self._precisions == FP16 else INTENTS:
                plan = plan_for(arrivals, self._services, forecast, intent, self._precisions)
                if plan is not None:
                    self._plans[models].append(judge(arrivals, intent, plan, self._services))
        return self._plans[models]

    def _figures(self, system: Published, full: Judged, same: Judged,
                 serves_all: bool) -> list[Figure]:
        note = f"{system.name} answers {system.answered:.0%}"
        alike = note if serves_all else f"{note}; a plan for the models that it serves"
        found = [Figure(self._name(system, same, "mean e2e, s"), system.mean_s,
                        float(same.e2e_s.mean()), "at_most", note=alike)]
        if np.isfinite(system.median_s):
            found.append(Figure(self._name(system, full, "median e2e, s"), system.median_s,
                                float(np.median(full.e2e_s)), "at_most", note=note))
        if np.isfinite(system.gpu_s):
            found.append(Figure(self._name(system, same, "GPU-seconds per request"), system.gpu_s,
                                float(same.gpu_s.mean()), "at_most", note=alike))
        return found

    def _name(self, system: Published, judged: Judged, what: str) -> str:
        return f"{self._title}: {judged.intent.name} against {system.name}: {what}"

    def _plan_row(self, judged: Judged, models: frozenset[str],
                  everything: frozenset[str]) -> dict[str, Any]:
        left_out = ", ".join(sorted(everything - models))
        name = f"Penstock, {judged.intent.name}" + (f", without {left_out}" if left_out else "")
        e2e_s = judged.e2e_s
        kept = [model for model in self._arrivals.models if model in models]
        return self._row(name, len(e2e_s) / len(self._arrivals.arrival_s), float(np.median(e2e_s)),
                         float(e2e_s.mean()), float(np.percentile(e2e_s, 95.0)),
                         float(judged.gpu_s.mean()), described(judged.plan.seats, kept))

    def _row(self, system: str, answered: float, median_s: float, mean_s: float, p95_s: float,
             gpu_s: float, plan: str = "") -> dict[str, Any]:
        return {"cell": self._arrivals.cell.name, "precisions": _said(self._precisions),
                "system": system, "answered": answered, "median_s": median_s, "mean_s": mean_s,
                "p95_s": p95_s, "gpu_s": gpu_s, "plan": plan}


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
    return Published(run.key.name, frozenset(run.models.values()),
                     run.key.system == "AlpaServe", len(e2e_s) / num_asked,
                     float(everybody[len(everybody) // 2]), float(e2e_s.mean()),
                     float(np.percentile(e2e_s, 95.0)),
                     float("nan") if gpu_s is None else float(gpu_s.mean()))


def counterpart(judged: Sequence[Judged], gpu_s: float) -> Judged:
    """The quickest plan by forecast of those that take no more GPU-seconds by forecast; the one
    that takes least if none does."""
    within = [one for one in judged if not one.plan.device_s > gpu_s]
    return min(within, key=lambda one: one.plan.e2e_s) if within \
        else min(judged, key=lambda one: one.plan.device_s)


def _said(precisions: Sequence[str]) -> str:
    return "fp16" if tuple(precisions) == FP16 else "any precision"
