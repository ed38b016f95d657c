"""Engines that accept a request and then say nothing."""

import asyncio
import socket
import time
from contextlib import suppress

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from penstock.core.slo import Slo
from penstock.engines.client.state import EngineFacts, EngineState
from penstock.serving.gateway import silence
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.relay import RelayedStream
from penstock.serving.gateway.silence import Silence, SilenceWatch, SilenceWatches
from support import misbehaving_engines as odd
from support.raw_http import length, post

LIMITS = Limits(silence_s=300.0)
ASK = {"prompt": "x", "max_tokens": 5}


@pytest.fixture
def quick(monkeypatch):
    """Engines may be silent for 0.2 s, by the targets of the class."""
    monkeypatch.setattr(silence, "_LEAST_S", 0.2)
    monkeypatch.setattr(silence, "_TARGETS", 0.01)
    monkeypatch.setattr(silence, "_TOKENS", 0.01)
    monkeypatch.setattr(silence, "_LOOK_S", 0.02)


@pytest.mark.parametrize(("slo", "stream", "first_s", "within_s"), [
    (Slo(ttft_s=1.0, itl_s=0.05), True, 30.0, 30.0), (Slo(ttft_s=5.0, itl_s=0.2), True, 50.0, 60.0),
    (Slo(ttft_s=100.0), True, 300.0, 300.0), (Slo(), True, 300.0, 300.0),
    (Slo(ttft_s=1.0, itl_s=0.05), False, 300.0, 300.0), (Slo(e2e_s=6.0), False, 60.0, 300.0)])
def test_an_engine_may_be_silent_as_long_as_targets_and_the_limit_allow(
        slo, stream, first_s, within_s) -> None:
    found = Silence(slo, 300.0, stream=stream)
    assert (found.first_s, found.within_s) == (first_s, within_s)


async def asked(session, **more):
    headers = more.pop("headers", {})
    async with session.post("/v1/completions", json={**ASK, **more}, headers=headers) as answer:
        return answer.status, await answer.text()


def test_another_engine_answers_for_one_that_hangs(quick) -> None:
    """Before the first byte; the hanging engine is the first one that is chosen."""
    async def work(session, engines):
        found = [await asked(session, stream=True) for _ in range(3)]
        return found, [engine.num_failed for engine in engines]

    found, failed = odd.before([odd.hangs, odd.well], work, limits=LIMITS)
    assert [status for status, _ in found] == [200] * 3
    assert failed[0] >= 1
    assert failed[1] == 0


def test_a_stream_that_stops_is_ended_with_an_error(quick) -> None:
    async def work(session, engines):
        return await asked(session, stream=True)

    status, text = odd.before([odd.hangs_in_the_middle], work, limits=LIMITS)
    assert status == 200
    assert "was silent for too long" in text


@pytest.mark.parametrize("stream", [True, False])
def test_no_request_waits_longer_than_its_deadline_and_no_engine_is_blamed(stream) -> None:
    async def work(session, engines):
        found = await asked(session, stream=stream, headers={"X-Penstock-Deadline-S": "0.3"})
        return found, [engine.num_failed for engine in engines], [len(e.in_flight)
                                                                  for e in engines]

    (status, text), failed, in_flight = odd.before([odd.hangs], work, limits=LIMITS)
    assert status == 429
    assert '"code":"deadline"' in text
    assert "0.3 s" in text
    assert failed == [0]
    assert in_flight == [0]


@pytest.mark.parametrize("first", [b": still waiting\n\n",
                                   b'data: {"choices":[{"index":0,"text":""}]}\n\n'])
def test_an_engine_is_not_blamed_where_only_a_sign_of_life_came_by_the_deadline(first) -> None:
    async def lives(request):
        response = await odd.begun(request)
        await response.write(first)
        await asyncio.sleep(600)
        return response

    async def work(session, engines):
        found = await asked(session, stream=True, headers={"X-Penstock-Deadline-S": "0.3"})
        return found, engines[0].num_failed, len(engines[0].in_flight)

    (status, text), *engine = odd.before([lives], work, limits=LIMITS)
    assert status == 200
    assert '"code":"deadline"' in text
    assert engine == [0, 0]


def test_a_deadline_that_has_passed_does_not_cut_the_connection() -> None:
    """The first body cannot be sent to an engine, and is refused before anything is awaited."""
    async def work(session, engines):
        headers = {"X-Penstock-Deadline-S": "0.000001", "Content-Type": "application/json"}
        deep = b'{"prompt":"x","max_tokens":5,"x":%b}' % (b"[" * 300 + b"]" * 300)
        async with session.post("/v1/completions", data=deep, headers=headers) as answer:
            first = answer.status
            await answer.read()
        return first, await asked(session)

    assert odd.before([odd.well], work, limits=LIMITS)[0] == 400


def test_an_engine_that_works_on_others_answers_is_not_silent(quick) -> None:
    """The second request waits in the engine's queue while the first gets a token each 0.05 s."""
    first_ends = asyncio.Event()

    async def one_after_another(request):
        if not first_ends.is_set() and (await request.json())["prompt"] == "first":
            response = await odd.begun(request)
            for _ in range(12):
                await response.write(odd.TOKENS[0])
                await asyncio.sleep(0.05)
            await response.write(odd.END)
            first_ends.set()
            return response
        await first_ends.wait()
        return await odd.well(request)

    async def work(session, engines):
        first = asyncio.create_task(asked(session, prompt="first", stream=True))
        await asyncio.sleep(0.05)
        second = await asked(session, stream=True)
        return (await first)[0], second[0], engines[0].num_failed

    assert odd.before([one_after_another], work, limits=LIMITS) == (200, 200, 0)


def test_silence_and_deadline_at_one_moment_end_an_attempt_once() -> None:
    """A busy event loop comes to both at once. Two cancellations would be taken for a client's, who
    would get no answer."""
    async def attempt():
        loop = asyncio.get_running_loop()
        watches, limits = SilenceWatches(loop.time), Silence(Slo(), 300.0, stream=True)
        limits.first_s = 0.04
        engine = EngineState(EngineFacts(0, "http://x", "m", None, 1000, 1.0))

        def look():
            for watch in list(watches.active):
                watch.look(loop.time())

        with SilenceWatch(engine, limits, loop.time() + 0.06, RelayedStream(), watches) as watch:
            loop.call_later(0.05, look)
            loop.call_soon(time.sleep, 0.1)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return watch.has_cancelled()

    assert asyncio.run(attempt()) is True


class Attempt:
    """A watched attempt that began at 0 s on a clock that the test sets; a first byte may take
    30 s, and no byte of the answer may come for 300 s."""

    def __init__(self) -> None:
        self.now_s, self.ended_s = 0.0, []
        self.engine = EngineState(EngineFacts(0, "http://x", "m", None, 1000, 1.0))
        self.watches = SilenceWatches(lambda: self.now_s)
        self.watch = SilenceWatch(self.engine, Silence(Slo(ttft_s=1.0), 300.0, stream=True),
                                  float("inf"), RelayedStream(), self.watches)
        self.watch.give_up = lambda: self.ended_s.append(self.now_s)

    def passes(self, end_s, *, others_answer=False):
        """Let time pass to ``end_s``, second by second."""
        while self.now_s < end_s and not self.ended_s:
            self.now_s += 1.0
            if others_answer:
                self.engine.heard_s = self.now_s
            for watch in list(self.watches.active):
                watch.look(self.now_s)


@pytest.fixture
def attempt():
    async def made():
        return Attempt()

    found = asyncio.run(made())
    with found.watch:
        yield found
    assert not found.watches.active


def test_a_client_that_reads_slowly_does_not_make_its_engine_silent(attempt) -> None:
    for written_s in range(100, 1001, 100):  # every write takes 100 s
        attempt.watch.listen = False
        attempt.passes(written_s)
        attempt.watch.listen = True
        attempt.watch.heard(attempt.now_s)
    assert not attempt.ended_s
    attempt.passes(2000.0)
    assert attempt.ended_s == [1030.0]


def test_a_client_that_takes_nothing_is_dropped(attempt) -> None:
    dropped_s: list[float] = []
    attempt.watch.drop_client = lambda: dropped_s.append(attempt.now_s)
    attempt.watch.listen = False
    attempt.passes(1000.0)
    assert dropped_s == [300.0]
    assert not attempt.ended_s  # the engine is not at fault


async def flood(request):
    """A stream that never ends."""
    response = await odd.begun(request)
    event = b'data: {"choices":[{"index":0,"text":"%b"}]}\n\n' % (b"x" * 200)
    while True:
        await response.write(event)


def test_a_client_that_never_reads_gives_its_place_back(quick) -> None:
    body = b'{"prompt":"x","max_tokens":8000,"n":8,"stream":true}'  # more than fits on the way

    async def work(session, engines):
        at = session._base_url
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)  # little fits on the way
        client.connect((at.host, at.port))
        _, writer = await asyncio.open_connection(sock=client, limit=1024)
        try:
            writer.write(post(body, length(body)))
            async with asyncio.timeout(30):
                for wanted in (True, False):
                    while bool(engines[0].in_flight) is not wanted:
                        await asyncio.sleep(0.01)
            return engines[0].num_failed
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    assert odd.before([flood], work, limits=Limits(silence_s=2.0)) == 0


def test_an_answer_that_never_comes_ends_though_its_engine_answers_others(attempt) -> None:
    attempt.passes(1000.0, others_answer=True)
    assert attempt.ended_s == [300.0]
