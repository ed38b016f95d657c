"""Adapters of one engine: loaded, loading, in use."""

from asyncio import Event, Task
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import fmean

from penstock.engines.client.state import EngineState
from penstock.fleet.values_adapters import Adapter
from penstock.policy.keep import Demand
from penstock.policy.route.near_adapter import (
    ACTIVE,
    BUSY,
    FAR,
    FULL,
    LOADED,
    PLACE_FREE,
    SLOT_FREE,
    WAITING,
)
from penstock.serving.errors import ServiceError

FIRST_PAUSE_S, MOST_PAUSE_S = 5.0, 60.0
"""Time for which an adapter that could not be loaded is not tried again on an engine, which doubles
with each failure."""


class AdapterError(Exception):
    """Error for an adapter that an engine does not have and cannot get now. ``after_s`` is the time
    after which another try may help. ``said`` are the engine's own words, which may name paths and
    are for operators."""

    def __init__(self, reason: str, after_s: float = 1.0, said: str = "") -> None:
        super().__init__(reason)
        self.after_s = after_s
        self.said = said


def unavailable(faults: Sequence[str], after_s: float) -> ServiceError:
    """Return the error for the client of a request whose adapter no engine can load now."""
    return ServiceError(503, f"the adapter cannot be loaded now: {'; '.join(faults)}",
                        "adapter_unavailable", headers={"Retry-After": str(max(1, ceil(after_s)))})


@dataclass(slots=True)
class Failure:
    """The latest failures to load an adapter, in a row."""

    num: int
    until_s: float
    reason: str


@dataclass(slots=True)
class Shelf:
    """Adapters of one engine, by the engine's names.

    ``loaded`` has the least recently used first, each with its path as far as the engine tells, and
    is None where the engine must be asked. ``demand`` has the recent requests for each adapter, and
    ``load_s`` how long its latest load took. ``users`` counts requests that hold an adapter,
    ``wanted`` those that wait for it. An adapter that is ``leaving``, or ``stale`` (loaded from
    another path), gets no more requests, and ``released`` is set whenever one has ended.
    ``num_losses`` is that of the engine when it was asked.
    """

    loaded: OrderedDict[str, str | None] | None = None
    demand: Demand = field(default_factory=Demand)
    load_s: dict[str, float] = field(default_factory=dict)
    loading: dict[str, Task[None]] = field(default_factory=dict)
    users: Counter[str] = field(default_factory=Counter)
    wanted: Counter[str] = field(default_factory=Counter)
    leaving: str = ""
    stale: set[str] = field(default_factory=set)
    released: Event = field(default_factory=Event)
    failures: dict[str, Failure] = field(default_factory=dict)
    num_losses: int = 0

    def has(self, name: str) -> bool:
        """Whether an adapter is loaded, as far as is known, and may get requests."""
        return self.loaded is not None and name in self.loaded and name != self.leaving \
            and name not in self.stale

    def list(self, listed: Mapping[str, str | None]) -> None:
        """Take the adapters that the engine lists, each with its path. Those that are not known yet
        count as the least recently used."""
        known = [name for name in self.loaded or () if name in listed]
        self.loaded = OrderedDict((name, listed[name]) for name in (
            *(one for one in listed if one not in known), *known))

    def use(self, name: str) -> None:
        """Count one more request for a loaded adapter, which is now the latest used."""
        self.users[name] += 1
        if self.loaded is not None and name in self.loaded:
            self.loaded.move_to_end(name)

    def release(self, name: str) -> None:
        """Count one request less."""
        _take_one(self.users, name)
        self.released.set()

    def want(self, name: str, now_s: float) -> None:
        """Count one more request that waits for an adapter."""
        self.wanted[name] += 1
        self.demand.note(name, now_s)

    def unwant(self, name: str) -> None:
        """Count one less."""
        _take_one(self.wanted, name)

    def spare(self, engine: EngineState, movable: frozenset[str]) -> tuple[str, bool] | None:
        """Return the adapter that makes way for another by the engine's rule, and whether it is in
        use: if possible one without requests. ``movable`` are those that can be loaded again; None
        where there is none."""
        names, in_use = self._candidates(movable)
        if not names:
            return None
        lora = engine.facts.lora
        if lora is None or lora.evict == "lru":
            return names[0], in_use
        usual_s = fmean(self.load_s.values()) if self.load_s else 1.0
        return min(names, key=lambda name: self.demand.keep(
            name, self.load_s.get(name, usual_s))), in_use

    def _candidates(self, movable: frozenset[str]) -> tuple[Sequence[str], bool]:
        """Return the adapters that may make way, the least recently used first, and whether they
        are in use."""
        found = [name for name in self.loaded or () if name in movable]
        idle = [name for name in found if not self.users[name] and not self.is_claimed(name)]
        return idle or found, not idle

    def is_claimed(self, name: str) -> bool:
        """Whether requests waited for an adapter that is loaded now, and are about to hold it."""
        task = self.loading.get(name)
        return self.wanted[name] > 0 and (task is None or task.done())

    def failed(self, name: str, reason: str, now_s: float) -> Failure:
        """Record a failure to load an adapter."""
        before = self.failures.get(name)
        num = 1 if before is None else before.num + 1
        pause_s = min(FIRST_PAUSE_S * 2.0**min(num - 1, 10), MOST_PAUSE_S)
        found = self.failures[name] = Failure(num, now_s + pause_s, reason)
        return found

    def has_room(self, engine: EngineState) -> bool:
        """Whether the engine may load one more adapter beside the others."""
        lora = engine.facts.lora
        return lora is not None and len(self.loaded or ()) < lora.most_loaded

    def _effort(self, engine: EngineState, name: str, movable: frozenset[str]) -> int:
        if self.has(name) or name in self.loading:
            return LOADED
        if self.has_room(engine):
            return PLACE_FREE
        names, in_use = self._candidates(movable)
        return FULL if names and not in_use else BUSY

    def nearness(self, engine: EngineState, adapter: Adapter,
                 movable: frozenset[str]) -> tuple[float, int]:
        """Return how near the engine is to an adapter, and what it takes to have it loaded."""
        name, lora = adapter.served_name, engine.load.lora
        own = self.users.keys() | self.wanted.keys()
        running = set(own) if lora is None else lora.running | own
        waiting = frozenset() if lora is None else lora.waiting
        room = 1 if engine.facts.lora is None else engine.facts.lora.max_loras
        if name in running:
            near = ACTIVE
        elif len(running | waiting) < room:
            near = SLOT_FREE
        else:
            near = WAITING if name in waiting else FAR
        return near, self._effort(engine, name, movable)


def _take_one(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
