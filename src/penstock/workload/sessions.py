"""Conversations of several requests: each turn is sent after the answer to the turn before."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.columns import name_index
from penstock.workload.loops import thinks_s
from penstock.workload.trace import Labels, Trace
from penstock.workload.workload import FloatColumn, IntColumn, Loops

_LEAST_BLOCKS = 2  # the first block is a system prompt that all requests may have in common


@dataclass(frozen=True, slots=True)
class Sessions:
    """Conversations that begin when the trace's do.

    A next turn comes ``think_s`` after the answer to the turn before: constant, or drawn from a
    gamma distribution with the coefficient of variation ``think_cv``. Where ``think_s`` is None,
    the gap between two turns is that of the trace, or longer where the answer takes longer.
    """

    think_s: float | None = None
    think_cv: float = 0.0

    def check(self) -> None:
        """Raise InputError for values that no conversation can have."""
        for name, value in (("think_s", self.think_s), ("think_cv", self.think_cv)):
            if value is not None and not 0.0 <= value < np.inf:
                raise InputError(f"{name} is {value:g}; expected a number from 0")
        if self.think_s is None and self.think_cv:
            raise InputError("think_cv is stated without think_s")

    def loops(self, session: IntColumn, arrival_s: FloatColumn, recorded_s: FloatColumn,
              rng: np.random.Generator) -> Loops:
        """Return a loop of one client for each session, in order of first requests.

        ``session`` has the session of every request. The first turns come at ``arrival_s``, and
        ``recorded_s`` has the trace's own times.
        """
        _, first, index = np.unique(session, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        index = rank[index]
        begins = np.zeros(len(session), np.bool_)
        begins[first] = True
        starts_s = tuple(np.array([start_s]) for start_s in arrival_s[begins].tolist())
        if self.think_s is None:
            return Loops(starts_s, index, np.zeros(len(session)), _gaps_s(index, recorded_s))
        thinks = thinks_s(rng, len(session), self.think_s, self.think_cv)
        return Loops(starts_s, index, np.where(begins, 0.0, thinks), np.zeros(len(session)))


def has_sessions(trace: Trace) -> bool:
    """Whether a column or prefix hashes tell the sessions of a trace."""
    return _stated(trace) is not None or bool(trace.prefixes)


def sessions_of(trace: Trace) -> IntColumn:
    """Return the session of every request: by the trace's column, else by its prefix hashes.

    Sessions are numbers below the number of requests. A row without a session is one of its own.
    By hashes, a request goes on with the latest earlier one that has a shorter prompt, at least two
    full blocks, and its last full block in the request's prompt. Raises InputError for a trace with
    neither.
    """
    named = _stated(trace)
    if named is not None:
        return _named(named)
    if not trace.prefixes:
        raise InputError(f"{trace.source or 'the trace'}: no column 'session' and no prefix hashes;"
                         " sessions need one of them (where another column names the session, "
                         "state columns: {session: COLUMN})")
    return _by_prefixes(trace)


def _stated(trace: Trace) -> Labels | None:
    """The column of sessions, None where all of it is empty."""
    stated = trace.session
    return stated if stated is not None and any(map(str.strip, stated.names)) else None


def _named(labels: Labels) -> IntColumn:
    names = [name.strip() for name in labels.names]
    known = name_index(names, {})[labels.index]
    _, first, session = np.unique(known, return_index=True, return_inverse=True)
    unnamed = np.array([not name for name in names])[labels.index]
    return np.where(unnamed, np.arange(len(session)), first[session])


def _by_prefixes(trace: Trace) -> IntColumn:
    prompts, offsets = trace.prompt_tokens.tolist(), trace.prefixes.offsets.tolist()
    values, block_tokens = trace.prefixes.values.tolist(), trace.prefixes.block_tokens
    # Requests by their last full block. Of two, the later counts unless its prompt is longer.
    ending: dict[int, list[int]] = defaultdict(list)
    session = list(range(len(prompts)))
    for request, prompt in enumerate(prompts):
        full = min(prompt // block_tokens, offsets[request + 1] - offsets[request])
        hashes = values[offsets[request]:offsets[request] + full]
        earlier = [next((one for one in reversed(ending[value]) if prompts[one] < prompt), -1)
                   for value in hashes if value in ending]
        parent = max(earlier, default=-1)
        if parent >= 0:
            session[request] = session[parent]
        if full >= _LEAST_BLOCKS:
            same = ending[hashes[-1]]
            while same and prompts[same[-1]] >= prompt:
                same.pop()
            same.append(request)
    return np.array(session, np.int64)


def _gaps_s(index: IntColumn, recorded_s: FloatColumn) -> FloatColumn:
    """Return the time since the request before of the same session, 0 for the first."""
    order = np.argsort(index, kind="stable")
    gaps = np.diff(recorded_s[order], prepend=0.0)
    gaps[np.diff(index[order], prepend=-1) != 0] = 0.0
    found = np.empty_like(gaps)
    found[order] = gaps
    return found
