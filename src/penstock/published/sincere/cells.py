"""One cell of the grid: a policy, a pattern, a rate, an SLA, a mode and a seed; and its run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from penstock import __version__
from penstock.experiment.swapping import figures
from penstock.policy.multiplex.values import Queued
from penstock.published.sincere.contender import contender
from penstock.published.sincere.policy import STRATEGIES, SincereSettings
from penstock.published.sincere.records import MODELS
from penstock.published.sincere.records import STRATEGIES as RUN_STRATEGIES
from penstock.published.sincere.server import Server, timer_settings
from penstock.sim.multiplex.record import MultiplexRun
from penstock.workload.patterns import Pattern, exact, mixed, published
from penstock.workload.streams import stream

Mode = Literal["cc", "noncc"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""With confidential computing, and without."""

Timers = Literal["as-run", "own"]
TIMERS: tuple[Timers, ...] = get_args(Timers)
"""Source of the load times in the timers of SINCERE's strategies: the table of each published run
(mostly the table without confidential computing, in both modes), or the mode's own."""

Weights = Literal["fp32", "bf16"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)

PUBLISHED = tuple(RUN_STRATEGIES.values())
SHARES = (0.1, 0.3, 0.6)
"""Parts of the requests, in the order of ``MODELS``."""

_OWN_TABLE_TWICE = frozenset({(4.0, 60.0), (8.0, 60.0)})


@dataclass(frozen=True, slots=True)
class Cell:
    """Cell of the grid: its place and its seed."""

    mode: Mode
    policy: str
    pattern: Pattern
    rate_per_s: float
    sla_s: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell's file."""
        policy = self.policy.replace(":", "_").replace("=", "_")
        return (f"{self.mode}-{policy}-{self.pattern}-{self.rate_per_s:g}-{self.sla_s:g}-"
                f"{self.seed}")


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings that all cells share.

    Arrivals come for ``duration_s``; ``grace_s`` after them the server is stopped, and what waits
    then is unfinished. ``exact``: patterns with the nominal mean rate in place of the published
    ones. ``residents``: so many models at most are on the device at once, under policies that can
    use it. ``bf16`` halves weights and loads; batches take as long, since none were measured.
    ``spread``: loads and batches vary as measured, rather than taking their means.
    """

    duration_s: float = 1200.0
    grace_s: float = 40.0
    exact: bool = False
    timers: Timers = "as-run"
    residents: int = 1
    weights: Weights = "fp32"
    spread: bool = True


def settings_of(cell: Cell, setup: Setup) -> dict[str, Any]:
    """Everything that the cell's figures depend on."""
    return {**asdict(cell), **asdict(setup), "version": __version__}


def run_cell(cell: Cell, setup: Setup) -> dict[str, Any]:
    """The figures of a cell; those of a model under its name in ``models``."""
    run = simulate_cell(cell, setup)
    by_model = {}
    for place, model in enumerate(MODELS):
        mine = run.model == place
        by_model[model] = {"received": int(mine.sum()), "served": int((mine & run.served).sum()),
                           "in_sla": int((mine & run.in_time).sum())}
    return {**figures(run, setup.duration_s), "models": by_model}


def simulate_cell(cell: Cell, setup: Setup) -> MultiplexRun:
    """The run itself. Raises InputError for a policy that is none.

    Cells that differ in mode, policy or SLA alone get the same requests. SINCERE's strategies have
    one model on the device, and batches without a limit.
    """
    known = contender(cell.policy)
    of_sincere = known.name in STRATEGIES
    server = Server.of(cell.mode, 1 if of_sincere else setup.residents,
                       0.5 if setup.weights == "bf16" else 1.0)
    policy = known.policy(server.models(unbounded=of_sincere), server.loads(),
                          _timers(cell, setup.timers))
    rng = stream(cell.seed, _source(cell), "times") if setup.spread else None
    partial = of_sincere and STRATEGIES[known.name].partial
    return server.run(policy, requests_of(cell, setup), unbounded=of_sincere, rng=rng,
                      partial=partial, until_s=setup.duration_s + setup.grace_s)


def requests_of(cell: Cell, setup: Setup) -> Sequence[Queued]:
    """The cell's requests in order of arrival."""
    draw = exact if setup.exact else published
    source = _source(cell)
    arrivals = draw(cell.pattern, cell.rate_per_s, setup.duration_s,
                    stream(cell.seed, source, "arrivals"))
    models = mixed(SHARES, len(arrivals), stream(cell.seed, source, "model"))
    return [Queued(place, model, at_s, at_s + cell.sla_s) for place, (at_s, model)
            in enumerate(zip(arrivals.tolist(), models.tolist(), strict=True))]


def _source(cell: Cell) -> str:
    return f"{cell.pattern} {cell.rate_per_s:g}"


def _timers(cell: Cell, timers: Timers) -> SincereSettings:
    """Return the table that SINCERE's strategies look up in the cell."""
    if timers == "own":
        return timer_settings(cell.mode, cell.sla_s)
    if cell.mode == "cc" and (cell.rate_per_s, cell.sla_s) in _OWN_TABLE_TWICE:
        return timer_settings("cc", cell.sla_s, deviations=2.0)
    return timer_settings("noncc", cell.sla_s)
