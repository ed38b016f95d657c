"""Adapters of one engine: loaded, loading, in use."""

from asyncio import Task
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from penstock.engines.client.state import EngineState
from penstock.fleet.values_adapters import Adapter
from penstock.policy.route.near_adapter import (
    ACTIVE,
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
    """Adapters of one engine, by the engine's names. ``loaded`` has the least recently used first,
    and is None where the engine must be asked. ``users`` counts requests that need an adapter.
    ``num_losses`` is that of the engine when it was asked."""

    loaded: OrderedDict[str, None] | None = None
    loading: dict[str, Task[None]] = field(default_factory=dict)
    users: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Failure] = field(default_factory=dict)
    num_losses: int = 0

    def has(self, name: str) -> bool:
        """Whether an adapter is loaded, as far as is known."""
        return self.loaded is not None and name in self.loaded

    def use(self, name: str) -> None:
        """Count one more request for a loaded adapter, which is now the latest used."""
        if self.loaded is not None and name in self.loaded:
            self.loaded.move_to_end(name)

    def release(self, name: str) -> None:
        """Count one request less."""
        self.users[name] -= 1
        if self.users[name] <= 0:
            del self.users[name]

    def spare(self, movable: frozenset[str]) -> str | None:
        """Return the least recently used of the adapters that may be unloaded, None where all are
        in use. ``movable`` are those that can be loaded again."""
        return next((name for name in self.loaded or () if name in movable
                     and not self.users[name]), None)

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

    def nearness(self, engine: EngineState, adapter: Adapter) -> tuple[float, int]:
        """Return how near the engine is to an adapter, and what it takes to have it loaded."""
        name, lora = adapter.served_name, engine.load.lora
        running = set(self.users) if lora is None else lora.running | self.users.keys()
        waiting = frozenset() if lora is None else lora.waiting
        room = 1 if engine.facts.lora is None else engine.facts.lora.max_loras
        if name in running:
            near = ACTIVE
        elif len(running | waiting) < room:
            near = SLOT_FREE
        else:
            near = WAITING if name in waiting else FAR
        return near, (LOADED if self.has(name) or name in self.loading
                      else PLACE_FREE if self.has_room(engine) else FULL)
