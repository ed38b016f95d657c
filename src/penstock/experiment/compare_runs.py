"""Runs side by side, whatever they ran on: a bench, a simulation, what another tool measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.metrics.attainment import per_second
from penstock.metrics.counts import span_of
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import RequestTable
from penstock.workload.streams import stream

NUM_RESAMPLES = 400
LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
SHARES = {"p50": 50.0, "p99": 99.0}


def compare_runs(tables: Mapping[str, RequestTable], seed: int = 0) -> dict[str, Any]:
    """Every class's figures in every run, and how they differ from the first run's.

    A difference comes with its 95 % bootstrap interval (Efron and Tibshirani, "An Introduction to
    the Bootstrap", chapter 13): requests are drawn again with replacement, the same ones from both
    runs where both were sent the same. It takes requests as independent, which those that queue
    together are not. ``same_requests`` says of each run whether it was sent what the first was.
    Raises InputError when the runs have no class in common.
    """
    first = next(iter(tables.values()))
    classes = [name for name in first.service_classes
               if all(len(table.of_class(name)) for table in tables.values())]
    if not classes:
        raise InputError("the runs have no service class in common: "
                         + "; ".join(f"{label} has {', '.join(table.service_classes)}"
                                     for label, table in tables.items()))
    return {
        "runs": list(tables),
        "same_requests": [_alike(first, table) for table in tables.values()],
        "classes": {name: _of_class(list(tables.values()), name, seed) for name in classes}}


def _alike(one: RequestTable, other: RequestTable) -> bool:
    """Whether the same requests were sent, at the same times."""
    return (len(one) == len(other)
            and bool(np.array_equal(one.request_id, other.request_id))
            and bool(np.array_equal(one.prompt_tokens, other.prompt_tokens))
            and bool(np.allclose(one.arrival_s, other.arrival_s, atol=1e-3)))


def _of_class(whole: Sequence[RequestTable], name: str, seed: int) -> dict[str, Any]:
    tables = [table.of_class(name) for table in whole]
    windows_s = [span_of(table).whole_window_s for table in whole]
    columns = [_columns(table) for table in tables]
    found: dict[str, Any] = {
        "num_requests": [len(table) for table in tables],
        "goodput_requests_per_s": {"values": [
            per_second(int(table.met_slo.sum()), window_s)
            for table, window_s in zip(tables, windows_s, strict=True)]}}
    for figure, (column, share) in _figures().items():
        differences: list[dict[str, float] | None] = [None]
        for table, one in zip(tables[1:], columns[1:], strict=True):
            differences.append(_difference(columns[0][column], one[column], share,
                                           stream(seed, name, figure),
                                           paired=_alike(tables[0], table)))
        found[figure] = {"values": [_value(one[column], share) for one in columns],
                         "differences": differences}
    return found


def _figures() -> dict[str, tuple[str, float | None]]:
    """Name -> the column it is taken of, and which percentile; None is the mean."""
    return {"attainment": ("met_slo", None), **{
        f"{latency}.{name}": (latency, share) for latency in LATENCIES
        for name, share in SHARES.items()}}


def _columns(table: RequestTable) -> dict[str, FloatColumn]:
    return {"met_slo": table.met_slo.astype(np.float64), "ttft_s": table.ttft_s,
            "tpot_s": np.where(table.finished, table.tpot_s, np.nan), "e2e_s": table.e2e_s}


def _value(column: FloatColumn, share: float | None) -> float | None:
    known = column[~np.isnan(column)]
    if not len(known):
        return None
    if share is None:
        return float(known.mean())
    return float(np.percentile(known, share, method="inverted_cdf"))


def _difference(base: FloatColumn, other: FloatColumn, share: float | None,
                rng: np.random.Generator, *, paired: bool) -> dict[str, float] | None:
    """Return the difference of a figure in ``other`` to ``base``; None where either has none."""
    before, after = _value(base, share), _value(other, share)
    if before is None or after is None:
        return None
    spread: list[float] = []
    for _ in range(NUM_RESAMPLES):
        rows = rng.integers(len(base), size=len(base))
        others = rows if paired else rng.integers(len(other), size=len(other))
        again = _value(base[rows], share), _value(other[others], share)
        if again[0] is not None and again[1] is not None:
            spread.append(again[1] - again[0])
    low, high = np.percentile(spread, [2.5, 97.5]) if spread else (np.nan, np.nan)
    return {"mean": after - before, "low": float(low), "high": float(high)}
