"""Follows the KV events of one engine over ZeroMQ (pyzmq, extra ``kv-events``)."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from penstock.core.errors import missing_extra
from penstock.engines.kv_events.decode import BrokenEventsError, read_batch
from penstock.engines.kv_events.learned import LearnedBlocks

_REPLY_S = 2.0        # for each part of a replay
_AGAIN_S = 1.0        # after an error of a socket
_MOST_BYTES = 64 * 2**20
_MOST_QUEUED = 100_000
_SEQ_BYTES = 8
END_SEQ = -1
"""Number of the message that ends a replay."""


class Source(NamedTuple):
    """Addresses of an engine's events and of their replay, None where there is none."""

    events: str
    replay: str | None = None


@dataclass(slots=True)
class FollowCounts:
    """Counts of the messages of an engine, by their fate.

    ``gaps`` are series of messages that were missed. Of these, ``replays`` were sent again, and
    ``drops`` were not, so that the engine's blocks were forgotten. ``restarts`` are engines started
    anew at the same address, ``broken`` are messages that are not batches of events. ``lag_s`` is
    the time from the latest batch's own time to its arrival.
    """

    messages: int = 0
    gaps: int = 0
    replays: int = 0
    drops: int = 0
    restarts: int = 0
    broken: int = 0
    lag_s: float = 0.0


class Message(NamedTuple):
    """A message with its number in the engine's series."""

    seq: int
    payload: bytes


def zmq_asyncio() -> Any:
    """Return pyzmq's asyncio module. Raises InputError where pyzmq is not installed."""
    try:
        import zmq.asyncio
    except ImportError as error:
        raise missing_extra("replicas[].kv_events", "kv-events", error) from error
    return zmq.asyncio


class Follower:
    """Keeps the blocks of one engine up to date until cancelled. ``wall_s`` is the time of day."""

    def __init__(self, source: Source, blocks: LearnedBlocks, context: Any,
                 wall_s: Callable[[], float] = time.time) -> None:
        self.source = source
        self.blocks = blocks
        self.counts = FollowCounts()
        self._context = context
        self._wall_s = wall_s
        self._next: int | None = None  # the number that must come next, None before the first
        self._latest = b""
        self._latest_s = 0.0
        self._is_cut_off = False  # since the latest message

    async def run(self) -> None:
        """Follow until cancelled. An error of a socket is followed by another try."""
        import zmq

        while True:
            try:
                await self._follow()
            except zmq.ZMQError:
                self.blocks.lost()
                self._next = None
                await asyncio.sleep(_AGAIN_S)

    async def _follow(self) -> None:
        import zmq
        from zmq.utils.monitor import parse_monitor_message

        with closing(self._context.socket(zmq.SUB)) as socket:
            for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, _MOST_QUEUED),
                                  (zmq.MAXMSGSIZE, _MOST_BYTES), (zmq.IPV6, 1),
                                  (zmq.RECONNECT_IVL, 100), (zmq.RECONNECT_IVL_MAX, 2000)):
                socket.setsockopt(option, value)
            monitor = socket.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED)
            try:
                socket.subscribe(b"")
                socket.connect(self.source.events)
                poller = zmq_asyncio().Poller()
                poller.register(socket, zmq.POLLIN)
                poller.register(monitor, zmq.POLLIN)
                while True:
                    ready = dict(await poller.poll())
                    if socket in ready:
                        await self.heard(await socket.recv_multipart())
                    elif monitor in ready:
                        told = parse_monitor_message(await monitor.recv_multipart())
                        if told["event"] == zmq.EVENT_CONNECTED:
                            await self._connected()
                        else:
                            self.cut_off()
            finally:
                socket.disable_monitor()
                monitor.close()

    # -- messages -------------------------------------------------------------------------------

    async def heard(self, frames: Sequence[bytes]) -> None:
        """Take a message of the engine: its topic, its number, and its payload."""
        if len(frames) < 2 or len(frames[-2]) != _SEQ_BYTES:
            self.counts.broken += 1
            return
        message = Message(int.from_bytes(frames[-2], "big", signed=True), frames[-1])
        if self._is_cut_off:
            await self._connected()
        if self._is_cut_off:  # still: nobody tells whether this is the same engine
            self.counts.drops += self._next is not None
            self._forget()
        elif self._next is not None and message.seq < self._next:
            if not self._is_new(message):
                return
            self.counts.restarts += 1
            self._forget()
        if self._next is None and message.seq == 0:
            self.blocks.restarted(whole=True)
        elif self._next is None:
            await self._catch_up(0, message.seq)
        elif message.seq > self._next:
            self.counts.gaps += 1
            await self._catch_up(self._next, message.seq)
        if self._next is None or message.seq >= self._next:
            self._take(message)

    def _is_new(self, message: Message) -> bool:
        """Whether a message with a number of the past comes from an engine that was started anew,
        rather than from a queue that a replay has overtaken."""
        try:
            return read_batch(message.payload).at_s > self._latest_s
        except BrokenEventsError:
            return False

    def _forget(self) -> None:
        """Forget the engine's blocks and their hashes, which may be those of another engine."""
        self.blocks.restarted(whole=False)
        self._next, self._is_cut_off = None, False

    def _take(self, message: Message) -> None:
        self._resume()
        self._next, self._latest = message.seq + 1, message.payload
        self.counts.messages += 1
        try:
            batch = read_batch(message.payload)
        except BrokenEventsError:
            self.counts.broken += 1
            return
        self._latest_s = max(self._latest_s, batch.at_s)
        self.counts.lag_s = max(0.0, self._wall_s() - batch.at_s)
        self.blocks.apply(batch)

    def move(self, replica_id: int) -> None:
        """Give the engine another number."""
        if self._next is None or self._is_cut_off:
            self.blocks.replica_id = replica_id
        else:
            self.blocks.move(replica_id)

    def cut_off(self) -> None:
        """Take the engine's blocks out of the index until its next message: it may be gone, and
        come back with an empty cache."""
        self._is_cut_off = True
        self.blocks.suspend()

    def _resume(self) -> None:
        """Enter the blocks in the index again, once the engine is known to be the same."""
        if self._is_cut_off:
            self._is_cut_off = False
            self.blocks.move(self.blocks.replica_id)

    async def _connected(self) -> None:
        """Ask a replay for what was published before, and whether the engine is still the same."""
        if self.source.replay is None:
            return
        if not self._next:
            await self._catch_up(0, None)
        elif self._is_cut_off:
            found = await self._replayed(self._next - 1)
            if found and found[0] == Message(self._next - 1, self._latest):
                self._resume()
                for message in found[1:]:
                    self._take(message)
            elif found is not None:
                self.counts.restarts += 1
                self._forget()
                await self._catch_up(0, None)

    async def _catch_up(self, first: int, end: int | None) -> None:
        """Take the messages from ``first`` to before ``end`` (None: the last) from a replay. Where
        any is missing, what was known before is forgotten."""
        found = None if self.source.replay is None else await self._replayed(first)
        if found is not None:
            self.counts.replays += 1
            found = [one for one in found if one.seq >= first]
        if found is None or _lacks(found, first, end):
            self.counts.drops += self._next is not None
            self.blocks.begin(whole=False)
        elif first == 0:
            self._is_cut_off = False
            self.blocks.restarted(whole=True)
            self._next = 0
        for message in found or ():
            self._take(message)

    async def _replayed(self, first: int) -> list[Message] | None:
        """Return the messages from a number on that the engine still has, in order; None where it
        does not answer to the end."""
        import zmq

        found: list[Message] = []
        with closing(self._context.socket(zmq.DEALER)) as socket:
            for option, value in ((zmq.LINGER, 0), (zmq.MAXMSGSIZE, _MOST_BYTES), (zmq.IPV6, 1)):
                socket.setsockopt(option, value)
            socket.connect(self.source.replay)
            await socket.send_multipart([b"", first.to_bytes(_SEQ_BYTES, "big")])
            while True:
                try:
                    async with asyncio.timeout(_REPLY_S):
                        frames = await socket.recv_multipart()
                except TimeoutError:
                    return None
                if len(frames) < 2 or len(frames[-2]) != _SEQ_BYTES:
                    self.counts.broken += 1
                    return None
                seq = int.from_bytes(frames[-2], "big", signed=True)
                if seq == END_SEQ:
                    return sorted(found, key=lambda one: one.seq)
                found.append(Message(seq, frames[-1]))


def _lacks(found: Sequence[Message], first: int, end: int | None) -> bool:
    """Whether messages from ``first`` to before ``end`` are missing."""
    numbers = [one.seq for one in found]
    if numbers != list(range(first, first + len(numbers))):
        return True
    return end is not None and first + len(numbers) < end
