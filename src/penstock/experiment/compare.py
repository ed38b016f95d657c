"""Policies side by side on the very same requests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from penstock.experiment.run import Run, run_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.policy.schedule.options import SchedulerOptions


@dataclass(frozen=True, slots=True)
class Contender:
    """One scheduling policy and its runs, one per seed."""

    label: str
    options: SchedulerOptions
    summaries: tuple[dict[str, Any], ...]

    def mean(self, *path: str) -> float | None:
        """Mean over seeds of a number in the summary, None where it is undefined."""
        values = [_at(summary, path) for summary in self.summaries]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None


def _at(summary: dict[str, Any], path: Sequence[str]) -> float | None:
    value: Any = summary
    for key in path:
        value = value[key]
    return None if value is None else float(value)


def compare(fleet: Fleet, policies: Sequence[tuple[str, SchedulerOptions]], seeds: Sequence[int],
            on_run: Callable[[str, Run], None] | None = None) -> list[Contender]:
    """Run every policy on every seed's traffic; all policies see the same requests of a seed.

    Replica groups with a schedule of their own take the contender's like the others do.
    """
    summaries: list[list[dict[str, Any]]] = [[] for _ in policies]
    for seed in seeds:
        workload = fleet_workload(fleet, seed)
        for index, (label, options) in enumerate(policies):
            run = run_fleet(with_schedule(fleet, options), workload, seed)
            summaries[index].append(run.summary)
            if on_run is not None:
                on_run(label, run)
    return [Contender(label, options, tuple(found))
            for (label, options), found in zip(policies, summaries, strict=True)]


def with_schedule(fleet: Fleet, options: SchedulerOptions) -> Fleet:
    """The fleet with every replica under one scheduling policy."""
    if fleet.engine.max_num_seqs is not None:
        options = replace(options, max_num_seqs=fleet.engine.max_num_seqs)
    return replace(fleet, policies=replace(fleet.policies, schedule=options),
                   replicas=tuple(replace(group, schedule=None) for group in fleet.replicas))
