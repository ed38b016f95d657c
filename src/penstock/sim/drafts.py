"""The truth of speculative decoding: how many drafts each turn of each request accepts.

The accepted drafts of a turn are a function of the run's seed, the request's number and the turn's
number alone (a counter hashed by SplitMix64, Steele et al. 2014). So they depend on no order of
events, and a request that is computed again elsewhere finds the same draws.
"""

from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from penstock.fleet.values_speculation import Speculation
from penstock.metrics.definitions import IntColumn
from penstock.perf.speculation.acceptance import Acceptance

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX2: Final = np.uint64(0x94D049BB133111EB)
_AT_ONCE: Final = 1 << 20
"""Turns that are drawn at once."""


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _MIX1
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _MIX2
    return numbers ^ (numbers >> np.uint64(31))


def _uniforms(keys: NDArray[np.uint64], turns: IntColumn) -> NDArray[np.float64]:
    """Return a number from 0 to 1 for each pair of a request's key and a turn."""
    mixed = _mixed(keys + (turns.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def segments(lengths: IntColumn) -> tuple[IntColumn, IntColumn]:
    """Return for every element of ragged rows that lie one after another: its row, and its place in
    the row."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]


class TrueDrafts:
    """Acceptance of the requests of one group of replicas, ``acceptance`` by number of service
    class. ``depth`` is the usual one, at which the turns of whole answers are computed block by
    block."""

    def __init__(self, acceptance: Sequence[Acceptance], depth: int, deepest: int,
                 seed: int) -> None:
        self._rates = np.array([[of.rate(i) for i in range(deepest)] for of in acceptance],
                               dtype=np.float64)
        self._depth = depth
        self._seed = _mixed(np.array([seed], dtype=np.uint64) * _GOLDEN + _MIX1)[0]
        self._first = 0
        self._tokens = np.zeros(0, np.int64)
        self._class = np.zeros(0, np.int64)
        self._turns: list[int] = []  # of the whole answer, at the usual depth

    def add(self, output_tokens: IntColumn, class_index: IntColumn) -> None:
        """Take the requests of the next block."""
        start = self._first + len(self._tokens)
        self._tokens = np.concatenate((self._tokens, output_tokens))
        self._class = np.concatenate((self._class, class_index))
        ids = np.arange(start, start + len(output_tokens))
        rows = max(1, _AT_ONCE // max(1, int(output_tokens.max(initial=1))))
        for at in range(0, len(ids), rows):
            some = ids[at:at + rows]
            left = output_tokens[at:at + rows] - 1
            self._turns += self._turns_until(some, np.zeros_like(some), left,
                                             self._depth).tolist()

    def forget_before(self, request_id: int) -> None:
        """Forget the requests before a number."""
        drop = request_id - self._first
        self._tokens, self._class = self._tokens[drop:], self._class[drop:]
        del self._turns[:drop]
        self._first = request_id

    def whole_turns(self, request_id: int) -> int:
        """Return the turns of a whole answer at the usual depth: those after its first token."""
        return self._turns[request_id - self._first]

    def turns(self, request_ids: Sequence[int], done: Sequence[int], tokens: Sequence[int],
              depth: int) -> list[int]:
        """Return how many turns of ``depth`` drafts give each request ``tokens`` tokens, after the
        turns that are ``done``."""
        ids, before, left = (np.array(column, dtype=np.int64)
                             for column in (request_ids, done, tokens))
        found: list[int] = self._turns_until(ids, before, left, depth).tolist()
        return found

    def _turns_until(self, ids: IntColumn, done: IntColumn, tokens: IntColumn,
                     depth: int) -> IntColumn:
        rows, place = segments(tokens)  # a turn gives one token at least
        given = self._given(ids[rows], done[rows] + place, depth)
        total = np.cumsum(given)
        before = total - given
        start = np.cumsum(tokens) - tokens
        known = tokens > 0
        origin = np.zeros(len(ids), np.int64)
        origin[known] = before[start[known]]
        short = before - origin[rows] < tokens[rows]
        return np.bincount(rows[short], minlength=len(ids)).astype(np.int64)

    def _given(self, ids: IntColumn, turns: IntColumn, depth: int | IntColumn) -> IntColumn:
        """Return the tokens that a turn of each request gives."""
        keys = _mixed((ids.astype(np.uint64) + np.uint64(1)) * _MIX2 ^ self._seed)
        drawn = _uniforms(keys, turns)
        of_class = self._class[ids - self._first]
        given = np.ones(len(ids), np.int64)
        for position in range(self._rates.shape[1]):
            accepted = drawn < self._rates[of_class, position]
            given += accepted & (position < np.asarray(depth))
        return given

    def tokens(self, request_id: int, done: int, num_turns: int, depth: int) -> int:
        """Return the tokens of so many turns of one request, after those ``done``."""
        place = np.arange(done, done + num_turns)
        return int(self._given(np.full(num_turns, request_id, np.int64), place, depth).sum())

    def given(self, request_ids: IntColumn, done: IntColumn, num_turns: IntColumn,
              depths: IntColumn | None = None) -> IntColumn:
        """Return the tokens of every turn of every request, one request after another. ``depths``
        has the depth of each of these turns, None for the usual one."""
        rows, place = segments(num_turns)
        return self._given(request_ids[rows], done[rows] + place,
                           self._depth if depths is None else depths)

    def output_tokens(self, request_ids: IntColumn) -> IntColumn:
        """Return the true lengths of the requests' answers."""
        found: Any = self._tokens[request_ids - self._first]
        return np.asarray(found, dtype=np.int64)


def true_drafts(speculation: Speculation, classes: Sequence[str], seed: int,
                group: int) -> TrueDrafts:
    """Return the truth of a group's drafts in a run."""
    depth = speculation.depth
    return TrueDrafts([speculation.acceptance_of(name) for name in classes], depth.tokens,
                      max(1, *depth.choices), crc32(f"drafts {seed} {group}".encode()))
