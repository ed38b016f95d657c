"""An engine's side of KV events over ZeroMQ on the loopback, whose messages a test chooses."""

import asyncio
from contextlib import suppress

import zmq
import zmq.asyncio


class FakeKvEngine:
    """Publishes what it is told. Messages that are ``kept`` are sent again by the replay."""

    def __init__(self, events="tcp://127.0.0.1:*", replay=None):
        self.context = zmq.asyncio.Context()
        self.kept: dict[int, bytes] = {}
        self.asked: list[int] = []
        self._events = self.context.socket(zmq.XPUB)  # which tells of subscribers
        self._events.linger = 0
        self._events.bind(events)
        self.events = self._events.last_endpoint.decode()
        self._replay = self.context.socket(zmq.ROUTER)
        self._replay.linger = 0
        self._replay.bind(replay or "tcp://127.0.0.1:*")
        self.replay = self._replay.last_endpoint.decode()
        self._task = asyncio.create_task(self._again())

    async def subscribed(self):
        """Wait for a subscriber."""
        assert (await self._events.recv())[:1] == b"\x01"

    async def publish(self, seq, payload, *, keep=True, send=True):
        if keep:
            self.kept[seq] = payload
        if send:
            await self._events.send_multipart([b"topic", seq.to_bytes(8, "big"), payload])

    async def raw(self, *frames):
        await self._events.send_multipart(list(frames))

    async def _again(self):
        while True:
            client, _, first = await self._replay.recv_multipart()
            self.asked.append(int.from_bytes(first, "big"))
            for seq in sorted(self.kept):
                if seq >= self.asked[-1]:
                    await self._replay.send_multipart(
                        [client, b"", b"topic", seq.to_bytes(8, "big"), self.kept[seq]])
            await self._replay.send_multipart(
                [client, b"", b"topic", (-1).to_bytes(8, "big", signed=True), b""])

    async def close(self):
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._events.close(0)
        self._replay.close(0)
        self.context.term()
