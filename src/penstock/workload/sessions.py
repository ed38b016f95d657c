"""Conversations of several requests: each turn is sent after the answer to the turn before."""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.columns import name_index
from penstock.workload.links import answered, recorded, repeated_links, turns_before
from penstock.workload.loops import thinks_s
from penstock.workload.trace import Labels, Trace
from penstock.workload.workload import IntColumn, Links

_LEAST_BLOCKS = 2  # the first block is a system prompt that all requests may have in common


@dataclass(frozen=True, slots=True)
class Sessions:
    """Conversations that begin when the trace's do, or at ``sessions_per_s`` as a Poisson process.

    A next turn comes ``think_s`` after the answers that it waits for: constant, or drawn from a
    gamma distribution with the coefficient of variation ``think_cv``. Where ``think_s`` is None,
    the times between turns are those of the trace: its delays where it states them, otherwise its
    gaps, or longer where the answer takes longer.
    """

    think_s: float | None = None
    think_cv: float = 0.0
    sessions_per_s: float | None = None

    def check(self) -> None:
        """Raise InputError for values that no conversation can have."""
        for name, value in (("think_s", self.think_s), ("think_cv", self.think_cv)):
            if value is not None and not 0.0 <= value < np.inf:
                raise InputError(f"{name} is {value:g}; expected a number from 0")
        if self.sessions_per_s is not None and not 0.0 < self.sessions_per_s < np.inf:
            raise InputError(f"sessions_per_s is {self.sessions_per_s:g}; expected a positive "
                             "number")
        if self.think_s is None and self.think_cv:
            raise InputError("think_cv is stated without think_s")

    def links(self, trace: Trace, length: int, rng: np.random.Generator) -> Links:
        """Return the links of the trace's requests, round by round, ``length`` in all."""
        found = trace.links
        if found is None:
            assert trace.arrival_s is not None, "sessions need a trace's own times"
            found = recorded(turns_before(sessions_of(trace)), trace.arrival_s)
        found = repeated_links(found, len(trace), length)
        if self.think_s is None:
            return found
        return answered(found, thinks_s(rng, length, self.think_s, self.think_cv))


def restarted(trace: Trace, sessions_per_s: float, rng: np.random.Generator) -> Trace:
    """Return the trace with sessions that begin as a Poisson process, in their order."""
    session, times_s = sessions_of(trace), trace.arrival_s
    assert times_s is not None, "sessions need a trace's own times"
    _, first, index = np.unique(session, return_index=True, return_inverse=True)
    starts_s = np.empty(len(first))
    starts_s[np.argsort(first)] = np.cumsum(rng.exponential(1.0 / sessions_per_s, len(first)))
    moved = times_s - times_s[first][index] + starts_s[index]
    order = np.argsort(moved, kind="stable")
    # In another order the hashes would tell other sessions, so these are named.
    named = replace(trace, session=Labels(tuple(map(str, range(len(first)))), index))
    return replace(named.take(order), arrival_s=moved[order])


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
