"""SINCERE's runs as its logs tell them: what was asked when, and what came of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from penstock.core.errors import InputError
from penstock.perf.profiles.csv_rows import CsvRow, csv_rows
from penstock.policy.multiplex.values import Queued

MODELS = ("granite-7b", "gemma-7b", "llama3-8b")
"""In the order of the digits by which the log of requests names them."""

SETTINGS = {"cc": "sincere-h100-confidential", "noncc": "sincere-h100"}
STRATEGIES = {
    "BestBatch": "sincere-best-batch",
    "BestBatch+Timer": "sincere-best-batch-timer",
    "SelectBatch+Timer": "sincere-select-batch-timer",
    "BestBatch+PartialBatch+Timer": "sincere-best-batch-partial-timer",
}
_DIGITS = "012"
_COLUMNS = ("run", "setting", "strategy", "pattern", "rate", "sla_s", "served", "lat_mean_s",
            "sla_attain_served_pct", "sla_attain_received_pct", "swaps_at_stop", "mean_batch",
            "goodput_rps", "timer_profile")
_TIMERS = {"none": ("noncc", 1.0), "noncc_1std": ("noncc", 1.0), "cc_1std": ("cc", 1.0),
           "cc_2std": ("cc", 2.0)}


@dataclass(frozen=True, slots=True)
class Measured:
    """Outcome of a run. ``swaps`` are loads until the server was told to stop, the first
    included; attainments are shares of those served, and of all received, in percent."""

    served: int
    latency_mean_s: float
    sla_served_pct: float
    sla_received_pct: float
    swaps: int
    mean_batch: float
    goodput_rps: float


@dataclass(frozen=True, slots=True)
class SincereRun:
    """One of the runs. ``timer_table`` and ``deviations``: the setting whose profiled loads its
    timers looked up, and how many standard deviations they added."""

    run: str
    setting: str
    strategy: str
    pattern: str
    rate: int
    sla_s: float
    timer_table: str
    deviations: float
    measured: Measured
    requests: Sequence[Queued]

    @property
    def cell(self) -> tuple[str, int, float]:
        """Traffic and SLA."""
        return self.pattern, self.rate, self.sla_s


def read_runs(folder: Path) -> list[SincereRun]:
    """All runs of a folder with ``runs_summary.csv`` and ``requests_packed.csv.gz``, by setting and
    then in the order of the summary. Raises InputError for a file, row or value that is not as
    expected."""
    packed = dict(map(_arrivals, _by_run(folder / "requests_packed.csv.gz",
                                         ("run", "dt_ms", "model"))))
    runs = [_run(row, packed) for row in _by_run(folder / "runs_summary.csv", _COLUMNS)]
    return sorted(runs, key=lambda run: run.setting)


def _by_run(path: Path, columns: Sequence[str]) -> Iterator[CsvRow]:
    """The rows of a table that has one per run."""
    seen = set()
    for row in csv_rows(path, columns):
        run = row.text("run")
        if run in seen:
            row.fail("run", "one row per run, and it stands above already")
        seen.add(run)
        yield row


def _run(row: CsvRow, packed: dict[str, tuple[list[float], list[int]]]) -> SincereRun:
    run, sla_s = row.text("run"), row.number("sla_s", above=True)
    if run not in packed:
        raise InputError(f"{row.where}: run {run!r} has no line in requests_packed.csv.gz")
    table, deviations = row.choice("timer_profile", _TIMERS)
    measured = Measured(
        row.whole("served"), row.number("lat_mean_s"), row.number("sla_attain_served_pct"),
        row.number("sla_attain_received_pct"), row.whole("swaps_at_stop"),
        row.number("mean_batch"), row.number("goodput_rps"))
    requests = [Queued(place, model, at_s, at_s + sla_s)
                for place, (at_s, model) in enumerate(zip(*packed[run], strict=True))]
    return SincereRun(
        run, row.choice("setting", {name: name for name in SETTINGS}),
        row.choice("strategy", {name.lower(): name for name in STRATEGIES}), row.text("pattern"),
        row.whole("rate"), sla_s, table, deviations, measured, requests)


def _arrivals(row: CsvRow) -> tuple[str, tuple[list[float], list[int]]]:
    """Arrivals in seconds from the first, and models, of a run."""
    gaps_ms, digits = row.wholes("dt_ms", least=0), row.text("model")
    if len(gaps_ms) != len(digits) or not set(digits) <= set(_DIGITS):
        row.fail("model", f"{len(gaps_ms)} digits, one per gap, each one of {_DIGITS}")
    at_s = [total_ms / 1000.0 for total_ms in accumulate(gaps_ms)]
    return row.text("run"), (at_s, [int(digit) for digit in digits])
