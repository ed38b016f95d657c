"""``penstock lab experiment sincere``: SINCERE's grid of runs, simulated."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from penstock.cli.executor import executor
from penstock.cli.exits import OK
from penstock.cli.options import (
    AsJson,
    FirstSeed,
    Jobs,
    NeededDir,
    NumSeeds,
    On,
    Policies,
    SelfContained,
)
from penstock.core.errors import InputError, nearest

if TYPE_CHECKING:
    from penstock.published.sincere.cells import Cell, Setup

Value = TypeVar("Value")

CELLS, TABLE, SUMMARY, PAGE = "cells", "results.csv", "summary.json", "report.html"
_MOST_REQUESTS = 2_000_000
_FILES = frozenset({CELLS, TABLE, SUMMARY, PAGE})


def sincere(
    out: NeededDir,
    policies: Policies = None,
    patterns: Annotated[str, typer.Option(
        "--patterns", metavar="LIST", help="Traffic patterns.")] = "gamma,bursty,ramp",
    rates: Annotated[str, typer.Option(
        "--rates", metavar="LIST", help="Nominal requests per second.")] = "4,8,12",
    slas: Annotated[str, typer.Option(
        "--slas", metavar="LIST", help="SLAs: longest time for an answer, seconds.")]
    = "40,60,80",
    modes: Annotated[str, typer.Option(
        "--modes", metavar="LIST", help="cc: with confidential computing; noncc: without.")]
    = "cc,noncc",
    seeds: NumSeeds = 5,
    seed: FirstSeed = 0,
    duration_s: Annotated[float, typer.Option(
        "--duration-s", min=1.0, max=1e6, metavar="SECONDS",
        help="Duration of the arrivals, seconds.")] = 1200.0,
    exact: Annotated[bool, typer.Option(
        "--exact", help="Use patterns with the nominal mean rate instead of the published "
                        "patterns.")]
    = False,
    timers: Annotated[str, typer.Option(
        "--timers", metavar="as-run|own",
        help="Load times for the strategies' timers: those of the published runs, or each "
             "mode's own.")] = "as-run",
    residents: Annotated[int, typer.Option(
        "--residents", min=1, max=3, metavar="N",
        help="Models on the device at once, for policies that support more than one.")] = 1,
    weights: Annotated[str, typer.Option(
        "--weights", metavar="fp32|bf16",
        help="Number format of the weights; bf16 halves loads, batches take as long as in "
             "fp32.")] = "fp32",
    steady: Annotated[bool, typer.Option(
        "--steady", help="Use mean times of loads and batches, without the measured variation.")]
    = False,
    jobs: Jobs = 0, on: On = None,
    as_json: AsJson = False,
    self_contained: SelfContained = False,
) -> int:
    """Simulate SINCERE's grid: strategies, patterns, rates and SLAs, with and without confidential
    computing.

    One H100, three models, load times as in SINCERE's runs. Each finished cell is stored, so a
    stopped run continues. DIR/results.csv has a row per cell and seed; DIR/summary.json has means
    over seeds with intervals and the paired gap between the modes; DIR/report.html has the same
    figures as plots.
    """
    from penstock.cli.console import note, print_json, print_tables, progress
    from penstock.cli.files import library
    from penstock.published.sincere.cells import MODES, PUBLISHED, TIMERS, WEIGHTS, Setup
    from penstock.published.sincere.grid import Axes, cells, documents, rows, summary
    from penstock.published.sincere.grid_page import write_grid_page
    from penstock.published.sincere.grid_tables import grid_blocks
    from penstock.report.files import write_summary
    from penstock.report.rows import write_rows
    from penstock.workload.patterns import PATTERNS

    axes = Axes(
        _policies(policies) if policies is not None else PUBLISHED,
        _names("--patterns", patterns, PATTERNS), _numbers("--rates", rates),
        _numbers("--slas", slas), _names("--modes", modes, MODES), range(seed, seed + seeds))
    setup = Setup(duration_s, exact=exact, timers=_name("--timers", timers, TIMERS),
                  residents=residents, weights=_name("--weights", weights, WEIGHTS),
                  spread=not steady)
    every = cells(axes)
    if (num := max(axes.rates_per_s) * duration_s) > _MOST_REQUESTS:
        raise InputError(f"--rates, --duration-s: {num:,.0f} requests in a cell; expected at most "
                         f"{_MOST_REQUESTS:,}")
    found = _resumed(out, every, setup)
    if found:
        note(f"{len(found):,} of {len(every):,} cells are in {out} already")
    with progress("simulating", len(every)) as update:
        for cell, document in documents(every, setup, found, executor(jobs, on)):
            _kept(write_summary, out / CELLS / f"{cell.name}.json", document)
            found[cell.name] = document
            update(f"{len(found):,} of {len(every):,} cells", len(found))
    ordered = [found[cell.name] for cell in every]
    document = summary(ordered, axes, setup)
    _kept(write_rows, out / TABLE, rows(ordered))
    _kept(write_summary, out / SUMMARY, document)
    _kept(partial(write_grid_page, library=library(self_contained)), out / PAGE, document)
    if as_json:
        print_json(document)
    else:
        print_tables(grid_blocks(document))
    note(f"files in {out}")
    return OK


def _policies(text: str) -> list[str]:
    """Policies of a list, each checked down to the values of its settings."""
    from penstock.published.sincere.contender import contender

    labels = [label.strip() for label in text.split(",")]
    for label in labels:
        contender(label)
    return labels


def _resumed(folder: Path, every: "Sequence[Cell]", setup: "Setup") -> dict[str, Any]:
    """Cells that the folder has, by name. Raises InputError for one of other settings and for a
    folder that something else is in."""
    from penstock.cli.files import read_json
    from penstock.published.sincere.grid import check_resumed
    from penstock.report.files import LIBRARY

    if not folder.exists():
        return {}
    if not folder.is_dir():
        raise InputError(f"--out {folder}: is a file; expected a folder")
    others = sorted(path.name for path in folder.iterdir()
                    if path.name not in {*_FILES, LIBRARY} and not path.name.startswith("."))
    if others:
        raise InputError(f"--out {folder}: holds {others[0]}; expected a new folder, or one of "
                         "this experiment")
    found = {}
    for cell in every:
        path = folder / CELLS / f"{cell.name}.json"
        if path.exists():
            try:
                found[cell.name] = check_resumed(read_json(path), cell, setup)
            except InputError as error:
                text = str(error)
                raise InputError(text if str(path) in text else f"{path}: {text}") from error
    return found


def _kept(write: Callable[[Path, Any], None], path: Path, what: Any) -> None:
    try:
        write(path, what)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _names(option: str, text: str, valid: Sequence[Value]) -> list[Value]:
    """Names of a list parted by commas."""
    known = {str(name): name for name in valid}
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise InputError(f"{option}: {word!r} is unknown{nearest(word, known)}")
    return [known[word] for word in words]


def _name(option: str, text: str, valid: Sequence[Value]) -> Value:
    """One name, not a list."""
    found = _names(option, text, valid)
    if len(found) > 1:
        raise InputError(f"{option}: {text!r}; expected one of {', '.join(map(str, valid))}")
    return found[0]


def _numbers(option: str, text: str) -> list[float]:
    """Positive numbers of a list parted by commas."""
    found = []
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            value = 0.0
        if not 0.0 < value < 1e6:
            raise InputError(f"{option}: {word.strip()!r}; expected positive numbers, parted by "
                             "commas")
        found.append(value)
    return found
