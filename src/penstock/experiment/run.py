"""One run of a fleet: simulate, then say what happened."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import __version__
from penstock.engine.sim.simulation import Beliefs, SimulationResult, simulate
from penstock.fleet.judge import cost_per_hour, counted
from penstock.fleet.values import Fleet
from penstock.metrics.summary import Usage, summarise
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
