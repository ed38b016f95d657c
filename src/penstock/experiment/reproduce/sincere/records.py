"""SINCERE's runs as its logs tell them: what was asked when, and what came of it."""

import csv
import gzip
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import InputError, nearest
from penstock.policy.residency.values import Queued

MODELS = ("granite-7b", "gemma-7b", "llama3-8b")
"""In the order of the digits by which the log of requests names them."""

SETTINGS = {"cc": "sincere-h100-confidential", "noncc": "sincere-h100"}
STRATEGIES = {
    "BestBatch": "sincere-best-batch",
    "BestBatch+Timer": "sincere-best-batch-timer",
    "SelectBatch+Timer": "sincere-select-batch-timer",
    "BestBatch+PartialBatch+Timer": "sincere-best-batch-partial-timer",
}
_TIMERS = {"none": ("noncc", 1.0), "noncc_1std": ("noncc", 1.0), "cc_1std": ("cc", 1.0),
           "cc_2std": ("cc", 2.0)}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run came to. ``swaps`` are loads until the server was told to stop, the first
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
    total_time_s: float
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
    packed = dict(_packed(folder / "requests_packed.csv.gz"))
    runs = [_run(row, f"{folder / 'runs_summary.csv'}:{line}", packed)
            for line, row in _rows(folder / "runs_summary.csv")]
    if not runs:
        raise InputError(f"{folder / 'runs_summary.csv'}: holds no runs")
    return sorted(runs, key=lambda run: run.setting)


def _run(row: dict[str, str], where: str,
         packed: dict[str, tuple[list[float], list[int]]]) -> SincereRun:
    def text(name: str) -> str:
        if row.get(name) is None:
            raise InputError(f"{where}: no column {name!r}{nearest(name, list(row))}")
        return row[name]

    def number(name: str) -> float:
        try:
            return float(text(name))
        except ValueError:
            raise InputError(f"{where}: {name} is {row[name]!r}, expected a number") from None

    def one_of(name: str, known: Sequence[str]) -> str:
        if text(name) not in known:
            raise InputError(f"{where}: {name} is {row[name]!r}{nearest(row[name], known)}")
        return row[name]

    run, sla_s = text("run"), number("sla_s")
    if run not in packed:
        raise InputError(f"{where}: run {run!r} has no line in requests_packed.csv.gz")
    table, deviations = _TIMERS[one_of("timer_profile", tuple(_TIMERS))]
    measured = Measured(int(number("served")), number("lat_mean_s"), number("sla_attain_served_pct"),
                        number("sla_attain_received_pct"), int(number("swaps_at_stop")),
                        number("mean_batch"), number("goodput_rps"))
    requests = [Queued(place, model, at_s, at_s + sla_s)
                for place, (at_s, model) in enumerate(zip(*packed[run], strict=True))]
    return SincereRun(run, one_of("setting", tuple(SETTINGS)), one_of("strategy", tuple(STRATEGIES)),
                      text("pattern"), int(number("rate")), sla_s, table, deviations,
                      number("total_time_s"), measured, requests)


def _packed(path: Path) -> Iterator[tuple[str, tuple[list[float], list[int]]]]:
    """Arrivals in seconds from the first, and models, by run."""
    for line, row in _rows(path):
        try:
            gaps = [int(gap) for gap in row["dt_ms"].split()]
            models = [int(digit) for digit in row["model"]]
        except (KeyError, ValueError, AttributeError):
            raise InputError(f"{path}:{line}: expected columns run, dt_ms (whole numbers) and model "
                             "(digits)") from None
        if len(gaps) != len(models) or any(model >= len(MODELS) for model in models):
            raise InputError(f"{path}:{line}: {len(gaps)} gaps and {len(models)} models, expected "
                             f"as many, each model 0 to {len(MODELS) - 1}")
        at_s, total_ms = [], 0
        for gap in gaps:
            if gap < 0:
                raise InputError(f"{path}:{line}: a gap of {gap} ms")
            total_ms += gap
            at_s.append(total_ms / 1000.0)
        yield row["run"], (at_s, models)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(sys.maxsize)  # one field holds the gaps of a whole run
    try:
        opened = gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="")
        with opened as file:
            reader = csv.DictReader(file)
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
