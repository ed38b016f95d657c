"""An engine's answer on its way to the client, in one piece or streamed."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from penstock.engines.client.dialects import Dialect, Question, StreamTranslator
from penstock.engines.client.state import EngineState, InFlight
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask_limits import StreamLimit, stream_limit
from penstock.serving.gateway.engine_http import EngineAnswer
from penstock.serving.gateway.exchange import (
    FAULTS,
    ClientDisconnectedError,
    EngineFailedError,
    Exchange,
    failure_of,
    late,
)
from penstock.serving.gateway.relay import Relay, RelayedStream
from penstock.serving.gateway.silence import SilenceWatch
from penstock.serving.tenants.lease import Charge

DECISION_HEADER = "X-Penstock-Decision"
RELAXED_HEADER = "X-Penstock-Relaxed"
_LINGER_S = 1.0  # from an answer's last token to the end of the engine's stream


class _Stream(web.StreamResponse):
    """A response whose headers are sent together with the first bytes of its body."""

    _send_headers_immediately = False


class Answers:
    """Passes answers to clients. ``clock`` is monotonic, in seconds. ``on_end`` is called before a
    client sees the end of an answer."""

    def __init__(self, clock: Callable[[], float],
                 on_end: Callable[[Exchange], Awaitable[None]]) -> None:
        self._clock = clock
        self._on_end = on_end

    async def whole(self, exchange: Exchange, answer: EngineAnswer, engine: EngineState,
                    dialect: Dialect, question: Question, watch: SilenceWatch) -> web.Response:
        """Relay an answer in one piece. Raises EngineFailedError."""
        whole = await self._read(answer, exchange.ask.most_answer_bytes, watch)
        kind = answer.content_type
        try:
            document = orjson.loads(whole)
            if not isinstance(document, dict):
                raise ValueError("no JSON object")
            translated = dialect.whole(question, document, answer.status)
            if translated is not None:
                document, load_s = translated
                whole, kind = orjson.dumps(document), "application/json"
                engine.loaded_in(load_s or 0.0)
            now_s = self._clock()
            if answer.status < 400:
                exchange.passed.take_whole(document, now_s)
        except (ValueError, TypeError, AttributeError) as error:
            if answer.status < 400:
                raise EngineFailedError("sent an answer that is not a JSON object"
                                        if isinstance(error, ValueError) else
                                        "sent an answer of an unknown form") from error
            now_s = self._clock()
        engine.succeeded(now_s, now_s - exchange.asked_s, exchange.asked_s)
        if answer.status < 400:
            exchange.lease.keep(whole, kind)
            await self._charged(exchange)
        return web.Response(body=whole, status=answer.status, content_type=kind,
                            headers=_headers(exchange))

    async def streamed(self, exchange: Exchange, answer: EngineAnswer,
                       engine: EngineState, in_flight: InFlight,
                       translator: StreamTranslator | None,
                       watch: SilenceWatch) -> web.StreamResponse:
        """Relay an answer as a stream. Raises EngineFailedError as long as nothing has been
        sent."""
        passed = exchange.passed
        relay = Relay(passed, exchange.pace, translator, keep_usage=exchange.ask.wants_usage,
                      limit=_limit(exchange))
        response: web.StreamResponse | None = None
        watch.drop_client = partial(_drop, exchange.http)
        has_all, num_bytes = False, 0
        while True:
            try:
                chunk, at_end = await _more(answer, passed, has_all=has_all)
            except FAULTS as error:
                return await self._broken(exchange, watch, engine, response, failure_of(error))
            now_s = self._clock()
            watch.heard(now_s)
            out = relay.feed(chunk, now_s, at_end=at_end)
            num_bytes += len(chunk)
            fault = relay.fault or _fault(exchange, num_bytes, at_end=at_end)
            if fault is not None:
                return await self._broken(exchange, watch, engine, response, failure_of(fault),
                                          out)
            if passed.num_tokens > in_flight.output_tokens:
                engine.ledger.advance(in_flight, passed.num_tokens)
            if passed.is_cut:
                charge = await self._charged(exchange)
                out, at_end = out + relay.ending(charge.prompt_tokens, charge.output_tokens), True
            if response is None and passed.error is not None and not passed.num_tokens:
                raise EngineFailedError("reported an error",
                                        f"said {str(passed.error.get('message'))[:200]!r}")
            if at_end or passed.done:
                await self._charged(exchange)
            if at_end:
                break
            if out:
                response = response or await _begun(exchange)
                watch.listen = False
                await _sent(response.write(out))
                watch.listen, has_all = True, passed.done
        if passed.error is not None:
            engine.failed(self._clock())
        else:
            engine.succeeded(self._clock(), None if passed.first_token_s is None
                             else passed.first_token_s - exchange.asked_s, exchange.asked_s)
        engine.loaded_in((translator and translator.load_s) or 0.0)
        response = response or await _begun(exchange)
        await _sent(response.write_eof(out), needed=not has_all)
        return response

    async def _broken(self, exchange: Exchange, watch: SilenceWatch, engine: EngineState,
                      response: web.StreamResponse | None, failure: EngineFailedError,
                      last: bytes = b"") -> web.StreamResponse:
        """End a stream whose engine failed or was late, after the ``last`` bytes that it sent."""
        if response is None:
            raise failure
        # Too late for a retry: the client must learn that the answer is incomplete.
        if watch.is_late:
            error = late(exchange.ask).document()
        else:
            engine.failed(self._clock())
            error = ServiceError(
                502, f"the engine failed in the middle of its answer: it {failure}",
                "engine_failed").document()
        exchange.passed.error = error["error"]
        await self._charged(exchange)
        await _sent(response.write_eof(last + b"data: " + orjson.dumps(error) + b"\n\n"))
        return response

    async def _read(self, answer: EngineAnswer, most_bytes: int,
                    watch: SilenceWatch) -> bytes:
        """Read a whole answer. Raises EngineFailedError."""
        parts, num_bytes = [], 0
        if (answer.content_length or 0) > most_bytes:
            raise _too_large()
        try:
            while part := await answer.read():
                watch.heard(self._clock())
                parts.append(part)
                num_bytes += len(part)
                if num_bytes > most_bytes:
                    raise _too_large()
        except FAULTS as error:
            raise failure_of(error) from error
        return b"".join(parts)

    async def _charged(self, exchange: Exchange) -> Charge:
        """Wait until charge and decision are recorded, which must happen before the client sees the
        end of the answer."""
        charge = exchange.charge()
        await exchange.lease.written()
        await self._on_end(exchange)
        return charge


def _drop(http: web.Request) -> None:
    """Close the connection to a client that takes nothing: the write in progress fails."""
    if http.transport is not None:
        http.transport.abort()


def _fault(exchange: Exchange, num_bytes: int, *, at_end: bool) -> EngineFailedError | None:
    """Return the fault of a stream of which so many bytes came, None where there is none."""
    passed = exchange.passed
    if passed.done or passed.is_cut:
        return None
    if num_bytes > exchange.ask.most_answer_bytes:
        return _too_large()
    if at_end and not passed.whole and passed.error is None:
        return EngineFailedError("ended its stream in the middle")
    return None


def _limit(exchange: Exchange) -> StreamLimit:
    """Return the limit of a stream: the request's, or the lower one of its own budget."""
    ask, most = exchange.ask, exchange.decision.answer_tokens
    most_output = ask.most_output_tokens
    if most is not None:
        most_output = min(most_output, most * ask.num_answers)
    return stream_limit(ask.most_prompt_tokens, most_output)


async def _begun(exchange: Exchange) -> web.StreamResponse:
    """Start the response to the client and return it."""
    response = _Stream(headers={
        "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache",
        **_headers(exchange)})
    await _sent(response.prepare(exchange.http))
    return response


def _headers(exchange: Exchange) -> dict[str, str]:
    """Return the headers that identify the answer's decision."""
    decision = exchange.decision
    headers = {DECISION_HEADER: decision.decision_id}
    if decision.relaxed is not None:
        headers[RELAXED_HEADER] = decision.relaxed.encode("ascii", "replace").decode()
    return headers


async def _sent(sending: Any, *, needed: bool = True) -> None:
    try:
        await sending
    except (ConnectionError, aiohttp.ClientError) as error:
        if needed:
            raise ClientDisconnectedError from error


async def _more(answer: EngineAnswer, passed: RelayedStream, *,
                has_all: bool) -> tuple[bytes, bool]:
    """Return the next bytes of an engine's stream, and whether they are the last. After the last
    token, a failure of the engine is ignored, and so is a client that disconnects because it
    ``has_all``. After the end that the engine told, nothing but the end of the connection is
    awaited.
    """
    try:
        reading = answer.read()
        chunk = await (asyncio.wait_for(reading, _LINGER_S) if passed.done else reading)
        return chunk, passed.done or answer.at_end
    except FAULTS:
        if not passed.done:
            raise
    except asyncio.CancelledError:
        if not has_all:
            raise
    return b"", True


def _too_large() -> EngineFailedError:
    return EngineFailedError("sent an answer larger than the request's tokens can take")
