"""Inferno's heuristic for limited supply: whole candidates, the server with most regret first.

Rules of llm-inferno/optimizer (solver): a server takes its best candidate if all its replicas fit,
else it tries the next one later; nothing is taken back. What a server's class cannot get whole, a
saturation policy may hand out in part.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import inf
from typing import Any

from penstock.published.inferno.pools import Pools
from penstock.published.inferno.values import Allocation, Policy, Server, System, single

# Order of a server's accelerators of equal value, and of servers (accelerator "") that tie.
TieKey = Callable[[str, str], Any]


@dataclass(slots=True)
class _Entry:
    """A server in the queue and which of its candidates, best first, it stands for."""

    server: Server
    priority: int
    candidates: Sequence[Allocation]
    index: int = 0
    granted: Allocation | None = None

    @property
    def order(self) -> tuple[int, float, float]:
        """By priority, then what the next candidate would cost more, then what this one costs."""
        value = self.candidates[self.index].value
        later = self.candidates[self.index + 1:]
        regret = single(later[0].value - value) if later else inf
        return self.priority, -regret, -value


def by_name(server: str, accelerator: str) -> tuple[str, str]:
    """Ties break by name."""
    return server, accelerator


def best_first(server: str, candidates: Iterable[Allocation],
               tie_key: TieKey = by_name) -> list[Allocation]:
    """A server's candidates by value; equal ones by the accelerator's name."""
    return sorted(candidates, key=lambda each: (each.value, tie_key(server, each.accelerator)))


def solve_greedy(system: System, candidates: Mapping[str, Sequence[Allocation]], policy: Policy,
                 delayed_best_effort: bool, tie_key: TieKey = by_name) -> dict[str, Allocation]:
    """Allocations by server; one that got nothing is not in it.

    Without ``delayed_best_effort`` what is left of a priority is handed out before the next
    priority's turn, so it may take what the lower one needs. Where values are equal ``tie_key``
    decides; upstream's order there is random.
    """
    entries = [_Entry(system.servers[name], system.priority(system.servers[name]),
                      best_first(name, candidates[name], tie_key))
               for name in sorted(candidates, key=lambda name: tie_key(name, ""))
               if candidates[name]]
    entries.sort(key=lambda entry: entry.order)
    pools = Pools(system, system.capacity or {})
    groups = [entries] if delayed_best_effort else _by_priority(entries)
    for group in groups:
        _hand_out(_serve_whole(group, pools), policy, pools)
    return {entry.server.name: entry.granted for entry in entries if entry.granted is not None}


def _by_priority(entries: Iterable[_Entry]) -> list[list[_Entry]]:
    ordered = sorted(entries, key=lambda entry: entry.priority)
    return [list(group) for _, group in groupby(ordered, lambda entry: entry.priority)]


def _serve_whole(entries: Sequence[_Entry], pools: Pools) -> list[_Entry]:
    """Give each server its best candidate that fits whole; those that got none, as they failed."""
    queue, failed = list(entries), []
    while queue:
        entry = queue.pop(0)
        candidate = entry.candidates[entry.index]
        if pools.room(candidate, entry.server) >= candidate.num_replicas:
            pools.take(candidate, entry.server, candidate.num_replicas)
            entry.granted = candidate
        elif entry.index + 1 < len(entry.candidates):
            entry.index += 1
            # Among equals the one that comes back stands first, as upstream's search has it.
            queue.insert(bisect_left(queue, entry.order, key=lambda other: other.order), entry)
        else:
            failed.append(entry)
    return failed


def _hand_out(entries: list[_Entry], policy: Policy, pools: Pools) -> None:
    """Best effort: replicas for servers that could not be served whole."""
    if policy == "PriorityExhaustive":
        for entry in entries:
            _grant_all_that_fits(entry, pools)
    elif policy == "PriorityRoundRobin":
        for group in _by_priority(entries):
            _grant_in_turns(group, pools)
    elif policy == "RoundRobin":
        _grant_in_turns(entries, pools)


def _first_with_room(entry: _Entry, pools: Pools) -> Allocation | None:
    return next((c for c in entry.candidates if pools.room(c, entry.server) > 0), None)


def _grant_all_that_fits(entry: _Entry, pools: Pools) -> None:
    candidate = _first_with_room(entry, pools)
    if candidate is not None:
        granted = min(pools.room(candidate, entry.server), candidate.num_replicas)
        pools.take(candidate, entry.server, granted)
        entry.granted = partial(candidate, granted)


def _grant_in_turns(entries: Sequence[_Entry], pools: Pools) -> None:
    """One replica per server and round, on the first candidate that had room for one.

    No server can come to more than it wanted: its pool held less than that when it failed.
    """
    turns = {entry.server.name: 0 for entry in entries}
    locked: dict[str, Allocation | None] = {}
    active = list(entries)
    while active:
        still: list[_Entry] = []
        for entry in active:
            name = entry.server.name
            if name not in locked:
                locked[name] = _first_with_room(entry, pools)
            found = locked[name]
            if found is not None and pools.room(found, entry.server) > 0:
                pools.take(found, entry.server, 1)
                turns[name] += 1
                entry.granted = partial(found, turns[name])
                still.append(entry)
        active = still


def partial(candidate: Allocation, num_replicas: int) -> Allocation:
    """The candidate with fewer replicas: cost and value in proportion, latencies as they were.

    Upstream does not recompute latencies, so a saturated server shows those of an unsaturated one.
    """
    share = single(num_replicas / candidate.num_replicas)
    return replace(candidate, num_replicas=num_replicas, value=single(candidate.value * share),
                   cost_cents_per_hour=single(candidate.cost_cents_per_hour * share))
