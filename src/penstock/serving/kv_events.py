"""Follows the KV events of a fleet's engines into one index, for routers."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.engines.client.state import EngineState
from penstock.engines.kv_events.decode import NO_EVENTS, read_batch
from penstock.engines.kv_events.follow import Follower, Source, zmq_asyncio
from penstock.engines.kv_events.learned import LearnedBlocks
from penstock.fleet.values import Fleet
from penstock.policy.route.build import READERS_OF_EVENTS
from penstock.policy.route.live_index import LiveIndex

_LOOK_S = 0.25
_COUNTED = ("messages", "gaps", "replays", "drops", "restarts", "broken")


class KvEvents(Collector):
    """Follows every engine that states an address of events, and shows what came of it."""

    def __init__(self, engines: Sequence[EngineState], index: LiveIndex,
                 note: Callable[[str], None]) -> None:
        self._engines = engines
        self._note = note
        self._followers: dict[tuple[str, Source], Follower] = {}
        self._tasks: dict[tuple[str, Source], asyncio.Task[None]] = {}
        self._noted: set[str] = set()
        self.index = index

    async def run(self) -> None:
        """Follow the engines, also those that come later, until cancelled."""
        context = None
        try:
            while True:
                wanted = {(one.facts.url, source): one for one in self._engines
                          if (source := source_of(one)) is not None}
                if wanted and context is None:
                    context = zmq_asyncio().Context()
                self._match(wanted, context)
                await asyncio.sleep(_LOOK_S)
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.clear()
            self._followers.clear()
            if context is not None:
                context.destroy(linger=0)

    def _match(self, wanted: dict[tuple[str, Source], EngineState], context: object) -> None:
        """Start and end followers, and move engines that have another number now."""
        for key in [key for key in self._followers if key not in wanted]:
            self._tasks.pop(key).cancel()
            self._followers.pop(key).blocks.lost()
        moved = [(self._followers[key], one.facts.replica_id) for key, one in wanted.items()
                 if key in self._followers
                 and self._followers[key].blocks.replica_id != one.facts.replica_id]
        for follower, _ in moved:
            follower.blocks.suspend()
        for follower, replica_id in moved:
            follower.move(replica_id)
        for key, one in wanted.items():
            if key not in self._followers:
                blocks = LearnedBlocks(self.index, one.facts.replica_id)
                self._followers[key] = follower = Follower(key[1], blocks, context)
                self._tasks[key] = asyncio.create_task(follower.run())
            elif self._tasks[key].done():  # a bug, which the log must show
                said = f"the events of {key[0]} are followed anew: {self._tasks[key].exception()!r}"
                if said not in self._noted:
                    self._noted.add(said)
                    self._note(said)
                self._tasks[key] = asyncio.create_task(self._followers[key].run())

    def document(self) -> list[dict[str, object]]:
        """Return the state of each engine's events as plain data."""
        return [{"url": url, "events": source.events,
                 "is_followed": self.index.follows(one.blocks.replica_id),
                 "is_whole": self.index.is_whole(one.blocks.replica_id),
                 "num_blocks": self.index.num_blocks(one.blocks.replica_id),
                 "lag_s": one.counts.lag_s,
                 **{f"num_{name}": getattr(one.counts, name) for name in _COUNTED}}
                for (url, source), one in self._followers.items()]

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of every followed engine."""
        events = CounterMetricFamily("penstock:kv_events", "Events of engines about their KV "
                                     "caches", labels=("url", "type"))
        messages = CounterMetricFamily("penstock:kv_event_messages", "Messages with KV events, and "
                                       "what happened to them", labels=("url", "what"))
        orphans = CounterMetricFamily("penstock:kv_orphan_blocks", "Stored blocks whose beginning "
                                      "is not known", labels=("url",))
        blocks = GaugeMetricFamily("penstock:kv_index_blocks", "Blocks that an engine is known to "
                                   "hold", labels=("url",))
        whole = GaugeMetricFamily("penstock:kv_index_whole", "1 where no block that an engine "
                                  "holds can be missing in the index", labels=("url",))
        lag = GaugeMetricFamily("penstock:kv_event_lag_seconds", "Age of the latest message at its "
                                "arrival", labels=("url",))
        for (url, _), one in self._followers.items():
            for kind, num in sorted(one.blocks.counts.items()):
                events.add_metric((url, kind), num)
            for name in _COUNTED:
                messages.add_metric((url, name), getattr(one.counts, name))
            orphans.add_metric((url,), one.blocks.num_orphans)
            blocks.add_metric((url,), self.index.num_blocks(one.blocks.replica_id))
            whole.add_metric((url,), float(self.index.is_whole(one.blocks.replica_id)))
            lag.add_metric((url,), one.counts.lag_s)
        yield from (events, messages, orphans, blocks, whole, lag)


def check_kv_events(fleet: Fleet) -> None:
    """Raise InputError where a fleet's events cannot be followed, since pyzmq is missing."""
    if any(group.kv_events for group in fleet.replicas):
        zmq_asyncio()
        read_batch(NO_EVENTS)


def note_unread_events(fleet: Fleet, note: Callable[[str], None]) -> None:
    """Note where engines report events, and the fleet's router does not read them."""
    route = fleet.policies.route
    names = (route.name, route.options.get("dispatcher"))
    if any(group.kv_events for group in fleet.replicas) and not (
            set(names) & set(READERS_OF_EVENTS)):
        note(f"replicas.kv_events: policies.route {route.name} does not read them; "
             f"{', '.join(READERS_OF_EVENTS[:-1])} and {READERS_OF_EVENTS[-1]} do")


def source_of(engine: EngineState) -> Source | None:
    """Return where an engine publishes its events, None where that is not stated. A ``*`` in the
    place of a host is the host of the engine's URL."""
    events, replay = engine.facts.kv_events, engine.facts.kv_replay
    if events is None:
        return None
    parts = urlsplit(engine.facts.url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return Source(events.replace("*", host), replay and replay.replace("*", host))


