"""One cell of the grid: a policy, a pattern, a rate, an SLA, a mode and a seed; and its run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penstock import __version__
from penstock.core.errors import InputError, nearest
from penstock.engine.sim.residency.driver import ResidencySimulation
from penstock.engine.sim.residency.record import ResidencyRun
from penstock.experiment.sincere.testbed import (
    MEMORY_BYTES,
    MODELS,
    Mode,
    SincereMachine,
    Timers,
    hosted,
    timer_table,
)
from penstock.experiment.swapping import figures
from penstock.policy.residency.device import Device
from penstock.policy.residency.protocol import Residency
from penstock.policy.residency.sincere import STRATEGIES, Sincere, SincereSettings
from penstock.policy.residency.values import Queued
from penstock.workload.patterns import Pattern, exact, mixed, published
from penstock.workload.streams import stream

PUBLISHED = ("sincere-best-batch", "sincere-best-batch-timer", "sincere-select-batch-timer",
             "sincere-best-batch-partial-timer")
POLICIES = (*STRATEGIES,)


@dataclass(frozen=True, slots=True)
class Cell:
    """Where in the grid, and whose random draws."""

    mode: Mode
    policy: str
    pattern: Pattern
    rate_per_s: float
    sla_s: float
    seed: int

    @property
    def name(self) -> str:
        """What its file is called."""
        return (f"{self.mode}-{self.policy}-{self.pattern}-{self.rate_per_s:g}-{self.sla_s:g}-"
                f"{self.seed}")


@dataclass(frozen=True, slots=True)
class Setup:
    """What all cells share.

    Arrivals come for ``duration_s``; ``grace_s`` after them the server is stopped, and what waits
    then is unfinished. ``exact``: patterns with the nominal mean rate in place of the published
    ones. ``residents``: so many models at most are on the device at once, under policies that can
    use it.
    """

    duration_s: float = 1200.0
    grace_s: float = 60.0
    exact: bool = False
    timers: Timers = "as-run"
    residents: int = 1


def settings_of(cell: Cell, setup: Setup) -> dict[str, Any]:
    """Everything that the cell's figures depend on."""
    return {**asdict(cell), **asdict(setup), "version": __version__}


def run_cell(cell: Cell, setup: Setup) -> dict[str, Any]:
    """The figures of a cell; those of a model under its name in ``models``."""
    run = simulate_cell(cell, setup)
    found = figures(run, setup.duration_s)
    by_model = {}
    for place, model in enumerate(MODELS):
        mine = run.model == place
        received = int(mine.sum())
        by_model[model.name] = {"received": received, "served": int((mine & run.served).sum()),
                                "in_sla": int((mine & run.in_time).sum())}
    return {**found, "models": by_model}


def simulate_cell(cell: Cell, setup: Setup) -> ResidencyRun:
    """The run itself. Cells that differ in mode, policy or SLA alone get the same requests."""
    guarded = cell.policy not in STRATEGIES
    device = Device(0, MEMORY_BYTES, hosted(cell.mode, guarded=guarded),
                    max_residents=setup.residents if guarded else 1)
    simulation = ResidencySimulation(policy_of(cell, setup), [device], SincereMachine(cell.mode))
    return simulation.run(requests_of(cell, setup), setup.duration_s + setup.grace_s)


def requests_of(cell: Cell, setup: Setup) -> Sequence[Queued]:
    """The cell's requests in order of arrival."""
    draw = exact if setup.exact else published
    source = f"{cell.pattern} {cell.rate_per_s:g}"
    arrivals = draw(cell.pattern, cell.rate_per_s, setup.duration_s,
                    stream(cell.seed, source, "arrivals"))
    models = mixed([model.share for model in MODELS], len(arrivals),
                   stream(cell.seed, source, "model"))
    return [Queued(place, model, at_s, at_s + cell.sla_s) for place, (at_s, model)
            in enumerate(zip(arrivals.tolist(), models.tolist(), strict=True))]


def policy_of(cell: Cell, setup: Setup) -> Residency:
    """The policy of a cell. Raises InputError for a name that is none."""
    if cell.policy not in POLICIES:
        raise InputError(f"policy {cell.policy!r} is unknown{nearest(cell.policy, POLICIES)}")
    table, deviations = timer_table(cell.mode, cell.rate_per_s, cell.sla_s, setup.timers)
    return Sincere(STRATEGIES[cell.policy], SincereSettings(
        cell.sla_s, tuple(model.best_batch for model in MODELS), table, deviations))
