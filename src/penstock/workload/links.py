"""Requests that wait for others: turns of a conversation, calls of an agent, joins and spawns."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.workload.workload import FloatColumn, IntColumn, Links

NO_LINK = -1


def links(row: IntColumn, after: IntColumn, delay_s: FloatColumn, on_dispatch: bool) -> Links:
    """Return links of one kind: all ``on_dispatch``, or all on completion."""
    return Links(row, after, delay_s, np.full(len(row), on_dispatch))


def all_links(parts: Sequence[Links]) -> Links:
    """Return the links of all parts, which number the same requests."""
    return Links(*(np.concatenate([getattr(part, name) for part in parts])
                   for name in ("row", "after", "delay_s", "on_dispatch")))


def turns_before(session: IntColumn) -> IntColumn:
    """Return the request before of the same session, NO_LINK for a session's first."""
    order = np.argsort(session, kind="stable")
    same = np.diff(session[order]) == 0
    found = np.full(len(session), NO_LINK, np.int64)
    found[order[1:][same]] = order[:-1][same]
    return found


def recorded(before: IntColumn, times_s: FloatColumn) -> Links:
    """Return links to the requests ``before`` that keep the recorded gaps: a request comes after
    the answer, and no earlier after the request before it than in ``times_s``."""
    row = np.flatnonzero(before >= 0)
    after = before[row]
    return all_links([links(row, after, np.zeros(len(row)), on_dispatch=False),
                      links(row, after, times_s[row] - times_s[after], on_dispatch=True)])


def answered(found: Links, thinks_s: FloatColumn) -> Links:
    """Return the same pairs, where each request comes its think time after all the answers."""
    pairs = np.unique(np.stack((found.row, found.after)), axis=1)
    return links(pairs[0], pairs[1], thinks_s[pairs[0]], on_dispatch=False)


def taken_links(found: Links, rows: IntColumn, num: int) -> Links:
    """Return the links of ``num`` requests for ``rows`` of them, each at most once, in that order.
    A link to a request that is left out is dropped."""
    at = np.full(num, NO_LINK, np.int64)
    at[rows] = np.arange(len(rows))
    return _placed(found, at)


def repeated_links(found: Links, num: int, length: int) -> Links:
    """Return the links of ``num`` requests that come again round by round, ``length`` in all.
    Requests of different rounds do not wait for each other."""
    parts = [Links(found.row + first, found.after + first, found.delay_s, found.on_dispatch)
             for first in range(0, max(length, 1), num)]
    whole = all_links(parts)
    kept = whole.row < length
    return Links(whole.row[kept], whole.after[kept], whole.delay_s[kept], whole.on_dispatch[kept])


def links_of(found: Links, rows: NDArray[np.bool_]) -> Links:
    """Return the links for the requests that the mask ``rows`` picks. A link to a request that is
    left out is dropped."""
    return _placed(found, np.where(rows, np.cumsum(rows) - 1, NO_LINK))


def joined_links(parts: Sequence[tuple[int, Links | None]], order: IntColumn) -> Links | None:
    """Return the links of several workloads, given as (requests, links), put into one ``order``."""
    if all(found is None for _, found in parts):
        return None
    at = np.empty(len(order), np.int64)
    at[order] = np.arange(len(order))
    moved, first = [], 0
    for num, found in parts:
        if found is not None:
            moved.append(_placed(found, at[first:first + num]))
        first += num
    return all_links(moved)


def _placed(found: Links, at: IntColumn) -> Links:
    """The links of requests that stand at other places, NO_LINK where a request is left out."""
    row, after = at[found.row], at[found.after]
    kept = (row >= 0) & (after >= 0)
    return Links(row[kept], after[kept], found.delay_s[kept], found.on_dispatch[kept])
