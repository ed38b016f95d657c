"""Noise of measured points: how far runs of the same point differ."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import median
from typing import Any

from penstock.published.measured.predict import METRICS
from penstock.published.measured.rows import Measured

_MOST_PAIRS = 200  # of one setting, so that a point that was run often does not decide alone
_SAME = 1e-3  # figures of one run are rounded to three or more digits
_TITLES = ("TTFT", "TPOT", "tokens/s")


def noise_table(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return the median difference between runs of equal settings, of the same release of the
    engine and of different ones. A pair differs by |a / b - 1|, the larger value over the smaller.
    """
    return [record for name, same in (("same release", True), ("another release", False))
            if (record := _record(name, [pair for pair in _pairs(rows)
                                         if (pair[0].version == pair[1].version) is same]))]


def _record(name: str, pairs: Sequence[tuple[Measured, Measured]]) -> dict[str, Any] | None:
    if not pairs:
        return None
    record: dict[str, Any] = {"runs": name, "pairs": len(pairs)}
    for metric, title in zip(METRICS, _TITLES, strict=True):
        values = [(getattr(one, metric), getattr(other, metric)) for one, other in pairs]
        found = [max(a, b) / min(a, b) - 1.0 for a, b in values if a and b]
        record[f"{title} median"] = median(found) if found else "-"
    return record


def _pairs(rows: Sequence[Measured]) -> Iterator[tuple[Measured, Measured]]:
    settings: dict[Any, list[Measured]] = defaultdict(list)
    for row in rows:
        settings[row.hardware, row.model, row.precision, row.kv_precision, row.framework,
                 row.spec_decode, row.disaggregated, row.length_kind, row.load_kind, row.num_gpus,
                 row.tp, row.pp, row.ep, row.dp, row.isl, row.osl, row.load_value, row.is_median,
                 row.notes].append(row)
    for same in settings.values():
        yield from [pair for pair in list(combinations(same, 2))[:_MOST_PAIRS]
                    if not _is_one_run(*pair)]


def _is_one_run(one: Measured, other: Measured) -> bool:
    """Whether two collections have the same run: all of its figures agree."""
    values = [(getattr(one, metric), getattr(other, metric)) for metric in METRICS]
    known = [(a, b) for a, b in values if a and b]
    return all(abs(a / b - 1.0) < _SAME for a, b in known)
