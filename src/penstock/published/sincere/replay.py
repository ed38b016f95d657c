"""SINCERE's runs replayed: the same arrivals under the same strategies, race included."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from penstock.published.figures import Figure, Options
from penstock.published.sincere.policy import STRATEGIES as POLICIES
from penstock.published.sincere.policy import Sincere
from penstock.published.sincere.records import STRATEGIES, Measured, SincereRun
from penstock.published.sincere.server import STOP_S, Server, timer_settings
from penstock.sim.multiplex.record import MultiplexRun

TOLERANCES = {"served": 5.0, "latency_mean_s": 5.0, "sla_served_pct": 8.0, "swaps": 5.0}
"""Mean absolute error per run that is allowed, in percent of what was logged."""

_ORDERED = ("latency_mean_s", "served", "sla_served_pct", "sla_received_pct", "swaps")
_CLEAR = 0.05
"""Strategies whose means differ by less, as a share, have no order to keep: the runs were not
repeated, and pairs of equal runs differ by as much."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A run and what the simulation came to."""

    run: SincereRun
    ours: Measured

    def error(self, field: str) -> float:
        """Percent of what was logged."""
        logged = float(getattr(self.run.measured, field))
        return 100.0 * (float(getattr(self.ours, field)) - logged) / (logged or 1.0)


def measured_of(found: MultiplexRun, num_received: int) -> Measured:
    """A simulated run by the measures of the published ones: what was answered until the server was
    killed, and loads that were over when it was told to stop."""
    served = int(found.served.sum())
    in_time = int(found.in_time.sum())
    swaps = sum(load.begin_s + load.seconds <= STOP_S for load in found.loads)
    return Measured(served, float(np.nanmean(found.latency_s)) if served else 0.0,
                    100.0 * in_time / max(served, 1), 100.0 * in_time / num_received, swaps,
                    served / max(len(found.batches), 1), in_time / STOP_S)


def replay(runs: Sequence[SincereRun], options: Options) -> list[Replayed]:
    """Every run, with the timers' table that it had."""
    found = []
    for run, ours in zip(runs, options.where.results(_ours, runs), strict=True):
        options.on_progress(f"replayed run {run.run}: {run.setting}, {run.strategy}")
        found.append(Replayed(run, ours))
    return found


def _ours(run: SincereRun) -> Measured:
    policy = Sincere(POLICIES[STRATEGIES[run.strategy]],
                     timer_settings(run.timer_table, run.sla_s, run.deviations))
    simulated = Server.of(run.setting).run(policy, run.requests, unbounded=True,
                                           partial="Partial" in run.strategy)
    return measured_of(simulated, len(run.requests))


def replay_figures(replayed: Sequence[Replayed]) -> list[Figure]:
    """Mean absolute errors by setting, biases, and whether strategies keep their order."""
    figures = []
    for setting, group in _by_setting(replayed):
        for field, most in TOLERANCES.items():
            errors = [one.error(field) for one in group]
            figures.append(Figure(
                f"{setting}: {field}, mean absolute error per run, %", most,
                fmean(map(abs, errors)), "at_most",
                note=f"{len(group)} runs, bias {fmean(errors):+.1f} %"))
        for field in ("mean_batch", "sla_received_pct"):
            errors = [one.error(field) for one in group]
            figures.append(Figure(f"{setting}: {field}, mean absolute error per run, %", None,
                                  fmean(map(abs, errors)), "shown"))
        figures += [_order(setting, field, group) for field in _ORDERED]
    return figures


def strategy_rows(replayed: Sequence[Replayed]) -> list[dict[str, Any]]:
    """Means by setting and strategy, logged and ours."""
    rows = []
    for setting, group in _by_setting(replayed):
        for strategy in STRATEGIES:
            own = [one for one in group if one.run.strategy == strategy]
            if own:
                rows.append({"setting": setting, "strategy": strategy, **_pairs(
                    {field: fmean(getattr(one.ours, field) for one in own) for field in _FIELDS},
                    {field: fmean(getattr(one.run.measured, field) for one in own)
                     for field in _FIELDS})})
    return rows


def run_rows(replayed: Sequence[Replayed]) -> list[dict[str, Any]]:
    """One row per run: ours, and logged."""
    return [{"run": one.run.run, "setting": one.run.setting, "strategy": one.run.strategy,
             "pattern": one.run.pattern, "rate": one.run.rate, "sla_s": one.run.sla_s,
             "received": len(one.run.requests),
             **_pairs(asdict(one.ours), asdict(one.run.measured))} for one in replayed]


_FIELDS = ("served", "latency_mean_s", "sla_served_pct", "sla_received_pct", "swaps", "mean_batch",
           "goodput_rps")


def _pairs(ours: dict[str, float], logged: dict[str, float]) -> dict[str, float]:
    return {name: value for field in _FIELDS
            for name, value in ((field, ours[field]), (f"{field}_logged", logged[field]))}


def _order(setting: str, field: str, group: Sequence[Replayed]) -> Figure:
    """Pairs of strategies whose logged means clearly differ, and how many keep that order."""
    means = {}
    for strategy in STRATEGIES:
        own = [one for one in group if one.run.strategy == strategy]
        if own:
            means[strategy] = (fmean(getattr(one.run.measured, field) for one in own),
                               fmean(getattr(one.ours, field) for one in own))
    clear = [(a, b) for a, b in combinations(means.values(), 2)
             if abs(a[0] - b[0]) > _CLEAR * max(abs(a[0]), abs(b[0]))]
    kept = sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in clear)
    return Figure(f"{setting}: {field}, pairs of strategies in the logged order", float(len(clear)),
                  float(kept), "exact", note="pairs whose means differ by more than 5 %")


def _by_setting(replayed: Sequence[Replayed]) -> Iterable[tuple[str, list[Replayed]]]:
    for setting in sorted({one.run.setting for one in replayed}):
        yield setting, [one for one in replayed if one.run.setting == setting]
