"""Measured operating points of a replica as a table."""

from pathlib import Path

from penstock.perf.calibration.values import ServedPoint
from penstock.perf.profiles.csv_rows import csv_rows
from penstock.perf.queueing.parameters import MAX_BATCH, RequestSize

COLUMNS = ("rate_per_s", "prompt_tokens", "output_tokens", "max_batch", "ttft_s", "itl_s")
"""Requests per second of one replica, mean lengths, the most sequences of a step, mean time to
first token with the wait, and mean gap between tokens."""


def read_points(path: Path) -> tuple[ServedPoint, ...]:
    """Read a CSV file with ``COLUMNS``, in the order of the measurements. Raises InputError."""
    return tuple(ServedPoint(
        row.number("rate_per_s", above=True),
        RequestSize(row.number("prompt_tokens"), row.number("output_tokens", 1.0)),
        min(row.whole("max_batch"), MAX_BATCH), 1e3 * row.number("ttft_s", above=True),
        1e3 * row.number("itl_s", above=True)) for row in csv_rows(path, COLUMNS))
