"""Turns of recorded sessions, whatever the file's form, and the trace that they make."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.core.units import ceil_div
from penstock.workload.columns import MAX_TOKENS, RowFaultError, name_index
from penstock.workload.links import all_links, links, recorded
from penstock.workload.mooncake import spread
from penstock.workload.trace import Labels, Prefixes, Trace, no_prefixes, offsets_of
from penstock.workload.workload import FloatColumn, IntColumn, Links

_MOST_S = 1e11


class Wait(NamedTuple):
    """A turn that is waited for, by its name: ``delay_s`` after the turn has ended, or was sent.
    Without a delay the gap of the file's times counts, and the turn must have ended."""

    name: str
    delay_s: float | None = None
    on_dispatch: bool = False


class Turn(NamedTuple):
    """One request of a session. ``row`` is the row of the file.

    ``at_s`` is when the request was sent or may be sent at the earliest, None where only ``waits``
    tell. ``session`` names the whole task. ``hashes`` of different ``scope`` never mean the same.
    """

    row: int
    name: str
    session: str
    at_s: float | None
    prompt_tokens: int
    output_tokens: int
    hashes: Sequence[int] = ()
    waits: tuple[Wait, ...] = ()
    scope: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class SessionFile:
    """The turns of a file. ``timed`` says that the file has the time of every turn."""

    turns: Sequence[Turn]
    block_tokens: int
    timed: bool


def session_trace(file: SessionFile, source: str, *, spread_steps: bool) -> Trace:
    """Return the turns as a trace, in order of time, the first at 0 s.

    Turns without output were failures: they are left out and counted, and those that waited for
    them wait for their parents. Raises RowFaultError for a turn that waits for an unknown turn or
    for itself, and InputError where no turn is left.
    """
    ordered = _ordered(file.turns)
    waits = _without_failures(turn for _, turn in ordered)
    kept = [turn for _, turn in ordered if turn.output_tokens > 0]
    if not kept:
        raise InputError(f"{source}: no requests; every row has 0 output tokens")
    place = {turn.name: number for number, turn in enumerate(kept)}
    times_s = np.array([at_s for at_s, turn in ordered if turn.output_tokens > 0])
    times_s -= times_s[0]
    if spread_steps and file.timed:
        times_s = spread(times_s)
    found = _links([(place[turn.name], wait, place[wait.name]) for turn in kept
                    for wait in waits[turn.name]], times_s)
    models = [turn.model for turn in kept]
    return Trace(
        times_s, np.array([turn.prompt_tokens for turn in kept], np.int64),
        np.array([turn.output_tokens for turn in kept], np.int64), None, None,
        _labels(models) if all(models) else None, _prefixes(kept, file.block_tokens),
        num_dropped=len(ordered) - len(kept), source=source,
        session=_labels([turn.session for turn in kept]), links=found, timed=file.timed)


def _ordered(turns: Sequence[Turn]) -> list[tuple[float, Turn]]:
    """Return the turns in order of their times, each after those that it waits for. A time is the
    file's, and no earlier than the waits allow."""
    by_name: dict[str, Turn] = {}
    for turn in turns:
        if turn.name in by_name:
            raise RowFaultError(turn.row, f"the request {turn.name[:60]!r} appears twice")
        by_name[turn.name] = turn
    missing = [len(turn.waits) for turn in turns]
    following: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for number, turn in enumerate(turns):
        for wait in turn.waits:
            if wait.name not in by_name:
                raise RowFaultError(turn.row, f"waits for the request {wait.name[:60]!r}, which "
                                              "the file does not have")
            following[wait.name].append((number, wait.delay_s or 0.0))
    earliest = [turn.at_s or 0.0 for turn in turns]
    ready = [(earliest[number], number) for number, turn in enumerate(turns) if not turn.waits]
    heapify(ready)
    found: list[tuple[float, Turn]] = []
    while ready:
        at_s, number = heappop(ready)
        found.append((at_s, turns[number]))
        for child, delay_s in following[turns[number].name]:
            earliest[child] = max(earliest[child], at_s + delay_s)
            missing[child] -= 1
            if not missing[child]:
                heappush(ready, (earliest[child], child))
    if len(found) < len(turns):
        stuck = next(turn for turn, left in zip(turns, missing, strict=True) if left)
        raise RowFaultError(stuck.row, f"the request {stuck.name[:60]!r} waits for itself, directly"
                                       " or by way of others")
    return found


def _without_failures(turns: Iterable[Turn]) -> dict[str, tuple[Wait, ...]]:
    """Return what every turn waits for, where a turn without output passes its own waits on."""
    passed: dict[str, tuple[Wait, ...]] = {}
    found: dict[str, tuple[Wait, ...]] = {}
    for turn in turns:
        waits: list[Wait] = []
        for wait in turn.waits:
            if wait.name not in passed:
                waits.append(wait)
                continue
            waits += [Wait(one.name, None if wait.delay_s is None or one.delay_s is None
                           else one.delay_s + wait.delay_s, one.on_dispatch)
                      for one in passed[wait.name]]
        found[turn.name] = tuple(waits)
        if not turn.output_tokens:
            passed[turn.name] = found[turn.name]
    return found


def _links(waits: Sequence[tuple[int, Wait, int]], times_s: FloatColumn) -> Links:
    gaps = [(row, after) for row, wait, after in waits if wait.delay_s is None]
    stated = [(row, after, wait.delay_s or 0.0, wait.on_dispatch)
              for row, wait, after in waits if wait.delay_s is not None]
    rows, afters, delays_s, triggers = zip(*stated, strict=True) if stated else ((), (), (), ())
    found = links(np.array(rows, np.int64), np.array(afters, np.int64),
                  np.array(delays_s, np.float64), on_dispatch=False)
    found = Links(found.row, found.after, found.delay_s, np.array(triggers, np.bool_))
    parts = [found]
    while gaps:  # one link of a row at a time, since a row may have several parents
        before = np.full(len(times_s), -1, np.int64)
        rest = []
        for row, after in gaps:
            if before[row] < 0:
                before[row] = after
            else:
                rest.append((row, after))
        parts.append(recorded(before, times_s))
        gaps = rest
    return all_links(parts)


def _labels(names: Sequence[str]) -> Labels:
    known: dict[str, int] = {}
    index: IntColumn = name_index(names, known)
    return Labels(tuple(known), index)


def _prefixes(turns: Sequence[Turn], block_tokens: int) -> Prefixes:
    """Return the hashes as numbers that cover all before them: the same block after another
    beginning gets another number."""
    if not any(turn.hashes for turn in turns):
        return no_prefixes()
    known: dict[tuple[str, int, int], int] = {}
    values: list[int] = []
    for turn in turns:
        before = -1
        for value in turn.hashes:
            before = known.setdefault((turn.scope, before, value), len(known))
            values.append(before)
    counts = np.array([len(turn.hashes) for turn in turns], np.int64)
    return Prefixes(offsets_of(counts), np.array(values, np.int64), block_tokens)


class Fields:
    """The fields of one JSON object, each checked as it is asked for. ``where`` begins the message
    of an object within the row's."""

    def __init__(self, row: int, found: object, where: str = "") -> None:
        if not isinstance(found, dict):
            raise RowFaultError(row, f"{where}found {str(found)[:30]!r}; expected a JSON object")
        self.row = row
        self.given: Mapping[str, object] = found
        self._where = where

    def fault(self, message: str) -> RowFaultError:
        """Return the error of this row."""
        return RowFaultError(self.row, f"{self._where}{message}")

    def first_of(self, names: Sequence[str]) -> str | None:
        """Return the first of the names that the object has a value for."""
        return next((name for name in names if self.given.get(name) is not None), None)

    def tokens(self, *names: str, least: int = 0) -> int:
        """Return a whole number of tokens, under the first of ``names`` that is given."""
        name = self._needed(names)
        value = self.given[name]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) \
                or not least <= value <= MAX_TOKENS:
            raise self.fault(f"{name} is {str(value)[:40]!r}; expected a whole number from {least} "
                             f"to {MAX_TOKENS:,}")
        return value

    def seconds(self, per_s: float, *names: str) -> float:
        """Return a time from 0, which the file counts in ``1 / per_s`` seconds."""
        name = self._needed(names)
        value = self.given[name]
        if isinstance(value, bool) or not isinstance(value, int | float) \
                or not 0 <= value / per_s < _MOST_S:
            raise self.fault(f"{name} is {str(value)[:40]!r}; expected a number from 0 to "
                             f"{_MOST_S * per_s:g}")
        return value / per_s

    def text(self, name: str, usual: str | None = None) -> str:
        """Return a text or a number as a text; ``usual`` where the object has none."""
        value = self.given.get(name)
        if value is None and usual is not None:
            return usual
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            found = "not given" if name not in self.given else f"{str(value)[:40]!r}"
            raise self.fault(f"{name} is {found}; expected a name or a number")
        return str(value)

    def items(self, name: str) -> Sequence[object]:
        """Return a list, empty where the object has none."""
        value = self.given.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.fault(f"{name} is {str(value)[:40]!r}; expected a list")
        return value

    def hashes(self, prompt_tokens: int, block_tokens: int) -> Sequence[int]:
        """Return ``hash_ids``: at most one for each block of the prompt."""
        return self.checked_hashes("hash_ids", self.items("hash_ids"), prompt_tokens, block_tokens)

    def checked_hashes(self, name: str, found: Sequence[object], prompt_tokens: int,
                       block_tokens: int) -> Sequence[int]:
        """Return hashes that were read from the field ``name``."""
        hashes = [value for value in found
                  if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64]
        if len(hashes) < len(found):
            raise self.fault(f"{name} is not a list of whole numbers from 0 to 2^64-1")
        blocks = ceil_div(prompt_tokens, block_tokens)
        if len(hashes) > blocks:
            raise self.fault(f"{len(hashes)} {name} for {prompt_tokens} prompt tokens; expected at "
                             f"most {blocks}, one per {block_tokens} tokens")
        return hashes

    def _needed(self, names: Sequence[str]) -> str:
        name = self.first_of(names)
        if name is None:
            found = ", ".join(map(repr, [*self.given][:8])) or "none"
            raise self.fault(f"no field {' or '.join(map(repr, names))}; found {found}")
        return name
