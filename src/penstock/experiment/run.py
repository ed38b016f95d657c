"""One run of a fleet: simulate, then say what happened."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import __version__
from penstock.engine.sim.simulation import Beliefs, SimulationResult, simulate
from penstock.fleet.values import Fleet
from penstock.metrics.attainment import Attainment
from penstock.metrics.misses import missed_targets
from penstock.metrics.summary import Usage, summarise
from penstock.metrics.table import RequestTable
from penstock.workload.workload import Workload

Progress = Callable[[int], None]
AS_THEY_ARE = Beliefs()


@dataclass(frozen=True, slots=True)
class Run:
    """A fleet, what it was given, and what became of it."""

    fleet: Fleet
    seed: int
    result: SimulationResult
    summary: dict[str, Any]

    @property
    def meets(self) -> bool:
        """Whether every class that received requests met its objective."""
        return bool(self.summary["overall"]["meets_slo"])


def run_fleet(fleet: Fleet, workload: Workload, seed: int, *, beliefs: Beliefs = AS_THEY_ARE,
              journal_dir: Path | None = None, on_progress: Progress | None = None) -> Run:
    """Simulate a fleet whose replicas are known."""
    result = simulate(fleet, workload, beliefs=beliefs, journal_dir=journal_dir, seed=seed,
                      on_progress=on_progress)
    usage = Usage(result.busy_s, cost_per_hour(fleet), range(len(result.busy_s)))
    summary = {
        "name": fleet.name, "version": __version__, "engine": "sim", "seed": seed,
        **summarise(counted(fleet, result.table), fleet.service_classes, usage),
        "refusals": [{"reason": reason, "num_requests": count}
                     for reason, count in sorted(result.reasons.items())],
        "num_steps": result.num_steps, "end_s": result.end_s,
        "prefix_hit_rate": result.prefix_hit_rate,
    }
    return Run(fleet, seed, result, summary)


def counted(fleet: Fleet, table: RequestTable) -> RequestTable:
    """The requests that a run counts: all but those that arrive while it warms up."""
    if fleet.run.warmup_s <= 0:
        return table
    return table.take(table.arrival_s >= fleet.run.warmup_s)


def cost_per_hour(fleet: Fleet) -> float:
    """What all replicas cost per hour."""
    return sum(group.num_accelerators * fleet.pool(group.accelerator.name).price_per_hour
               for group in fleet.replicas)


def missed_by_class(fleet: Fleet, table: RequestTable) -> dict[str, dict[str, int]]:
    """Per class that misses its objective, how many requests missed which target."""
    table = counted(fleet, table)
    found: dict[str, dict[str, int]] = {}
    for service_class in fleet.service_classes:
        rows = table.of_class(service_class.name)
        reached = Attainment(int(rows.met_slo.sum()), len(rows))
        if reached.meets(service_class.slo.percentile) is False:
            found[service_class.name] = missed_targets(rows, service_class.slo)
    return found


def attainment_by_class(fleet: Fleet, table: RequestTable) -> dict[str, Attainment]:
    """Attainment of every class that received requests."""
    table = counted(fleet, table)
    found: dict[str, Attainment] = {}
    for service_class in fleet.service_classes:
        rows = table.of_class(service_class.name)
        if len(rows):
            found[service_class.name] = Attainment(int(rows.met_slo.sum()), len(rows))
    return found
