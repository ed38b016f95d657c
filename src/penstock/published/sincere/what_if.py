"""Other policies on the arrivals of SINCERE's runs, on the same server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from penstock.perf.loading.host_loads import HostLoads
from penstock.published.figures import Figure, Options
from penstock.published.sincere.contender import Contender
from penstock.published.sincere.policy import STRATEGIES as POLICIES
from penstock.published.sincere.records import STRATEGIES, SincereRun
from penstock.published.sincere.server import STOP_S, Server, timer_settings
from penstock.sim.multiplex.record import MultiplexRun

PENSTOCK = "penstock"
ARRIVALS_OF = "BestBatch"
"""The runs whose arrivals are used: one per setting, traffic and SLA."""

LEAST_PCT = {"cc": 70.0, "noncc": 80.0}
"""Aim with one resident fp32 model: in time, percent of received requests."""

MANY_RESIDENTS = {"two resident": (2, 1.0), "three resident, half the bytes": (3, 0.5)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A policy on the arrivals of one run."""

    setting: str
    policy: str
    received_pct: float
    goodput_rps: float
    swaps: int
    shed: int
    least_model_pct: float


@dataclass(frozen=True, slots=True)
class _Case:
    """A policy under a name, and the server it has. Loads are believed to take ``belief`` times
    what they do; with ``spread`` loads and batches vary as they did in the runs."""

    name: str
    policy: str
    settings: Mapping[str, Any]
    num_resident: int = 1
    weights_share: float = 1.0
    floor: float = 0.0
    belief: float = 1.0
    spread: bool = False


def what_if(runs: Sequence[SincereRun], options: Options) -> list[Outcome]:
    """Every policy on every run's arrivals."""
    asked = [run for run in runs if run.strategy == ARRIVALS_OF]
    found: list[Outcome] = []
    for run, outcomes in zip(asked, options.where.results(_outcomes, asked), strict=True):
        options.on_progress(f"other policies on the arrivals of run {run.run}")
        found += outcomes
    return found


def what_if_figures(outcomes: Sequence[Outcome], runs: Sequence[SincereRun]) -> list[Figure]:
    """Ours against what is asked and against the best published strategy, and the gap between the
    settings."""
    figures = []
    for setting in sorted({one.setting for one in outcomes}):
        ours = _mean(outcomes, setting, PENSTOCK)
        figures.append(Figure(f"{setting}: penstock, one resident, in time, % of received",
                              LEAST_PCT[setting], ours, "at_least", note="what is asked of us"))
        published = max(fmean(run.measured.sla_received_pct for run in runs
                              if run.setting == setting and run.strategy == strategy)
                        for strategy in STRATEGIES if any(
                            run.setting == setting and run.strategy == strategy for run in runs))
        figures.append(Figure(f"{setting}: best published strategy, measured, % of received", None,
                              published, "shown"))
    if {one.setting for one in outcomes} == set(LEAST_PCT):
        for policy in (one.name for one in _cases() if one.policy == PENSTOCK):
            gap = _mean(outcomes, "noncc", policy) - _mean(outcomes, "cc", policy)
            figures.append(Figure(f"gap that confidential mode leaves, {policy}, points", None, gap,
                                  "shown"))
    return figures


def what_if_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Means over runs by setting and policy."""
    rows = []
    for setting in sorted({one.setting for one in outcomes}):
        for policy in dict.fromkeys(one.policy for one in outcomes):
            own = [one for one in outcomes if (one.setting, one.policy) == (setting, policy)]
            rows.append({"setting": setting, "policy": policy, **{
                field: fmean(getattr(one, field) for one in own) for field in _MEANS}})
    return rows


def what_if_table(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """The rows for people."""
    return [{"setting": row["setting"], "policy": row["policy"],
             **{title: f"{row[field]:.{digits}f}" for field, (title, digits) in _MEANS.items()}}
            for row in what_if_rows(outcomes)]


_MEANS = {"received_pct": ("in time, % of received", 1), "least_model_pct": ("worst model, %", 1),
          "goodput_rps": ("goodput, req/s", 2), "swaps": ("loads", 0), "shed": ("shed", 0)}


def _mean(outcomes: Sequence[Outcome], setting: str, policy: str) -> float:
    return fmean(one.received_pct for one in outcomes
                 if (one.setting, one.policy) == (setting, policy))


def _cases() -> list[_Case]:
    plain = {"prefetch": False}
    cases = [_Case(PENSTOCK, PENSTOCK, plain)]
    cases += [_Case(f"{PENSTOCK}, {name}", PENSTOCK, plain, num, share)
              for name, (num, share) in MANY_RESIDENTS.items()]
    cases.append(_Case(f"{PENSTOCK}, prefetch", PENSTOCK, {}))
    cases.append(_Case(f"{PENSTOCK}, floor of 5 % per model", PENSTOCK, plain,
                       floor=0.05))
    cases += [_Case(f"{PENSTOCK}, loads believed 30 % {word}", PENSTOCK, plain,
                    belief=factor) for word, factor in (("short", 0.7), ("long", 1.3))]
    cases.append(_Case(f"{PENSTOCK}, times vary", PENSTOCK, plain, spread=True))
    cases += [_Case(f"{name}, no race", name, {}) for name in POLICIES]
    for shed in (False, True):
        cases += [_Case(f"{name}, {'late ones shed' if shed else 'nobody shed'}", name,
                        {"shed": shed})
                  for name in ("longest-queue", "edf", "round-robin")]
    return cases


def _outcomes(run: SincereRun) -> list[Outcome]:
    return [_outcome(run, case) for case in _cases()]


def _outcome(run: SincereRun, case: _Case) -> Outcome:
    server = Server.of(run.setting, case.num_resident, case.weights_share)
    models = [replace(model, min_share=case.floor) for model in server.models()]
    loads = _Believed(server.loads(), case.belief)
    timers = timer_settings("noncc", run.sla_s, overwrite=False, max_batch=64)
    policy = Contender(case.name, case.policy, case.settings).policy(models, loads, timers)
    rng = np.random.default_rng(int(run.rate)) if case.spread else None
    found = server.run(policy, run.requests, until_s=float("inf"), rng=rng)
    return Outcome(run.setting, case.name, 100.0 * float(found.in_time.mean()),
                   float(found.in_time.sum()) / STOP_S, len(found.loads),
                   int((found.reason >= 0).sum()), _least(found))


class _Believed:
    """Loads by the page cache, taken to last ``factor`` times as long."""

    def __init__(self, loads: HostLoads, factor: float) -> None:
        self._loads = loads
        self._factor = factor

    def load_s(self, device: int, model: int) -> float:
        return self._factor * self._loads.load_s(device, model)

    def prefetch_s(self, model: int) -> float:
        return self._factor * self._loads.prefetch_s(model)

    def loaded(self, device: int, model: int) -> None:
        self._loads.loaded(device, model)

    def prefetched(self, model: int) -> None:
        self._loads.prefetched(model)


def _least(found: MultiplexRun) -> float:
    """In time, percent, of the model that fares worst."""
    return min(100.0 * float(found.in_time[found.model == model].mean())
               for model in sorted(set(found.model.tolist())))
