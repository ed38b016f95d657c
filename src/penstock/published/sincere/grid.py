"""The grid: its cells, their runs, and what the seeds say together."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

from penstock import __version__
from penstock.core.errors import InputError
from penstock.experiment.workers import ALONE, Executor
from penstock.metrics.seeds import SeedMean, paired_difference, seed_mean
from penstock.published.sincere.cells import (
    MODES,
    PUBLISHED,
    Cell,
    Mode,
    Setup,
    run_cell,
    settings_of,
)
from penstock.workload.patterns import PATTERNS, Pattern

MOST_CELLS = 100_000
FIGURES = ("sla_received", "sla_served", "goodput_per_s", "throughput_per_s", "latency_mean_s",
           "latency_p95_s", "loads", "load_mean_s", "mean_batch", "loading_share",
           "computing_share", "idle_share", "lost_share", "shed_share", "unfinished_share")
AXES = ("pattern", "rate_per_s", "sla_s")

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Axes:
    """Values along each axis; by default the published ones with one seed."""

    policies: Sequence[str] = PUBLISHED
    patterns: Sequence[Pattern] = PATTERNS
    rates_per_s: Sequence[float] = (4.0, 8.0, 12.0)
    slas_s: Sequence[float] = (40.0, 60.0, 80.0)
    modes: Sequence[Mode] = MODES
    seeds: Sequence[int] = (0,)


def cells(axes: Axes) -> list[Cell]:
    """Every combination, seeds changing slowest. Raises InputError where there are none or too
    many, or one appears twice."""
    for name, values in (("policies", axes.policies), ("patterns", axes.patterns),
                         ("rates", axes.rates_per_s), ("slas", axes.slas_s),
                         ("modes", axes.modes), ("seeds", axes.seeds)):
        if not values:
            raise InputError(f"{name}: none given")
        if len(set(values)) < len(values):
            raise InputError(f"{name}: one appears twice in {', '.join(map(str, values))}")
    found = [Cell(mode, policy, pattern, rate, sla, seed) for seed, mode, policy, pattern, rate,
             sla in product(axes.seeds, axes.modes, axes.policies, axes.patterns, axes.rates_per_s,
                            axes.slas_s)]
    if len(found) > MOST_CELLS:
        raise InputError(f"{len(found):,} cells; expected at most {MOST_CELLS:,}")
    return found


def documents(every: Sequence[Cell], setup: Setup, done: Collection[str] = (),
              where: Executor = ALONE) -> Iterator[tuple[Cell, Document]]:
    """Each cell whose name is not ``done``, with its settings and figures, as they come."""
    waiting = [cell for cell in every if cell.name not in done]
    yield from zip(waiting, where.results(partial(_document, setup=setup), waiting),
                   strict=True)


def _document(cell: Cell, setup: Setup) -> Document:
    return {"settings": settings_of(cell, setup), "figures": run_cell(cell, setup)}


def check_resumed(document: object, cell: Cell, setup: Setup) -> Document:
    """A cell of an earlier run, which must be of the same settings. Raises InputError."""
    if not isinstance(document, dict) or not isinstance(document.get("figures"), dict) \
            or not isinstance(document.get("settings"), dict):
        raise InputError("not a cell of this experiment; remove it, or choose another --out")
    found: Document = document
    for name, value in settings_of(cell, setup).items():
        if name not in found["settings"] or found["settings"][name] != value:
            raise InputError(f"{name} is {found['settings'].get(name)!r} there and {value!r} "
                             "now; choose another --out")
    return found


def rows(found: Sequence[Document]) -> list[dict[str, Any]]:
    """One row per cell: settings, then figures; requests by reason are left to the cells."""
    return [{**document["settings"], **{
        name: value for name, value in document["figures"].items()
        if name not in ("reasons", "models")}} for document in found]


def summary(found: Sequence[Document], axes: Axes, setup: Setup) -> dict[str, Any]:
    """Return the summary over seeds.

    ``groups`` has means over seeds with 95 % intervals by mode and policy: of all cells, and of
    those at one value of an axis; of a seed, the mean over its cells counts. ``gaps`` has the
    paired differences cc - noncc of the same. ``cells`` has each cell on its own.
    """
    table = [_shares({**document["settings"], **document["figures"]}) for document in found]
    both = set(axes.modes) == set(MODES)
    return {
        "version": __version__, "setup": asdict(setup),
        "axes": {name: list(value) for name, value in asdict(axes).items()},
        "groups": [{"mode": mode, "policy": policy, **where, "figures": _means(mine, seed_mean)}
                   for mode, policy, where, mine in _groups(table, axes)],
        "gaps": [{"policy": policy, **where, "figures": _gaps(mine, theirs)}
                 for (policy, where), mine, theirs in _pairs(table, axes)] if both else [],
        "cells": [{"mode": mode, "policy": policy, **where, "figures": _means(mine, seed_mean)}
                  for mode, policy, where, mine in _each_cell(table, axes)],
        "reasons": [{"mode": mode, "policy": policy, "reasons": dict(sum(
            (Counter(row["reasons"]) for row in table
             if row["mode"] == mode and row["policy"] == policy), Counter()))}
            for mode, policy in product(axes.modes, axes.policies)],
        "models": _models(table, axes),
    }


Row = Mapping[str, Any]


def _shares(row: dict[str, Any]) -> Row:
    """The row with its counts as shares of what was received."""
    return row | {f"{name}_share": row[name] / row["received"] if row["received"] else None
                  for name in ("lost", "shed", "unfinished")}


def _groups(table: Sequence[Row], axes: Axes
            ) -> Iterator[tuple[str, str, dict[str, Any], list[Row]]]:
    values = dict(zip(AXES, (axes.patterns, axes.rates_per_s, axes.slas_s), strict=True))
    wheres: list[dict[str, Any]] = [{}, *({axis: value} for axis in AXES for value in values[axis])]
    for mode, policy, where in product(axes.modes, axes.policies, wheres):
        yield mode, policy, where, _where(table, mode=mode, policy=policy, **where)


def _each_cell(table: Sequence[Row], axes: Axes
               ) -> Iterator[tuple[str, str, dict[str, Any], list[Row]]]:
    for mode, policy, *place in product(axes.modes, axes.policies, axes.patterns,
                                        axes.rates_per_s, axes.slas_s):
        where = dict(zip(AXES, place, strict=True))
        yield mode, policy, where, _where(table, mode=mode, policy=policy, **where)


def _pairs(table: Sequence[Row], axes: Axes
           ) -> Iterator[tuple[tuple[str, dict[str, Any]], list[Row], list[Row]]]:
    for mode, policy, where, mine in _groups(table, axes):
        if mode == "cc":
            yield (policy, where), mine, _where(table, mode="noncc", policy=policy, **where)


def _where(table: Sequence[Row], **values: Any) -> list[Row]:
    return [row for row in table if all(row[name] == value for name, value in values.items())]


def _means(mine: Sequence[Row], over: Callable[[list[float | None]], SeedMean]) -> dict[str, Any]:
    return {name: asdict(over(_per_seed(mine, name))) for name in FIGURES}


def _gaps(mine: Sequence[Row], theirs: Sequence[Row]) -> dict[str, Any]:
    return {name: asdict(paired_difference(_per_seed(mine, name), _per_seed(theirs, name)))
            for name in FIGURES}


def _per_seed(mine: Sequence[Row], name: str) -> list[float | None]:
    """Return the mean over each seed's cells that have a value."""
    by_seed: dict[int, list[float]] = {}
    for row in mine:
        known = by_seed.setdefault(row["seed"], [])
        if row[name] is not None:
            known.append(row[name])
    return [sum(known) / len(known) if known else None for _, known in sorted(by_seed.items())]


def _models(table: Sequence[Row], axes: Axes) -> list[dict[str, Any]]:
    """By mode, policy and model: requests of all cells and seeds."""
    found = []
    for mode, policy in product(axes.modes, axes.policies):
        mine = _where(table, mode=mode, policy=policy)
        for model in mine[0]["models"] if mine else ():
            counts = Counter[str]()
            for row in mine:
                counts.update(row["models"][model])
            found.append({"mode": mode, "policy": policy, "model": model, **counts})
    return found
