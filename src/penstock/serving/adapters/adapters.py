"""Keeps adapters loaded on the engines that serve them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from penstock.core.snapshot import ReplicaSnapshot
from penstock.engines.client.state import EngineState
from penstock.fleet.values import Fleet
from penstock.fleet.values_adapters import Adapter
from penstock.policy.route.near_adapter import near
from penstock.serving.adapters.calls import AdapterCalls
from penstock.serving.adapters.claims import AdapterClaims
from penstock.serving.adapters.shelf import AdapterError, Shelf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_FOLLOW_S = 0.5
_LEAVE_S = 30.0  # for requests of an adapter that makes way for another
_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class _InUseError(AdapterError):
    """Requests use an adapter that was to make way."""


class Adapters(Collector):
    """Loads adapters before requests need them, one at a time on each engine. Where an engine has
    no room, the adapter makes way for whose load the fewest requests would wait, or the least
    recently used one. Where all are in use, one gets no more requests until those that use it have
    ended. An adapter in use is never unloaded.

    ``offered`` are the fleet's adapters by the engines' names; only those with a path can be loaded
    again, and so may be unloaded. ``note`` is told of failures. ``claims`` are those of all
    processes that use the engines.
    """

    def __init__(self, engines: Sequence[EngineState], calls: AdapterCalls,
                 offered: Mapping[str, Adapter], clock: Callable[[], float],
                 note: Callable[[str], None], claims: AdapterClaims) -> None:
        self._engines = engines
        self._claims = claims
        self._calls = calls
        self._clock = clock
        self._note = note
        self._shelves: WeakKeyDictionary[EngineState, Shelf] = WeakKeyDictionary()
        self._locks: WeakKeyDictionary[EngineState, asyncio.Lock] = WeakKeyDictionary()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._load_counts: Counter[float] = Counter()
        self._load_s = 0.0
        self._movable: frozenset[str] = frozenset()
        self._offered: dict[str, Adapter] = {}
        self.adopt(offered)

    def adopt(self, offered: Mapping[str, Adapter]) -> None:
        """Apply the adapters of a changed fleet file. An adapter of another path is loaded anew;
        one that is no longer offered may make way."""
        now = {one.served_name: one for one in offered.values()}
        changed = {name for name, one in now.items() if one.path is not None
                   and name in self._offered and self._offered[name].path != one.path}
        for shelf in self._shelves.values():
            shelf.stale |= changed
        self._movable = frozenset(name for name in self._movable | now.keys()
                                  if name not in now or now[name].path is not None)
        self._offered = now

    async def follow(self) -> None:
        """Ask the engines whose adapters other processes have changed, again and again."""
        while True:
            await asyncio.sleep(_FOLLOW_S)
            for engine in list(self._engines):
                url = engine.facts.url
                if engine.facts.lora is None or not self._claims.has_changed(url):
                    continue
                async with self._locks.setdefault(engine, asyncio.Lock()):
                    self._claims.seen(url)
                    shelf = self._shelf(engine)
                    try:
                        shelf.list(await self._calls.listed(engine))
                    except AdapterError:
                        shelf.loaded = None  # the next request asks again

    # -- routing --------------------------------------------------------------------------------

    def near(self, engines: Sequence[EngineState], snapshots: Sequence[ReplicaSnapshot],
             adapter: Adapter, prompt_tokens: int) -> list[EngineState]:
        """Return the engines that are nearest to an adapter, without those that have far more load
        than others."""
        nearness = [self._shelf(one).nearness(one, adapter, self._movable) for one in engines]
        return [engines[place] for place in near(snapshots, nearness, prompt_tokens)]

    def refusal(self, engine: EngineState, adapter: Adapter) -> str | None:
        """Return why an engine cannot get an adapter now, None where it may."""
        shelf, name = self._shelf(engine), adapter.served_name
        if shelf.has(name) or name in shelf.loading:
            return None
        failure = shelf.failures.get(name)
        if failure is not None and failure.until_s > self._clock():
            return failure.reason
        if shelf.loaded is not None and adapter.path is not None \
                and not shelf.has_room(engine) and shelf.spare(engine, self._movable) is None:
            return _no_room(adapter)
        return None

    # -- holding --------------------------------------------------------------------------------

    @asynccontextmanager
    async def held(self, engine: EngineState, adapter: Adapter) -> "AsyncIterator[None]":
        """Hold an adapter on an engine, which has it loaded until the context ends. Raises
        AdapterError where it cannot be loaded."""
        release = await self.hold(engine, adapter)
        try:
            yield
        finally:
            release()

    async def hold(self, engine: EngineState, adapter: Adapter) -> Callable[[], None]:
        """Hold an adapter on an engine, which has it loaded until the returned function is called.
        Raises AdapterError where it cannot be loaded."""
        shelf, name = self._shelf(engine), adapter.served_name
        shelf.want(name, self._clock())
        try:
            while not self._taken(engine, shelf, name):
                await self._bring(engine, shelf, adapter)
            shelf.use(name)
        finally:
            shelf.unwant(name)
        return partial(self._released, engine.facts.url, shelf, name)

    def _taken(self, engine: EngineState, shelf: Shelf, name: str) -> bool:
        """Claim an adapter for a request. Returns whether the engine has it, as far as is known."""
        url, claims = engine.facts.url, self._claims
        if not shelf.has(name) or not claims.take(url, name):
            return False
        if not claims.has_changed(url):
            return True
        claims.give(url, name)
        return False

    def _released(self, url: str, shelf: Shelf, name: str) -> None:
        self._claims.give(url, name)
        shelf.release(name)

    def missing(self, engine: EngineState, adapter: Adapter) -> None:
        """Take note that an engine says that it does not have an adapter."""
        shelf = self._shelf(engine)
        if shelf.loaded is not None:
            shelf.loaded.pop(adapter.served_name, None)
        self._counts[engine.facts.url, "missing"] += 1

    async def _bring(self, engine: EngineState, shelf: Shelf, adapter: Adapter) -> None:
        """Load an adapter, or wait until another request has loaded it. The loading goes on where
        the request ends before."""
        name = adapter.served_name
        task = shelf.loading.get(name)
        if task is None:
            failure = shelf.failures.get(name)
            if failure is not None and failure.until_s > self._clock():
                raise AdapterError(failure.reason, failure.until_s - self._clock())
            task = shelf.loading[name] = asyncio.create_task(self._loaded(engine, shelf, adapter))
            task.add_done_callback(lambda done: _forget(shelf, name, done))
        await asyncio.shield(task)

    async def _loaded(self, engine: EngineState, shelf: Shelf, adapter: Adapter) -> None:
        name, url = adapter.served_name, engine.facts.url
        adapter = self._offered.get(name, adapter)  # the file may have changed since the request
        async with self._locks.setdefault(engine, asyncio.Lock()), self._claims.order(url):
            try:
                if shelf.loaded is None or self._claims.has_changed(url):
                    self._claims.seen(url)
                    shelf.list(await self._calls.listed(engine))
                if name in shelf.stale and name in (shelf.loaded or ()) \
                        and not self._has_path(shelf, adapter):
                    await self._evict(engine, shelf, name, adapter, _LEAVE_S)
                shelf.stale.discard(name)
                if shelf.loaded is not None and name in shelf.loaded:
                    return
                if adapter.path is None:
                    raise AdapterError(f"does not have {adapter.name}, and the fleet file states "
                                       "no path to load it from")
                await self._make_room(engine, shelf, adapter)
                begun_s = self._clock()
                self._claims.change(url)
                await self._calls.load(engine, adapter)
            except AdapterError as error:
                failure = shelf.failed(name, str(error), self._clock())
                self._counts[url, "failed"] += 1
                self._note(f"engine {url} {error}{error.said and ': '}{error.said}")
                raise AdapterError(failure.reason, failure.until_s - self._clock()) from error
            shelf.load_s[name] = self._clock() - begun_s
            self._record(url, shelf.load_s[name])
            shelf.failures.pop(name, None)
            if shelf.loaded is not None:
                shelf.loaded[name] = adapter.path

    @staticmethod
    def _has_path(shelf: Shelf, adapter: Adapter) -> bool:
        """Whether another process has loaded an adapter from its present path."""
        return shelf.loaded is not None and \
            shelf.loaded.get(adapter.served_name) == adapter.path

    async def _make_room(self, engine: EngineState, shelf: Shelf, adapter: Adapter) -> None:
        busy: set[str] = set()  # in other processes
        while not shelf.has_room(engine):
            spare = shelf.spare(engine, self._movable - busy)
            if spare is not None and not spare[1]:
                try:
                    await self._evict(engine, shelf, spare[0], adapter, 0.0)
                except _InUseError:
                    busy.add(spare[0])
                continue
            spare = spare or shelf.spare(engine, self._movable)
            if spare is None:
                raise AdapterError(_no_room(adapter))
            await self._evict(engine, shelf, spare[0], adapter, _LEAVE_S)

    async def _evict(self, engine: EngineState, shelf: Shelf, victim: str,
                     adapter: Adapter, patience_s: float) -> None:
        """Unload an adapter that makes way for another, once no request uses it. Raises
        _InUseError where requests of other processes use it for longer than ``patience_s``."""
        if shelf.users[victim] or shelf.is_claimed(victim):
            await _left(shelf, victim, adapter)
        if shelf.loaded is None or victim not in shelf.loaded:  # the engine was lost meanwhile
            raise AdapterError("was started anew")
        async with self._claims.cleared(engine.facts.url, victim, patience_s) as is_free:
            if not is_free:
                raise _InUseError(_in_use(adapter))
            # No request may count on it from here on.
            shelf.loaded.pop(victim, None)
            self._claims.change(engine.facts.url)
            try:
                await self._calls.unload(engine, victim)
            except AdapterError:
                shelf.loaded = None  # ask again what there is
                raise
        self._counts[engine.facts.url, "unloaded"] += 1

    def _shelf(self, engine: EngineState) -> Shelf:
        shelf = self._shelves.get(engine)
        if shelf is None:
            shelf = self._shelves[engine] = Shelf()
        if shelf.num_losses != engine.num_losses:  # it may have been started anew
            shelf.num_losses, shelf.loaded = engine.num_losses, None
            shelf.failures.clear()
        return shelf

    # -- figures --------------------------------------------------------------------------------

    def loaded(self, engine: EngineState) -> list[str]:
        """Return the engine's names of its loaded adapters, as far as is known."""
        return sorted(self._shelf(engine).loaded or ())

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of all engines."""
        changes = CounterMetricFamily("penstock:adapter_changes", "Adapters that were loaded, "
                                      "could not be loaded, were unloaded, or were missing though "
                                      "they had been loaded", labels=("url", "what"))
        loaded = GaugeMetricFamily("penstock:adapters_loaded", "Adapters that an engine has loaded",
                                   labels=("url",))
        for (url, what), num in sorted(self._counts.items()):
            changes.add_metric((url, what), num)
        for engine in self._engines:
            if engine.facts.lora is not None:
                loaded.add_metric((engine.facts.url,), len(self._shelf(engine).loaded or ()))
        seconds = HistogramMetricFamily("penstock:adapter_load_seconds", "Time to load an adapter")
        total, buckets = 0, []
        for bound_s in _SECONDS:
            total += self._load_counts[bound_s]
            buckets.append((str(bound_s), float(total)))
        seconds.add_metric((), [*buckets, ("+Inf", float(sum(self._load_counts.values())))],
                           self._load_s)
        yield from (changes, loaded, seconds)

    def _record(self, url: str, load_s: float) -> None:
        self._counts[url, "loaded"] += 1
        self._load_s += load_s
        self._load_counts[next((one for one in _SECONDS if load_s <= one), float("inf"))] += 1


def adapters_of(fleet: Fleet) -> dict[str, Adapter]:
    """Return the adapters of a fleet by their names."""
    return {one.name: one for model in fleet.models for one in model.adapters}


async def _left(shelf: Shelf, victim: str, adapter: Adapter) -> None:
    """Wait until no request uses an adapter, which gets no more, so that it may make way. Raises
    AdapterError where that takes too long."""
    while shelf.is_claimed(victim):  # else two adapters could displace each other for ever
        await asyncio.sleep(0)
    shelf.leaving = victim
    try:
        async with asyncio.timeout(_LEAVE_S):
            while shelf.users[victim]:
                shelf.released.clear()
                await shelf.released.wait()
    except TimeoutError:
        raise _InUseError(_in_use(adapter)) from None
    finally:
        shelf.leaving = ""


def _in_use(adapter: Adapter) -> str:
    return f"has no room for {adapter.name}: its adapters are in use"


def _no_room(adapter: Adapter) -> str:
    return f"has no room for {adapter.name}: none of its adapters can make way"


def _forget(shelf: Shelf, name: str, done: "asyncio.Task[None]") -> None:
    shelf.loading.pop(name, None)
    if not done.cancelled():
        done.exception()  # it was told to those who waited, if any did

