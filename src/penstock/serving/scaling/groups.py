"""Groups of replicas that a live scaling loop observes and changes."""

from collections.abc import Callable, Container, Sequence
from itertools import count
from typing import NamedTuple, Protocol

from penstock.engines.client.state import NEVER_S, EngineState
from penstock.policy.scale.values import Gauges, SeenReplica, State

STALE_S = 15.0
"""Age from which the gauges of an engine count as missing."""


class LiveReplica(NamedTuple):
    """A replica of a group: its number, its state since ``since_s``, and its engine, None where it
    has none yet."""

    number: int
    state: State
    since_s: float
    engine: EngineState | None = None

    def seen(self, started_s: float, now_s: float) -> SeenReplica:
        """Return the scaler's view. Times in it count from ``started_s``."""
        engine, since_s = self.engine, self.since_s - started_s
        if engine is None or self.state not in ("ready", "draining"):
            return SeenReplica(self.number, self.state, since_s)
        if engine.observed_at_s == NEVER_S or now_s - engine.observed_at_s > STALE_S:
            return SeenReplica(self.number, self.state, since_s)
        return SeenReplica(self.number, self.state, since_s, _gauges(engine, now_s),
                           engine.observed_at_s - started_s, engine.ledger.queued_prompt_tokens)


def _gauges(engine: EngineState, now_s: float) -> Gauges:
    """Return the gauges that an engine reports, from the gateway's requests where it reports none:
    of an answer in one piece, the gateway cannot tell whether it waits or runs."""
    load, found = engine.load, engine.snapshot(now_s)
    return Gauges(
        found.num_running if load.num_running is None else load.num_running,
        found.num_waiting if load.num_waiting is None else load.num_waiting,
        min(1.0, found.kv_used_tokens / found.kv_total_tokens) if load.kv_used_share is None
        else load.kv_used_share)


class LiveGroup(Protocol):
    """Replicas of one group, and the means to change their number."""

    @property
    def num_places(self) -> int | None:
        """Replicas that may exist at once, each a group of its own in the gateway's fleet; None
        where the fleet file states the endpoints of one group."""

    @property
    def target(self) -> int:
        """Number of replicas ordered last."""

    @property
    def inherited(self) -> int:
        """Number of replicas that may be of an earlier loop, whose reasons are forgotten."""

    def replicas(self) -> Sequence[LiveReplica]:
        """Return the replicas that wait, start, serve or drain."""

    def adopt(self, numbers: range) -> None:
        """Take over the numbers of a changed fleet file's replicas, where the file states the
        endpoints."""

    def order(self, target: int) -> None:
        """Order a number of replicas."""

    async def tend(self) -> None:
        """Carry orders out, a step further with every call."""


class Numbers:
    """Numbers of replicas by their names: no other replica ever has a replica's number."""

    def __init__(self) -> None:
        self._by_name: dict[str, int] = {}
        self._next = count()

    def of(self, name: str) -> int:
        """Return the number of a replica."""
        if name not in self._by_name:
            self._by_name[name] = next(self._next)
        return self._by_name[name]

    def keep(self, names: Container[str]) -> list[int]:
        """Forget all other names, and return their numbers."""
        gone = [name for name in self._by_name if name not in names]
        return [self._by_name.pop(name) for name in gone]

    def names(self) -> dict[int, str]:
        """Return the names by number."""
        return {number: name for name, number in self._by_name.items()}


class Ages:
    """Remembers since when each replica is in its state."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[int, tuple[State, float]] = {}

    def since_s(self, number: int, state: State) -> float:
        """Return since when a replica is in its present state."""
        known = self._since.get(number)
        if known is None or known[0] != state:
            known = self._since[number] = (state, self._clock())
        return known[1]

    def forget(self, number: int) -> None:
        """Forget a replica that has ended."""
        self._since.pop(number, None)
