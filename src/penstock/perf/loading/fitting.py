"""Fit a loading model to timed loads, and say how far off it is on runs it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.core.units import GB
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.records import LoadRecord, missing_bytes, working_set_bytes
from penstock.perf.loading.values import (
    ConfidentialTerms,
    FirstLoad,
    LoadErrors,
    LoadEvidence,
)
from penstock.perf.robust import fit_nonnegative

Floats = NDArray[np.float64]

_MIN_LOADS = 6
_NUM_FOLDS = 5
_NUM_CAPACITIES = 25
# Wider than Huber's 1.345: a long load is seldom an outlier, and totals of runs follow the mean.
_HUBER = 3.0
# Capacities whose mean error is within this of the best one's are as good as it.
_AS_GOOD = 1.01
# Such a range of them leaves rates open: the largest is so many times the smallest.
_WIDE = 1.15


@dataclass(frozen=True, slots=True)
class LoadFit:
    """A fitted model, and how it fares on runs that were held out (five folds of runs).

    ``held_out`` and ``per_model_mean`` have an entry for ``plain`` and ``confidential`` loads, as
    far as there are any; the second is what each model's mean over the other runs would have said.
    ``page_cache_bytes`` is None where nothing depended on it, or where it was known what was
    cached; ``page_cache_range`` has the sizes that explain the loads as well as the best.
    """

    model: LoadingModel
    page_cache_bytes: int | None
    page_cache_range: tuple[int, int] | None
    held_out: dict[str, LoadErrors]
    per_model_mean: dict[str, LoadErrors]
    num_loads: int
    num_runs: int
    notes: tuple[str, ...]


def fit_loads(records: Sequence[LoadRecord], source: str,
              page_cache_bytes: int | None = None) -> LoadFit:
    """Fit fixed, copying and reading terms, what confidential mode adds to each, the first load's
    extra and the size of the page cache.

    Non-negative least squares on seconds with a wide Huber loss; the page cache's size, unless it
    is given, is the one whose fit errs least. Each run's first load is left to the extra.
    Raises InputError for too few loads.
    """
    later = [one for one in records if not one.first]
    if len(later) < _MIN_LOADS:
        raise InputError(f"{source}: {len(later)} loads after the first of their runs; expected "
                         f"at least {_MIN_LOADS}")
    table = _Table(records)
    capacities = _capacities(records) if page_cache_bytes is None else [page_cache_bytes]
    rows = ~table.first
    size, good = _best_capacity(table, capacities, rows)
    coefficients = _coefficients(table, size, rows)
    predicted, by_mean = _held_out(table, capacities)
    groups = {name: mask & rows for name, mask in (
        ("plain", ~table.confidential), ("confidential", table.confidential))
        if (mask & rows).any()}
    held_out = {name: errors_of(predicted[mask], table.seconds[mask])
                for name, mask in groups.items()}
    model = _model(table, coefficients, source, errors_of(predicted[rows], table.seconds[rows]))
    model = replace(model, first=_first_load(table, model, size))
    unknown = page_cache_bytes is None and len(capacities) > 1
    return LoadFit(model, size if unknown else page_cache_bytes,
                   (min(good), max(good)) if unknown else None, held_out,
                   {name: errors_of(by_mean[mask], table.seconds[mask])
                    for name, mask in groups.items()},
                   len(records), len(table.runs), _notes(table, later, good, coefficients))


def errors_of(predicted: Floats, seconds: Floats) -> LoadErrors:
    """Errors of predictions against measured seconds."""
    off = predicted - seconds
    spread = float(np.sum((seconds - seconds.mean()) ** 2))
    ratio = np.abs(predicted / seconds - 1.0)
    return LoadErrors(1.0 - float(np.sum(off**2)) / spread if spread else 0.0,
                      float(np.abs(off).mean()), float(off.mean()), float(off.std()),
                      float(ratio.mean()), float(np.quantile(ratio, 0.95)), len(seconds))


class _Table:
    """The loads as columns."""

    def __init__(self, records: Sequence[LoadRecord]) -> None:
        self.records = records
        self.seconds: Floats = np.array([one.seconds for one in records])
        self.size_gb: Floats = np.array([one.size_bytes / GB for one in records])
        self.first = np.array([one.first for one in records])
        self.confidential = np.array([one.confidential for one in records])
        self.runs = list(dict.fromkeys((one.host, one.run) for one in records))
        fold = {run: number % min(_NUM_FOLDS, max(2, len(self.runs)))
                for number, run in enumerate(self.runs)}
        self.fold = np.array([fold[one.host, one.run] for one in records])
        self.is_mixed = bool(self.confidential.any() and not self.confidential.all())

        self._missing: dict[int, Floats] = {}

    def missing_gb(self, page_cache_bytes: int) -> Floats:
        """Return the gigabytes that each load reads from disk; computed once per size of page
        cache."""
        if page_cache_bytes not in self._missing:
            self._missing[page_cache_bytes] = np.array(
                missing_bytes(self.records, page_cache_bytes)) / GB
        return self._missing[page_cache_bytes]

    def design(self, page_cache_bytes: int) -> Floats:
        """Columns: one, size, what comes from disk; the same again for confidential loads."""
        plain = np.column_stack([np.ones(len(self.seconds)), self.size_gb,
                                 self.missing_gb(page_cache_bytes)])
        if not self.is_mixed:
            return plain
        return np.hstack([plain, plain * self.confidential[:, None]])


def _capacities(records: Sequence[LoadRecord]) -> list[int]:
    """Sizes of the page cache to try; one where it cannot matter."""
    total = working_set_bytes(records)
    least = max(one.size_bytes for one in records)
    if total <= least or all(one.cached_bytes is not None for one in records):
        return [total]
    return [round(value) for value in np.linspace(0.5 * least, total, _NUM_CAPACITIES)]


def _coefficients(table: "_Table", page_cache_bytes: int, rows: NDArray[np.bool_]) -> list[float]:
    seconds = table.seconds[rows]
    return fit_nonnegative(table.design(page_cache_bytes)[rows], seconds,
                           np.full_like(seconds, seconds.mean()), huber=_HUBER)


def _best_capacity(table: _Table, capacities: Sequence[int], rows: NDArray[np.bool_]
                   ) -> tuple[int, list[int]]:
    """The page cache whose fit to these rows errs least, and all that are as good."""
    errors = {}
    for size in capacities:
        predicted = table.design(size)[rows] @ np.array(_coefficients(table, size, rows))
        errors[size] = float(np.abs(predicted - table.seconds[rows]).mean())
    least = min(errors.values())
    return (min(errors, key=lambda size: errors[size]),
            [size for size, error in errors.items() if error <= _AS_GOOD * least])


def _held_out(table: _Table, capacities: Sequence[int]) -> tuple[Floats, Floats]:
    """Return each load's prediction from the other folds' runs: by the model, whose page cache is
    sized anew each time, and by the mean of its model's loads."""
    predicted, by_mean = np.zeros_like(table.seconds), np.zeros_like(table.seconds)
    names = [(one.model, one.confidential) for one in table.records]
    for fold in sorted(set(table.fold.tolist())):
        learnt = (table.fold != fold) & ~table.first
        if learnt.sum() < _MIN_LOADS // 2:
            learnt = ~table.first
        size, _ = _best_capacity(table, capacities, learnt)
        found = np.array(_coefficients(table, size, learnt))
        held = table.fold == fold
        predicted[held] = table.design(size)[held] @ found
        overall = float(table.seconds[learnt].mean())
        for name in set(names):
            own = np.array([one == name for one in names])
            seen = own & learnt
            by_mean[own & held] = float(table.seconds[seen].mean()) if seen.any() else overall
    return predicted, by_mean


def _model(table: _Table, coefficients: Sequence[float], source: str, errors: LoadErrors
           ) -> LoadingModel:
    fixed_s, copy_s, read_s, *more = coefficients
    sizes = table.size_gb * GB
    evidence = LoadEvidence(source, errors.mean, errors.p95, errors.sd_s, float(sizes.min()),
                            float(sizes.max()))
    return LoadingModel(_rate(read_s), _rate(copy_s), evidence, fixed_s=fixed_s,
                        confidential=ConfidentialTerms(*more) if more else None)


def _rate(seconds_per_gb: float) -> float:
    return GB / seconds_per_gb if seconds_per_gb > 0.0 else float("inf")


def _first_load(table: _Table, model: LoadingModel, page_cache_bytes: int) -> FirstLoad:
    """Return the seconds that first loads took beyond the model, which starts with an empty
    cache."""
    if not table.first.any():
        return FirstLoad()
    missing = table.missing_gb(page_cache_bytes) * GB
    plain = replace(model, confidential=None)
    extra = [one.seconds - (model if one.confidential else plain).seconds(
        one.size_bytes, one.size_bytes - lacks)
        for one, lacks in zip(table.records, missing, strict=True) if one.first]
    return FirstLoad(max(0.0, float(np.mean(extra))), max(0.0, float(np.quantile(extra, 0.95))))


def _notes(table: _Table, later: Sequence[LoadRecord], good: Sequence[int],
           coefficients: Sequence[float]) -> tuple[str, ...]:
    found = []
    if len({one.size_bytes for one in later}) < 3:
        found.append("fewer than three sizes: what is fixed and what grows with the size cannot "
                     "be distinguished well")
    if max(good) > _WIDE * min(good):
        found.append(f"page caches of {min(good) / GB:.0f} to {max(good) / GB:.0f} GB explain the "
                     "loads equally well: copying and reading are not reliable apart")
    if coefficients[2] == 0.0:
        found.append("no load was slower for what it read from disk")
    if table.confidential.all():
        found.append("every load was confidential: what that adds is inside the other terms")
    return tuple(found)
