"""Engines of simulated schedules: OpenAI's API with every fault, over the simulated network.

An engine sends answers whose every token says which answer it belongs to, so that a mixture of two
answers shows. An ``Answer`` records what was sent, and what an honest engine counted.
"""

import asyncio
from dataclasses import dataclass, field

import orjson

PROMPT_TOKENS = 3
_HEAD = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n")
ABSURD = (10**9, 1e300, -5, "many", None, True, 10**7)
HONEST = ("well", "slow", "lingers")
FAULTS = ("busy", "unavailable", "error 500", "dies before", "dies in the middle", "hangs before",
          "hangs in the middle", "garbage before", "garbage in the middle", "half closed",
          "error in the middle", "redirects", "packs", "no choices")
DISHONEST = ("no usage", "absurd usage", "ignores max_tokens")


@dataclass
class Answer:
    """One request that reached an engine. ``counted`` are the tokens of an honest engine so far;
    ``usage`` is what it claimed, None before."""

    decision_id: str
    number: int
    engine: str
    gateway: object
    at_s: float
    max_tokens: int
    kind: str
    sent: int = 0          # events with text
    counted: int = 0
    usage: object = None
    left_s: float | None = None  # when the gateway hung up, or the answer ended
    text: list = field(default_factory=list)


class SimulatedEngine:
    """An engine on a port. ``moods`` are the kinds of answers to draw from."""

    def __init__(self, world, name, port, moods):
        self.world = world
        self.name = name
        self.port = port
        self.moods = moods
        self.well = True
        self.answers = []
        self.process = None

    async def start(self):
        """Listen."""
        await self.world.loop.create_server(lambda: _Connection(self), port=self.port)


class _Connection(asyncio.Protocol):
    """Requests of one gateway, one after another."""

    def __init__(self, engine):
        self.engine = engine
        self.world = engine.world
        self._buffer = b""
        self._transport = None
        self._task = None

    def connection_made(self, transport):
        self._transport = transport

    def connection_lost(self, error):
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data):
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(headers.get(b"content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        if head.startswith(b"GET"):
            self._look(head.split(b" ", 2)[1])
        else:
            self._begin(headers, orjson.loads(rest[:length]))

    def _look(self, path):
        if not self.engine.well:
            self._plain(503)
        elif path == b"/health":
            self._plain(200)
        else:
            self._plain(404)

    def _plain(self, status, body=b"", *headers):
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
        self._transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def _begin(self, headers, body):
        world, engine = self.world, self.engine
        kind = world.random.choice(engine.moods)
        answer = Answer(headers[b"x-request-id"].decode(), len(world.answers), engine.name,
                        self._transport.peer._process, world.loop.time(), body["max_tokens"], kind)
        world.answers.append(answer)
        engine.answers.append(answer)
        world.watch()
        world.note(engine.name, f"{kind} for {answer.decision_id}")
        if kind not in HONEST:
            world.faults["engine: " + kind] += 1
        self._task = world.loop.create_task(self._answered(answer, body))

    async def _answered(self, answer, body):
        try:
            await self._answer(answer, body)
        except asyncio.CancelledError:
            self.world.note(self.engine.name, f"{answer.decision_id} was hung up on")
        finally:
            answer.left_s = self.world.loop.time()
            self._task = None

    async def _answer(self, answer, body):
        kind, random = answer.kind, self.world.random
        await asyncio.sleep(random.choice((0.0, 0.001, 0.02, 0.1)))
        if kind == "hangs before":
            await self.world.loop.create_future()
        if kind == "dies before":
            self._transport.abort()
        elif kind == "garbage before":
            self._plain(200, b"\x00\xff<html>" * 20, "Content-Type: text/html")
        elif kind == "busy":
            self._plain(429, b"{}", "Retry-After: 1", "Content-Type: application/json")
        elif kind in ("unavailable", "error 500"):
            self._plain(503 if kind == "unavailable" else 500, b"boom")
        elif kind == "redirects":
            self._plain(307, b"", "Location: http://127.0.0.1:1/v1/completions")
        elif kind == "packs":
            self._plain(200, b"\x1f\x8b", "Content-Encoding: gzip",
                        "Content-Type: text/event-stream")
        elif body.get("stream"):
            await self._stream(answer)
        else:
            await self._whole(answer)

    async def _whole(self, answer):
        random, kind = self.world.random, answer.kind
        num = self._num_tokens(answer)
        await asyncio.sleep(random.choice((0.0, 0.01, 0.3)))
        text = "".join(self._text(answer, i) for i in range(num))
        answer.sent = answer.counted = num
        document = {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}
        if kind != "no usage":
            document["usage"] = self._usage(answer)
        body = orjson.dumps(document)
        if kind in ("half closed", "dies in the middle", "garbage in the middle",
                    "hangs in the middle", "error in the middle", "no choices"):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                  b"Content-Length: %d\r\n\r\n" % len(body) + body[:-5])
            if kind == "hangs in the middle":
                await self.world.loop.create_future()
            await asyncio.sleep(0.001)
            self._transport.abort() if kind == "dies in the middle" else self._transport.close()
            return
        self._plain(200, body, "Content-Type: application/json")

    async def _stream(self, answer):
        random, kind = self.world.random, answer.kind
        self._transport.write(_HEAD)
        num = self._num_tokens(answer)
        breaks_at = random.randrange(0, num + 1) if kind in FAULTS else None
        each = 1 if num % 2 else random.choice((1, 1, 2))
        gap_s = random.choice((0.0, 0.001, 0.02)) if kind != "slow" else random.choice((0.2, 0.7))
        for i in range(0, num, each):
            if breaks_at is not None and i >= breaks_at:
                break
            self._event({"choices": [{"index": 0, "text": "".join(
                self._text(answer, k) for k in range(i, i + each))}]})
            answer.sent += 1
            answer.counted += each
            if gap_s:
                await asyncio.sleep(gap_s)
        if breaks_at is not None:
            await self._break(answer)
            return
        self._event({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
        if kind != "no usage":
            self._event({"choices": [], "usage": self._usage(answer)})
        self._chunk(b"data: [DONE]\n\n")
        if kind == "lingers":
            await asyncio.sleep(30.0)
        self._transport.write(b"0\r\n\r\n")

    async def _break(self, answer):
        kind = answer.kind
        if kind == "hangs in the middle":
            await self.world.loop.create_future()
        elif kind == "garbage in the middle":
            self._chunk(b"data: {not json\n\n")
        elif kind == "error in the middle":
            self._event({"error": {"message": "out of memory", "code": 500}})
        elif kind == "no choices":
            self._event({"choices": [3]})
        elif kind == "dies in the middle":
            self._transport.abort()
            return
        await asyncio.sleep(0.001)
        if kind == "half closed":
            self._transport.write(b"0\r\n\r\n")
        else:
            self._transport.close()

    def _num_tokens(self, answer):
        if answer.kind == "ignores max_tokens":
            return 3 * answer.max_tokens
        return self.world.random.randint(1, answer.max_tokens)

    def _usage(self, answer):
        output = answer.counted
        if answer.kind == "absurd usage":
            output = self.world.random.choice(ABSURD)
        answer.usage = output
        return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": output}

    def _text(self, answer, i):
        return f"<{answer.number}.{i}>"

    def _event(self, document):
        self._chunk(b"data: " + orjson.dumps(document) + b"\n\n")

    def _chunk(self, data):
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
