"""Steps of a simulated run by kind, and the requests that a statistic is of."""

import numpy as np

from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.metrics.table import RequestTable
from penstock.published.measured.rows import Measured

# Steps whose logarithms agree to this part are one kind.
_KINDS_PER_DOUBLING = (3.0, 4.0, 4.0)
_MIDDLE = (0.42, 0.58)  # of times to first token, around a median


def decoding(table: RequestTable, middle_s: FloatColumn) -> FloatColumn:
    """Return for each time the sum, over the requests that decode then, of the share of a token gap
    in the request's answer."""
    share = 1.0 / (table.output_tokens - 1)

    def begun(times_s: FloatColumn) -> FloatColumn:
        order = np.argsort(times_s)
        sums = np.concatenate(([0.0], np.cumsum(share[order])))
        found: FloatColumn = sums[np.searchsorted(times_s[order], middle_s, "right")]
        return found

    return begun(table.first_token_s) - begun(table.last_token_s)


def seen_by_statistic(row: Measured, table: RequestTable) -> RequestTable:
    """Return the requests of which a row states the time to first token: all, or those around the
    median."""
    if not row.is_median:
        return table
    low, high = np.quantile(table.ttft_s, _MIDDLE)
    inside = (table.ttft_s >= low) & (table.ttft_s <= high)
    return table.take(inside) if inside.any() else table


def kinds(steps: FloatColumn) -> tuple[IntColumn, IntColumn]:
    """Return the kind of each step, and the kinds."""
    sizes = np.stack([np.round(np.log2(steps[:, at] + 1.0) * fine)
                      for at, fine in zip((3, 5, 6), _KINDS_PER_DOUBLING, strict=True)], axis=1)
    found, kind = np.unique(sizes, axis=0, return_inverse=True)
    return kind.reshape(-1), np.arange(len(found))
