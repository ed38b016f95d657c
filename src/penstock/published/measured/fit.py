"""Rates of engines from measured points, with the errors on curves that are left out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.experiment.workers import ALONE, Executor
from penstock.metrics.definitions import FloatColumn
from penstock.perf.step_time.joint_fit import SPREADS, Effects, JointFit, Run
from penstock.perf.step_time.measured import family
from penstock.perf.step_time.rate_table import SIDE_GROUPS, Errors, RateTable
from penstock.published.measured.express import express
from penstock.published.measured.names import catalog
from penstock.published.measured.observe import observe
from penstock.published.measured.predict import APART
from penstock.published.measured.rows import Measured, read_measured, run_of
from penstock.published.measured.speculation import NONE

FEWEST_RUNS = 40
_PIECE = 64
_PIECES_PER_NOTE = 8
_FEWEST_POINTS = 40  # of a group with errors of its own
_QUANTILES = (0.05, 0.95)
_SUSPECT = "SUSPECT"


class Point(NamedTuple):
    """A measured point and its run, or that of one of its sides. ``curve`` is what the points of
    one curve of loads share."""

    row: Measured
    run: Run
    curve: tuple[object, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the groups that have errors of their own, the widest first."""
        if self.run.of.role:
            return APART, f"{APART}, {self.run.of.engine}"
        known = catalog()
        kind = family(known.model(self.run.of.model), known.accelerator(self.row.hardware))
        return "all", kind, f"{kind}, {self.run.of.engine}"


@dataclass(frozen=True, slots=True)
class RatesFit:
    """Fitted rates as a document, and a record of errors on held-out curves per group."""

    document: Mapping[str, Any]
    held_out: Sequence[Mapping[str, Any]]
    num_points: int
    num_curves: int


class _Stage(NamedTuple):
    """A fit of some points: its effects, the ratios of points left out, and their curves."""

    points: Sequence[Point]
    effects: Effects
    ratios: Mapping[str, FloatColumn]
    num_curves: int


def _quiet(_text: str) -> None:
    """Report nothing."""


def fit_rates(folders: Sequence[Path], folds: int = 8, seed: int = 0,
              on_progress: Callable[[str], None] = _quiet, where: Executor = ALONE) -> RatesFit:
    """Fit rates to the points of all ``measured*.csv.gz`` files of ``folders``.

    Points whose prompts and answers were computed apart are fitted after the others, on top of
    their rates. The errors are of ``folds`` fits, each without another part of the curves. Raises
    InputError for a folder without such files, a broken file, fewer than FEWEST_RUNS points that
    can be expressed, or a metric that no left-out point has.
    """
    stages = _stages(folders, folds, seed, on_progress, where)
    lacking = [metric for metric, ratio in stages[0].ratios.items() if not np.isfinite(ratio).any()]
    if lacking:
        raise InputError(f"{', '.join(map(str, folders))}: no point of a curve that was left out "
                         f"has {' or '.join(lacking)}, so the errors are unknown; expected points "
                         "of several curves with all of " + ", ".join(stages[0].ratios))
    errors: dict[str, dict[str, Errors]] = {}
    records: list[dict[str, Any]] = []
    effects: Effects = {}
    for stage in stages:
        for rate, groups in stage.effects.items():
            effects.setdefault(rate, {}).update(groups)
        for name in sorted({name for point in stage.points for name in point.groups}):
            member = np.array([name in point.groups for point in stage.points])
            record: dict[str, Any] = {"group": name}
            for metric, ratio in stage.ratios.items():
                found = ratio[member & np.isfinite(ratio)]
                if len(found) >= _FEWEST_POINTS or name == "all":
                    errors.setdefault(metric, {})[name] = Errors(*(
                        round(float(q), 3) for q in np.quantile(found, _QUANTILES)))
                record |= _errors_of(metric, found)
            records.append(record)
    num_points = len({(point.row.file, point.row.row) for stage in stages
                      for point in stage.points})
    num_curves = sum(stage.num_curves for stage in stages)
    source = f"rates fitted on {num_points:,} measured points of {num_curves:,} curves"
    return RatesFit(RateTable(effects, errors, source).document(), records, num_points, num_curves)


def held_out_ratios(folders: Sequence[Path], folds: int = 8, seed: int = 0,
                    on_progress: Callable[[str], None] = _quiet, where: Executor = ALONE
                    ) -> dict[tuple[str, int], dict[str, float]]:
    """Return measured over predicted by metric for each point, by file and row, each predicted by
    a fit without the point's curve. Raises InputError as ``fit_rates`` does for its folders."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for stage in _stages(folders, folds, seed, on_progress, where):
        for place, point in enumerate(stage.points):
            found.setdefault((point.row.file, point.row.row), {}).update({
                metric: float(ratio[place]) for metric, ratio in stage.ratios.items()
                if np.isfinite(ratio[place])})
    return found


def _stages(folders: Sequence[Path], folds: int, seed: int,
            on_progress: Callable[[str], None], where: Executor) -> list[_Stage]:
    points = _points(folders, on_progress, where)
    whole = [point for point in points if not point.run.of.role]
    if len(whole) < FEWEST_RUNS:
        raise InputError(f"{', '.join(map(str, folders))}: {len(whole)} points with a time per "
                         f"output token can be expressed; expected at least {FEWEST_RUNS}")
    first = _stage(whole, JointFit([point.run for point in whole]), folds, seed, on_progress)
    sides = [point for point in points if point.run.of.role]
    if len(sides) < FEWEST_RUNS:
        return [first]
    return [first, side_stage(sides, RateTable(first.effects, {}, ""), folds, seed, on_progress)]


def side_stage(sides: Sequence[Point], base: RateTable, folds: int, seed: int,
               on_progress: Callable[[str], None]) -> _Stage:
    """Fit the effects of roles on top of the rates of a table."""
    fit = JointFit([point.run for point in sides], SIDE_GROUPS, base)
    return _stage(sides, fit, folds, seed, on_progress)


def _stage(points: Sequence[Point], fit: JointFit, folds: int, seed: int,
           on_progress: Callable[[str], None]) -> _Stage:
    part, num_curves = _parts(points, folds, seed)
    ratios = _held_out(fit, points, part, folds, on_progress)
    on_progress("all points")
    return _Stage(points, fit.named(fit.solve()), ratios, num_curves)


def _points(folders: Sequence[Path], on_progress: Callable[[str], None],
            where: Executor) -> list[Point]:
    rows = [row for row in chain.from_iterable(map(read_measured, folders))
            if (row.disaggregated or row.spec_decode in NONE) and _SUSPECT not in row.notes]
    rows = _once_where_apart(rows)
    pieces = [rows[start:start + _PIECE] for start in range(0, len(rows), _PIECE)]
    points: list[Point] = []
    for number, runs in enumerate(where.results(_observe_all, pieces)):
        piece = pieces[number]
        points += [Point(row, run, _curve(row, run)) for row, found in zip(piece, runs, strict=True)
                   for run in found]
        if number % _PIECES_PER_NOTE == 0:
            on_progress(f"{number * _PIECE:,} of {len(rows):,} points simulated")
    return points


def _once_where_apart(rows: Sequence[Measured]) -> list[Measured]:
    """Return the rows, of those whose prompts and answers were computed apart the first of each
    run: the collections have most of them several times."""
    found = {(row.file, row.row) if not row.disaggregated else run_of(row): row
             for row in reversed(rows)}
    return list(reversed(found.values()))


def _curve(row: Measured, run: Run) -> tuple[object, ...]:
    """Return what the points of one curve share. Models of one size had the same runs."""
    if not run.of.role:
        return (row.hardware, row.model, row.framework, row.precision, row.tp, row.isl, row.osl)
    prefill, decode = express(row).fleet.replicas
    return (row.hardware, run.of.engine, run.of.format, run.of.attention, row.isl, row.osl,
            prefill.count, prefill.parallelism, decode.count, decode.parallelism,
            decode.speculation is None)


def _observe_all(rows: list[Measured]) -> list[tuple[Run, ...]]:
    return [observe(row) for row in rows]


def _parts(points: Sequence[Point], folds: int,
           seed: int) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int]:
    """Return the part of each point, the same for all points of a curve, and the number of
    curves."""
    curves = sorted({point.curve for point in points}, key=repr)
    drawn = np.random.default_rng(seed).integers(0, folds, len(curves))
    part = dict(zip(curves, drawn.tolist(), strict=True))
    return np.array([part[point.curve] for point in points]), len(curves)


def _held_out(fit: JointFit, points: Sequence[Point], part: Any, folds: int,
              on_progress: Callable[[str], None]) -> dict[str, FloatColumn]:
    """Return measured over predicted by metric, each point predicted by the fit without it."""
    predicted = np.full((len(SPREADS), len(points)), np.nan)
    for number in range(folds):
        on_progress(f"fit {number + 1} of {folds} without a part of the curves")
        out = part == number
        if out.any() and not out.all():
            predicted[:, out] = fit.predicted(fit.solve(~out))[:, out]
    measured = np.array([[one.measured_s for one in point.run.sums] for point in points]).T
    # Where prompts queue, the time to first token is a power of the steps' time.
    power = [point.run.ttft.trust if point.run.of.role else 1.0 for point in points]
    tpot, ttft, whole = measured / predicted
    ttft = ttft**power
    gaps = np.array([max(0.0, (point.row.osl or 1.0) - 1.0) for point in points])
    # A closed loop's throughput is inverse to the time of an answer (Little's law).
    answer = (predicted[1] + gaps * predicted[0]) / (measured[1] + gaps * measured[0])
    answer[[not point.row.output_tok_per_s for point in points]] = np.nan
    return {"ttft_s": ttft, "tpot_s": tpot,
            "output_tok_per_s": np.where(np.isfinite(whole), 1.0 / whole, answer)}


def _errors_of(metric: str, ratio: FloatColumn) -> Iterator[tuple[str, Any]]:
    """Return median, 90th percentile and bias of predicted over measured less 1."""
    errors = 1.0 / ratio - 1.0
    if not len(errors):
        return iter(())
    return iter({f"{metric} points": len(errors),
                 f"{metric} median": float(np.median(np.abs(errors))),
                 f"{metric} p90": float(np.quantile(np.abs(errors), 0.9)),
                 f"{metric} bias": float(np.median(errors))}.items())
