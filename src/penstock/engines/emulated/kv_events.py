"""Publishes an emulated engine's KV events as vLLM does, over ZeroMQ (pyzmq, extra
``kv-events``)."""

import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.engines.beside import beside
from penstock.engines.kv_events.decode import Event, Removed, Stored, written
from penstock.engines.kv_events.follow import END_SEQ, zmq_asyncio
from penstock.engines.server.ask import Ask

_BUFFERED = 10_000     # vLLM's default
_MOST_SEEN = 1_000_000
_SEQ_BYTES = 8


class _Block(NamedTuple):
    parent: int | None
    tokens: tuple[int, ...]
    adapter: str
    extra: tuple[str, ...]


class KvPublisher:
    """Publishes the blocks that an engine stores and removes. ``send`` gets a payload."""

    def __init__(self, block_tokens: int, send: Callable[[bytes], None],
                 wall_s: Callable[[], float] = time.time) -> None:
        self._block_tokens = block_tokens
        self._send = send
        self._wall_s = wall_s
        self._seen: OrderedDict[int, _Block] = OrderedDict()

    def saw(self, ask: Ask, hashes: Sequence[int], adapter: str = "") -> None:
        """Remember the blocks of a request, of which some may be stored."""
        size, parent = self._block_tokens, None
        tokens = ask.tokens()
        for number, name in enumerate(hashes):
            if name in self._seen:
                self._seen.move_to_end(name)
            else:
                salt = ask.cache_salt if not number else ""
                self._seen[name] = _Block(parent, tokens[number * size:(number + 1) * size],
                                          adapter, tuple([one for one in (adapter, salt) if one]))
            parent = name
        while len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)

    def publish(self, changes: list[tuple[int, bool]]) -> None:
        """Publish blocks that were stored (True) and removed, and empty the list."""
        events: list[Event] = []
        for name, is_stored in changes:
            block, last = self._seen.get(name), events[-1] if events else None
            if not is_stored:
                if isinstance(last, Removed):
                    events[-1] = Removed((*last.hashes, name))
                else:
                    events.append(Removed((name,)))
            elif block is not None and isinstance(last, Stored) and last.hashes[-1] == block.parent:
                events[-1] = Stored((*last.hashes, name), last.parent, last.tokens + block.tokens,
                                    self._block_tokens, 0, last.adapter,
                                    (*last.extras, block.extra))
            elif block is not None:
                events.append(Stored((name,), block.parent, block.tokens, self._block_tokens, 0,
                                     block.adapter, (block.extra,)))
        changes.clear()
        if events:
            self._send(written(self._wall_s(), events))


class KvSockets(NamedTuple):
    """Addresses of a publisher's sockets, and the function that publishes a payload."""

    events: str
    replay: str
    send: Callable[[bytes], None]


@asynccontextmanager
async def kv_sockets(host: str, port: int) -> AsyncIterator[KvSockets]:
    """Yield a publisher's sockets: events on ``port``, their replay on the next one; 0 takes free
    ports. Raises InputError where one cannot be bound."""
    in_asyncio = zmq_asyncio()
    import zmq

    own = zmq.Context()
    shared = in_asyncio.Context.shadow(own.underlying)
    events, replay = own.socket(zmq.PUB), shared.socket(zmq.ROUTER)
    buffer: deque[tuple[int, bytes]] = deque(maxlen=_BUFFERED)
    try:
        for place, socket in enumerate((events, replay)):
            socket.setsockopt(zmq.LINGER, 0)
            _bind(socket, host, port and port + place)

        def send(payload: bytes) -> None:
            seq = buffer[-1][0] + 1 if buffer else 0
            buffer.append((seq, payload))
            events.send_multipart([b"", _seq(seq), payload])

        async with beside(_replaying(replay, buffer)):
            yield KvSockets(events.last_endpoint.decode(), replay.last_endpoint.decode(), send)
    finally:
        events.close(0)
        replay.close(0)
        own.destroy(0)


async def _replaying(socket: Any, buffer: deque[tuple[int, bytes]]) -> None:
    while True:
        frames = await socket.recv_multipart()
        if len(frames) != 3 or len(frames[2]) != _SEQ_BYTES:
            continue
        first = int.from_bytes(frames[2], "big")
        for seq, payload in [one for one in buffer if one[0] >= first]:
            await socket.send_multipart([frames[0], b"", b"", _seq(seq), payload])
        await socket.send_multipart([frames[0], b"", b"", _seq(END_SEQ), b""])


def _seq(number: int) -> bytes:
    return number.to_bytes(_SEQ_BYTES, "big", signed=True)


def _bind(socket: Any, host: str, port: int) -> None:
    import zmq

    try:
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        raise InputError(f"--kv-events: tcp://{host}:{port}: {error}") from error
