"""Swaps and batches of SINCERE's runs (github.com/Antonio-MI/sincere), from tables of its logs.

A folder with ``runs_summary.csv`` (run, setting, strategy, started, sla_s), ``batches.csv.gz``
(run, model, batch_size, t_lock_s, t_loaded_s, infer_s) and ``model_load_times.csv``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.perf.loading.records import LoadRecord
from penstock.perf.profiles.csv_rows import csv_rows

RUNS, BATCHES, LOADS = "runs_summary.csv", "batches.csv.gz", "model_load_times.csv"
_SETTINGS = {"cc": True, "noncc": False}


@dataclass(frozen=True, slots=True)
class SincereBatch:
    """One batch of a run; ``swap_s`` is None where its model was resident."""

    run: str
    confidential: bool
    strategy: str
    sla_s: float
    model: str
    size_bytes: int
    batch_size: int
    swap_s: float | None
    infer_s: float
    first: bool


def is_sincere(path: Path) -> bool:
    """Whether a folder has the tables."""
    return all((path / name).is_file() for name in (RUNS, BATCHES, LOADS))


def sincere_batches(folder: Path) -> list[SincereBatch]:
    """Every batch, run by run in the order in which they were started. Raises InputError."""
    sizes = {row.text("model"): round(row.number("size_true_fp32_gib", above=True) * GIB)
             for row in csv_rows(folder / LOADS, ("model", "size_true_fp32_gib"))}
    runs = {row.text("run"): row for row in csv_rows(
        folder / RUNS, ("run", "setting", "strategy", "sla_s", "started"))}
    batches: dict[str, list[SincereBatch]] = {}
    for row in csv_rows(folder / BATCHES, ("run", "model", "batch_size", "t_lock_s", "t_loaded_s",
                                           "infer_s")):
        number, model = row.text("run"), row.text("model")
        for column, known in (("run", runs), ("model", sizes)):
            if row.text(column) not in known:
                row.fail(column, f"one that {RUNS if column == 'run' else LOADS} has")
        loaded_s = row.number_or_none("t_loaded_s")
        mine = batches.setdefault(number, [])
        mine.append(SincereBatch(
            number, runs[number].choice("setting", _SETTINGS), runs[number].text("strategy"),
            runs[number].number("sla_s"), model, sizes[model], row.whole("batch_size"),
            None if loaded_s is None else loaded_s - row.number("t_lock_s"),
            row.number("infer_s"), not mine))
    if not batches:
        raise InputError(f"{folder / BATCHES}: no batches")
    ordered = sorted(batches, key=lambda number: runs[number].text("started"))
    return [one for number in ordered for one in batches[number]]


def sincere_loads(batches: list[SincereBatch]) -> Iterator[LoadRecord]:
    """The swaps. One host per setting: its page cache outlived the runs."""
    loaded: set[str] = set()
    for one in batches:
        if one.swap_s is None:
            continue
        yield LoadRecord("confidential" if one.confidential else "plain", one.run, one.model,
                         one.size_bytes, one.swap_s, one.run not in loaded, one.confidential)
        loaded.add(one.run)
