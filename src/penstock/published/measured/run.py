"""Every measured point simulated with its own engine and load, beside the measurement."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from penstock.metrics.definitions import FloatColumn
from penstock.published.figures import Figure, Options, Reproduction
from penstock.published.measured.noise import noise_table
from penstock.published.measured.predict import (
    APART,
    DRAFTED,
    INFERRED,
    METRICS,
    STATED,
    Interval,
    Predicted,
    predict,
)
from penstock.published.measured.rows import Measured, read_measured

_EXPRESSED_SHARE = 0.95
_EXPRESSED_SPLIT_SHARE = 0.8
_COVERAGE = (0.85, 0.95)  # of 90 % intervals
_PIECE = 64  # points of a piece of work


class Tolerance(NamedTuple):
    """Largest median of the relative errors, and the largest 90th percentile where one is asked
    for."""

    median: float
    p90: float | None = None


TOLERANCES = {
    "nvidia dense": {"tpot_s": Tolerance(0.06, 0.20), "ttft_s": Tolerance(0.12, 0.40),
                     "output_tok_per_s": Tolerance(0.06)},
    "nvidia mixture": {"tpot_s": Tolerance(0.10), "ttft_s": Tolerance(0.20),
                       "output_tok_per_s": Tolerance(0.10)},
    "amd": {"tpot_s": Tolerance(0.15), "output_tok_per_s": Tolerance(0.15)}}
"""Tolerances of the points of each family, by metric."""

MEDIANS = {DRAFTED: {"tpot_s": 0.15, "output_tok_per_s": 0.15},
           APART: {"tpot_s": 0.10, "ttft_s": 0.20}}
"""Largest medians of the errors of points whose intervals are not known, by metric."""

Point = tuple[Measured, Predicted]


def reproduce_measured(data: Path, options: Options) -> Reproduction:
    """Simulate the points of all ``measured*.csv.gz`` files in ``data`` and compare TTFT, TPOT and
    output tokens/s.

    Raises InputError for a folder without such files and for a broken file.
    """
    rows = read_measured(data)
    pieces = [rows[start:start + _PIECE] for start in range(0, len(rows), _PIECE)]
    points: list[Point] = []
    for piece, found in zip(pieces, options.where.results(_predict_all, pieces), strict=True):
        points += zip(piece, found, strict=True)
        options.on_progress(f"{len(points):,} of {len(rows):,} points")
    return Reproduction(
        "measured", tuple(_figures(points)), {"rows.csv": [_record(*point) for point in points]},
        tables={"Relative errors by group": _groups(points),
                "Differences between runs of the same settings, the floor": noise_table(rows)},
        remarks=_remarks(points))


def _predict_all(rows: list[Measured]) -> list[Predicted]:
    return [predict(row) for row in rows]


def _record(row: Measured, found: Predicted) -> dict[str, Any]:
    """Return a line of ``rows.csv``. Unknown values are empty."""
    record: dict[str, Any] = {"file": row.file, "row": row.row}
    for part in ("value", "low", "high"):
        name = "predicted" if part == "value" else part
        record |= {f"{name}_{metric}": getattr(found.metrics.get(metric), part, "")
                   for metric in METRICS}
    for metric in METRICS:
        measured = getattr(row, metric)
        record[f"measured_{metric}"] = "" if measured is None else measured
    return {**record, "group": found.group, "workers": found.workers,
            "not_expressed": found.not_expressed}


def _known(points: Sequence[Point], metric: str) -> list[tuple[Interval, float]]:
    """Return prediction and measurement of the points for which both are known."""
    return [(found.metrics[metric], getattr(row, metric)) for row, found in points
            if metric in found.metrics and getattr(row, metric)]


def _errors(points: Sequence[Point], metric: str) -> FloatColumn:
    """Return predicted over measured less 1."""
    return np.array([predicted.value / measured - 1.0
                     for predicted, measured in _known(points, metric)], dtype=np.float64)


def _coverage(points: Sequence[Point], metric: str) -> float | None:
    """Return the share of measurements within their interval, None without any."""
    inside = [predicted.low <= measured <= predicted.high
              for predicted, measured in _known(points, metric)]
    return sum(inside) / len(inside) if inside else None


def _figures(points: Sequence[Point]) -> Iterator[Figure]:
    asked = [found for row, found in points if not row.disaggregated and row.spec_decode == "none"]
    if asked:
        yield Figure("aggregated points without speculation, expressed", _EXPRESSED_SHARE,
                     sum(bool(found.metrics) for found in asked) / len(asked), "at_least",
                     note=f"{len(asked):,} points")
    split = [found for row, found in points if row.disaggregated]
    if split:
        yield Figure("disaggregated points, expressed", _EXPRESSED_SPLIT_SHARE,
                     sum(bool(found.metrics) for found in split) / len(split), "at_least",
                     note=f"{len(split):,} points, "
                          f"{sum(found.workers == INFERRED for found in split):,} inferred")
    for family, medians in MEDIANS.items():
        of_family = [point for point in points if point[1].family == family]
        for metric, most in medians.items():
            errors = np.abs(_errors(of_family, metric))
            if len(errors):
                yield Figure(f"{family}, {metric}: median error", most, float(np.median(errors)),
                             "at_most", note=f"{len(errors):,} points"
                                             + _by_workers(of_family, metric))
    for family, tolerances in TOLERANCES.items():
        of_family = [point for point in points if point[1].family == family]
        for metric, allowed in tolerances.items():
            yield from _family(f"{family}, {metric}", allowed, of_family, metric)


def _by_workers(points: Sequence[Point], metric: str) -> str:
    """Return the median error of points with stated and with inferred numbers of workers."""
    told = ""
    for workers in (STATED, INFERRED):
        errors = np.abs(_errors([point for point in points if point[1].workers == workers], metric))
        if len(errors):
            told += f"; {workers} workers {np.median(errors):.1%}"
    return told


def _family(name: str, allowed: Tolerance, points: Sequence[Point],
            metric: str) -> Iterator[Figure]:
    errors, coverage = np.abs(_errors(points, metric)), _coverage(points, metric)
    if coverage is None:
        return
    note = f"{len(errors):,} points"
    yield Figure(f"{name}: median error", allowed.median, float(np.median(errors)), "at_most",
                 note=note)
    if allowed.p90 is not None:
        yield Figure(f"{name}: 90th percentile of errors", allowed.p90,
                     float(np.quantile(errors, 0.9)), "at_most", note=note)
    low, high = _COVERAGE
    yield Figure(f"{name}: within the 90 % interval", (low + high) / 2.0, coverage, "absolute",
                 (high - low) / 2.0, note)


def _groups(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the errors of each group: median, 90th percentile and bias."""
    names = sorted({found.group for _, found in points if found.group})
    return [_of_group(name, [point for point in points if point[1].group == name])
            for name in names]


def _of_group(name: str, points: Sequence[Point]) -> dict[str, Any]:
    record: dict[str, Any] = {"group": name, "points": len(points)}
    statistics: dict[str, Callable[[FloatColumn], Any]] = {
        "median": lambda errors: np.median(np.abs(errors)),
        "p90": lambda errors: np.quantile(np.abs(errors), 0.9), "bias": np.median}
    for metric, title in zip(METRICS, ("TTFT", "TPOT", "tokens/s"), strict=True):
        errors = _errors(points, metric)
        record |= {f"{title} {what}": float(of(errors)) if len(errors) else "-"
                   for what, of in statistics.items()}
    return record


def _remarks(points: Sequence[Point]) -> tuple[str, ...]:
    """Return the most frequent reasons why points are not expressed."""
    reasons: dict[str, int] = {}
    for _, found in points:
        if found.not_expressed:
            reasons[found.not_expressed] = reasons.get(found.not_expressed, 0) + 1
    most = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(f"not expressed, {num:,} points: {reason}" for reason, num in most[:12])
