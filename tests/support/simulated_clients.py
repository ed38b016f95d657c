"""Clients of simulated schedules: each sends one request, may leave at any moment, may retry."""

import asyncio
import re
from dataclasses import dataclass, field

import orjson

_TOKEN = re.compile(r"<(\d+)\.(\d+)>")
RETRIED = (429, 502, 503)


@dataclass
class Heard:
    """What a client saw of one try. ``ended`` says whether it saw the whole answer."""

    key: str
    gateway: object
    begun_s: float
    max_tokens: int
    stream: bool
    sent: bool = False
    status: int | None = None
    decision_id: str | None = None
    ended: bool = False
    charged: bool = True   # the charge was durable when it saw the end
    trouble: str | None = None  # of the ledger at that instant
    error: bool = False
    left: bool = False
    ended_s: float | None = None
    code: str = ""
    tokens: list = field(default_factory=list)  # (answer, place)


class SimulatedClient:
    """One client, which stays where ``leaves_after_s`` is None. It may mark its tries as one
    request (``repeats_key``)."""

    def __init__(self, world, name, key, stream, max_tokens, leaves_after_s, num_retries,
                 repeats_key=None):
        self.world = world
        self.name = name
        self.key = key
        self.stream = stream
        self.max_tokens = max_tokens
        self.leaves_after_s = leaves_after_s
        self.num_retries = num_retries
        self.repeats_key = repeats_key

    async def run(self):
        """Send the request, and again where that may help."""
        world = self.world
        for _ in range(1 + self.num_retries):
            gateway = world.random.choice(world.gateways)
            heard = Heard(self.key, gateway.process, world.loop.time(), self.max_tokens,
                          self.stream)
            world.heard.append(heard)
            try:
                await self._try(heard, gateway)
            except (OSError, asyncio.IncompleteReadError) as error:
                world.note(self.name, f"{type(error).__name__} {heard.decision_id}")
            except ValueError:
                world.broken.append(f"retries: what {heard.decision_id} brought is not HTTP")
            world.watch()
            heard.ended_s = world.loop.time()
            world.note(self.name, f"{heard.status} {heard.code} of {heard.decision_id}, "
                                  f"{len(heard.tokens)} tokens, "
                                  f"{'ended' if heard.ended else 'cut'}")
            if (heard.ended and heard.status == 200) or heard.left:
                return
            await asyncio.sleep(world.random.choice((0.0, 0.05, 1.0)))

    async def _try(self, heard, gateway):
        world = self.world
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        try:
            body = orjson.dumps({"model": "llama-3-8b", "prompt": "Tell me of rivers.",
                                 "max_tokens": self.max_tokens, "stream": self.stream,
                                 "stream_options": {"include_usage": True}}
                                if self.stream else
                                {"prompt": "Tell me of rivers.", "max_tokens": self.max_tokens})
            key = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
            if self.repeats_key:
                key += f"Idempotency-Key: {self.repeats_key}\r\n"
            writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n{key}"
                         f"Content-Type: application/json\r\nContent-Length: {len(body)}"
                         "\r\n\r\n".encode() + body)
            heard.sent = True
            if self.leaves_after_s is None:
                await self._read(reader, heard, gateway)
            else:
                async with asyncio.timeout(self.leaves_after_s):
                    await self._read(reader, heard, gateway)
        except TimeoutError:
            heard.left = True
            world.faults["client: leaves"] += 1
            world.note(self.name, f"leaves {heard.decision_id}")
        finally:
            writer.transport.abort() if world.random.random() < 0.5 else writer.close()

    async def _read(self, reader, heard, gateway):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heard.status = int(head.split(" ", 2)[1])
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        heard.decision_id = headers.get("x-penstock-decision")
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
            self._hear(body, heard)
            if heard.status == 200:
                self._end(heard, gateway)
            elif heard.status >= 400:
                heard.code = orjson.loads(body)["error"]["code"]
                heard.ended = True
            return
        rest = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            rest += (await reader.readexactly(size + 2))[:-2]
            *events, rest = rest.split(b"\n\n")
            for event in events:
                self._hear(event, heard)
                if event == b"data: [DONE]":
                    self._end(heard, gateway)
        await reader.readexactly(2)

    def _hear(self, piece, heard):
        heard.error |= b'"error"' in piece
        heard.tokens += [(int(answer), int(place))
                         for answer, place in _TOKEN.findall(piece.decode("utf-8", "replace"))]

    def _end(self, heard, gateway):
        """The client sees the end of a whole answer."""
        heard.ended = True
        heard.charged = self.world.database.has_charge(heard.decision_id)
        heard.trouble = gateway.trouble()
