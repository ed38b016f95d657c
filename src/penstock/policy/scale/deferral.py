"""Requests of deferrable classes, held back at a gateway for spare capacity or cleaner electricity.

A held request is sent at the latest once its slack has ended. Before that, it is sent where the
ready replicas have capacity to spare and, with a carbon intensity that changes, the electricity is
about as clean as the forecast says that it will be within the slack. The intensity is a published
forecast, so its future is known.

Requests that are sent into spare capacity are no demand for replicas, except for as many as would
end the backlog within the slack, and within the clean time: the fleet grows for those.
"""

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

from penstock.core.power import CarbonIntensity
from penstock.policy.scale.protocol import ScalerContext
from penstock.policy.scale.spare import SparePool
from penstock.policy.scale.values import Observation

T = TypeVar("T")

TICK_S: Final = 1.0
"""Time between two looks at the spare capacity while requests are held."""

CLEAN: Final = 1.05
"""Ratio over the lowest intensity within the slack up to which electricity counts as clean."""

_LEAST_S: Final = 600.0
"""Shortest time within which a backlog is to be served: replicas take a while to start."""

_ROUNDING_S: Final = 1e-9


class Held(NamedTuple, Generic[T]):
    """A request that is held back until ``due_s`` at the latest."""

    item: T
    due_s: float


class Sent(NamedTuple, Generic[T]):
    """A request that is sent. A ``deferred`` one uses spare capacity, and needs no replica."""

    item: T
    deferred: bool


class _Pool(Generic[T]):
    """Held requests of one model and class each, of groups that share their spare capacity."""

    def __init__(self, spare: SparePool) -> None:
        self.spare = spare
        self.queues: dict[str, deque[Held[T]]] = {}
        self.per_s = 0.0
        self.num_sent = 0  # into spare capacity
        self.tokens = 0.0
        self.growth = 0.0  # requests that may count as demand

    @property
    def num_held(self) -> int:
        """Number of requests that are held back."""
        return sum(map(len, self.queues.values()))

    def first(self) -> "deque[Held[T]] | None":
        """Return the queue whose first request is due the earliest, None without any."""
        return min((queue for queue in self.queues.values() if queue),
                   key=lambda queue: queue[0].due_s, default=None)


class Deferral(Generic[T]):
    """Holds back requests of classes with ``defer_s``. Every request is sent exactly once, and at
    its due time at the latest, if ``send`` is called at ``next_s``. ``epoch_s`` is the time of
    ``carbon`` at which this object's time is 0."""

    def __init__(self, context: ScalerContext, carbon: CarbonIntensity | None = None,
                 epoch_s: float = 0.0) -> None:
        self.num_held = 0
        self._slack_s = {name: one.defer_s for name, one in context.classes.items()
                         if one.defer_s is not None}
        self._carbon = carbon if carbon is not None and carbon.changes else None
        self._epoch_s = epoch_s
        self._sent_s = -inf  # last call of ``send``
        self._only = len({one.model for one in context.groups}) == 1
        self._pools: dict[tuple[int, ...], _Pool[T]] = {}
        self._of: dict[tuple[str, str], _Pool[T]] = {}
        for name in self._slack_s:
            for model in dict.fromkeys(one.model for one in context.groups):
                numbers = tuple(number for number, one in enumerate(context.groups)
                                if one.model == model and one.serves(name))
                if numbers:
                    self._of[model, name] = self._pools.setdefault(numbers, _Pool(
                        SparePool(numbers, context, grows=self._carbon is not None)))

    def defers(self, model: str, service_class: str) -> bool:
        """Whether such requests are held back. Those whose model the router chooses among several
        are not."""
        return self._pool(model, service_class) is not None

    def hold(self, item: T, model: str, service_class: str, arrived_s: float) -> Held[T]:
        """Hold a request back."""
        pool = self._pool(model, service_class)
        assert pool is not None, "the class is deferrable"
        held = Held(item, arrived_s + self._slack_s[service_class])
        pool.queues.setdefault(service_class, deque()).append(held)
        self.num_held += 1
        return held

    def remove(self, held: Held[T]) -> None:
        """Forget a held request whose client left."""
        for pool in self._pools.values():
            for queue in pool.queues.values():
                if held in queue:
                    queue.remove(held)
                    self.num_held -= 1
                    return

    def spare_per_s(self, seen: Observation, now_s: float) -> list[float]:
        """Return the spare capacity of each pool of groups, for ``allow``. May take a while."""
        return [pool.spare.per_s(seen, now_s, pool.num_sent) for pool in self._pools.values()]

    def allow(self, spare_per_s: Sequence[float]) -> None:
        """Set the spare capacity that requests may fill from now on."""
        for pool, per_s in zip(self._pools.values(), spare_per_s, strict=True):
            pool.per_s = per_s

    def send(self, now_s: float) -> list[Sent[T]]:
        """Return the requests to be sent now, and hold them no longer."""
        passed_s, self._sent_s = now_s - self._sent_s, now_s
        found: list[Sent[T]] = []
        for pool in self._pools.values():
            self._refill(pool, min(passed_s, TICK_S), now_s)
            while (queue := pool.first()) is not None:
                if queue[0].due_s <= now_s + _ROUNDING_S:
                    found.append(Sent(queue.popleft().item, deferred=False))
                elif pool.tokens >= 1.0 and self._clean(queue[0].due_s, now_s):
                    grows = pool.growth >= 1.0
                    pool.tokens -= 1.0
                    pool.growth -= grows
                    pool.num_sent += 1
                    found.append(Sent(queue.popleft().item, deferred=not grows))
                else:
                    break
        self.num_held -= len(found)
        return found

    def next_s(self, now_s: float) -> float:
        """Return when to call ``send`` again, infinity while nothing is held."""
        firsts = [queue[0].due_s for pool in self._pools.values()
                  if (queue := pool.first()) is not None]
        fills = any(pool.per_s > 0.0 and pool.first() for pool in self._pools.values())
        look_s = max(now_s, self._sent_s + TICK_S)
        return min([*firsts, look_s] if fills else firsts, default=inf)

    def _pool(self, model: str, service_class: str) -> _Pool[T] | None:
        if not model and self._only:
            model = next(iter(self._of), ("", ""))[0]
        return self._of.get((model, service_class))

    def _refill(self, pool: _Pool[T], passed_s: float, now_s: float) -> None:
        """Add what may be sent. What was not used before is gone, except for the part of a
        request."""
        growth_per_s = self._growth_per_s(pool, now_s)
        pool.tokens = min(pool.tokens, 1.0) + pool.per_s * passed_s
        pool.growth = min(pool.growth, 1.0) + growth_per_s * passed_s

    def _growth_per_s(self, pool: _Pool[T], now_s: float) -> float:
        """Return the rate at which the backlog would end with the slack and the clean time."""
        queue = pool.first()
        if queue is None or not self._clean(queue[0].due_s, now_s):
            return 0.0
        end_s = max(one[-1].due_s for one in pool.queues.values() if one)
        if self._carbon is not None:
            from_s = self._epoch_s + now_s
            dirty_s = self._carbon.until(from_s, CLEAN * self._carbon.at(from_s))
            end_s = min(end_s, dirty_s - self._epoch_s)
        return pool.num_held / max(end_s - now_s, _LEAST_S)

    def _clean(self, due_s: float, now_s: float) -> bool:
        """Whether waiting until ``due_s`` brings no electricity that is clearly cleaner."""
        if self._carbon is None:
            return True
        from_s = self._epoch_s + now_s
        lowest = self._carbon.lowest(from_s, max(from_s, self._epoch_s + due_s))
        return self._carbon.at(from_s) <= CLEAN * lowest
