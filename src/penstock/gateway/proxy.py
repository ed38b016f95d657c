"""One request from a client to an engine and back, with another try where nothing was sent yet."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from penstock.core.request import Request
from penstock.engine.live.dialects import Dialect, Question, Translator, dialect_of
from penstock.engine.live.ollama_ask import UnsupportedError
from penstock.engine.live.state import EngineState, InFlight
from penstock.gateway.ask import Ask
from penstock.gateway.choice import Chooser, Decision
from penstock.gateway.errors import GatewayError
from penstock.gateway.metrics import GatewayMetrics
from penstock.gateway.relay import Passed, Relay

DECISION_HEADER = "X-Penstock-Decision"
MOST_ANSWER_BYTES = 256 * 2**20
_FAULTS = (aiohttp.ClientError, TimeoutError, ConnectionError)
_NOT_NEEDED = ("Accept", "Accept-Encoding", "User-Agent")


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_in_flight`` requests are on engines at once; ``attempts`` engines are tried before the
    first byte; an engine may be silent for ``silence_s``."""

    max_in_flight: int = 4096
    attempts: int = 3
    connect_s: float = 3.0
    silence_s: float = 300.0


class EngineFailedError(Exception):
    """An engine failed before anything was sent to the client."""


class EngineBusyError(Exception):
    """An engine has no room now; ``retry_after`` is what it said of when it will."""

    def __init__(self, message: str, retry_after: str | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClientLeftError(Exception):
    """There is nobody to send to any more."""


@dataclass(slots=True)
class Exchange:
    """One accepted request on its way: what is asked, by whom, why it goes where, what came."""

    http: web.Request
    path: str
    ask: Ask
    decision: Decision
    number: int
    begun_s: float
    passed: Passed
    retry_after: str | None = None
    unsupported: str | None = None


class _Stream(web.StreamResponse):
    """Its headers leave with the first bytes, in one piece: there is no answer before those."""

    _send_headers_immediately = False


class Proxy:
    """Relays requests to engines. One object belongs to one event loop."""

    def __init__(self, chooser: Chooser, session: aiohttp.ClientSession, metrics: GatewayMetrics,
                 limits: Limits, clock: Callable[[], float],
                 time_of_day: Callable[[], float]) -> None:
        self._chooser = chooser
        self._session = session
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._time_of_day = time_of_day
        self._numbers = count()
        self._num_in_flight = 0
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s,
                                              sock_read=limits.silence_s)
        self._urls: dict[tuple[str, str], URL] = {}

    async def answer(self, http: web.Request, path: str, ask: Ask,
                     decision_id: str) -> web.StreamResponse:
        """The engine's answer for the client. Raises GatewayError."""
        if self._num_in_flight >= self._limits.max_in_flight:
            raise GatewayError(429, f"{self._num_in_flight} requests are under way, as many as "
                                    "this gateway takes; try again in 1 s", "too_many_requests",
                               headers={"Retry-After": "1"})
        begun_s = self._clock()
        exchange = Exchange(http, path, ask, self._chooser.open(decision_id, ask, begun_s),
                            next(self._numbers), begun_s, Passed())
        outcome = "cancelled"
        self._num_in_flight += 1
        try:
            response = await self._tried(exchange)
            outcome = "finished" if response.status < 400 else "refused"
            return response
        except GatewayError:
            outcome = "failed"
            raise
        except ClientLeftError as error:
            raise asyncio.CancelledError from error
        finally:
            self._num_in_flight -= 1
            self._settle(exchange, outcome)

    # -- attempts -------------------------------------------------------------------------------

    async def _tried(self, exchange: Exchange) -> web.StreamResponse:
        tried: list[EngineState] = []
        while True:
            if len(tried) == self._limits.attempts:
                raise _given_up(exchange)
            engine = self._chosen(exchange, tried)
            attempt: dict[str, Any] = {"url": engine.facts.url, "at_s": self._clock(),
                                       "outcome": "is under way"}
            exchange.decision.attempts.append(attempt)
            in_flight = InFlight(exchange.ask.prompt_tokens, self._expected_tokens(exchange.ask))
            engine.begin(exchange.number, in_flight)
            try:
                response = await self._asked(exchange, engine, in_flight)
            except (EngineFailedError, EngineBusyError, UnsupportedError) as error:
                if isinstance(error, EngineFailedError):
                    engine.failed(self._clock())
                elif isinstance(error, EngineBusyError):
                    exchange.retry_after = error.retry_after or "1"
                else:
                    exchange.unsupported = str(error)
                attempt["outcome"] = str(error)
                self._metrics.retries.labels(engine.facts.url).inc()
                tried.append(engine)
            except (asyncio.CancelledError, ClientLeftError):
                attempt["outcome"] = "the client left"
                raise
            else:
                attempt["outcome"] = f"answered {response.status}"
                return response
            finally:
                engine.end(exchange.number)

    def _chosen(self, exchange: Exchange, tried: list[EngineState]) -> EngineState:
        ask, now_s = exchange.ask, self._clock()
        request = Request(exchange.number, now_s, ask.prompt_tokens, ask.max_tokens,
                          ask.service_class, ask.model or "")
        try:
            return self._chooser.choose(request, exchange.decision, ask, tried, now_s)
        except GatewayError:
            if exchange.retry_after is not None or exchange.unsupported is not None:
                raise _given_up(exchange) from None
            raise

    @staticmethod
    def _expected_tokens(ask: Ask) -> float:
        return float(ask.max_tokens)  # the most there can be, as long as nobody predicts

    async def _asked(self, exchange: Exchange, engine: EngineState,
                     in_flight: InFlight) -> web.StreamResponse:
        ask, facts, dialect = exchange.ask, engine.facts, dialect_of(engine.kind)
        question = Question(exchange.path, ask.body, facts.served_as or facts.model,
                            ask.service_class, ask.stream, exchange.decision.decision_id,
                            ask.prompt_tokens, int(self._time_of_day()))
        path, body = dialect.call(question)
        headers = {"Content-Type": "application/json",
                   "X-Request-Id": exchange.decision.decision_id}
        try:
            answer = await self._session.post(self._url(engine, path), data=orjson.dumps(body),
                                              headers=headers, timeout=self._timeout,
                                              skip_auto_headers=_NOT_NEEDED)
        except _FAULTS as error:
            raise _failure(error) from error
        try:
            later = answer.headers.get("Retry-After")
            if dialect.is_busy(answer.status, later):
                raise EngineBusyError(f"answered {answer.status}", later)
            if answer.status >= 500:
                raise EngineFailedError(f"answered {answer.status}")
            if ask.stream and answer.status < 400:
                return await self._streamed(exchange, answer, engine, in_flight,
                                            dialect.stream(question))
            return await self._whole(exchange, answer, engine, dialect, question)
        finally:
            # An answer that was not read to its end takes its connection with it: that is how the
            # engine hears that nobody listens any more.
            answer.release() if answer.content.at_eof() else answer.close()

    def _url(self, engine: EngineState, path: str) -> URL:
        key = (engine.facts.url, path)
        found = self._urls.get(key)
        if found is None:
            found = self._urls[key] = URL(f"{engine.facts.url}{path}", encoded=True)
        return found

    # -- answers --------------------------------------------------------------------------------

    async def _whole(self, exchange: Exchange, answer: aiohttp.ClientResponse,
                     engine: EngineState, dialect: Dialect, question: Question) -> web.Response:
        whole, kind = await _read(answer), answer.content_type
        try:
            document = orjson.loads(whole)
            if not isinstance(document, dict):
                raise ValueError("no JSON object")
            translated = dialect.whole(question, document, answer.status)
            if translated is not None:
                document, load_s = translated
                whole, kind = orjson.dumps(document), "application/json"
                engine.loaded_in(load_s or 0.0)
        except ValueError as error:
            document = {}
            if answer.status < 400:
                raise EngineFailedError("answered something that is no JSON object") from error
        now_s = self._clock()
        engine.succeeded(now_s)
        if isinstance(document.get("usage"), dict):
            exchange.passed.usage = document["usage"]
        exchange.passed.last_token_s = now_s
        return web.Response(body=whole, status=answer.status, content_type=kind,
                            headers={DECISION_HEADER: exchange.decision.decision_id})

    async def _streamed(self, exchange: Exchange, answer: aiohttp.ClientResponse,
                        engine: EngineState, in_flight: InFlight,
                        translator: Translator | None) -> web.StreamResponse:
        passed, content = exchange.passed, answer.content
        relay = Relay(passed, translator, keep_usage=exchange.ask.wants_usage)
        response: web.StreamResponse | None = None
        while True:
            try:
                chunk = await content.readany()
                at_end = content.at_eof()
                out = relay.feed(chunk, self._clock(), at_end=at_end)
                if at_end and not passed.whole and passed.error is None:
                    raise EngineFailedError("ended its stream in the middle")
            except (*_FAULTS, ValueError, TypeError, AttributeError, EngineFailedError) as error:
                return await self._broken(exchange, engine, response, _failure(error))
            if passed.num_tokens > in_flight.output_tokens:
                engine.ledger.advance(in_flight, passed.num_tokens)
            if response is None and passed.error is not None and not passed.num_tokens:
                raise EngineFailedError(f"said {str(passed.error.get('message'))[:200]!r}")
            if at_end:
                break
            if out:
                response = response or await _begun(exchange)
                await _sent(response.write(out))
        (engine.failed if passed.error else engine.succeeded)(self._clock())
        engine.loaded_in((translator and translator.load_s) or 0.0)
        response = response or await _begun(exchange)
        await _sent(response.write_eof(out))
        return response

    async def _broken(self, exchange: Exchange, engine: EngineState,
                      response: web.StreamResponse | None,
                      failure: EngineFailedError) -> web.StreamResponse:
        """The end of a stream whose engine failed."""
        if response is None:
            raise failure
        # Too late for another try: the client must hear that this is not the end it seems.
        engine.failed(self._clock())
        told = GatewayError(502, f"the engine failed in the middle of its answer: it {failure}",
                            "engine_failed").document()
        exchange.passed.error = told["error"]
        await _sent(response.write_eof(b"data: " + orjson.dumps(told) + b"\n\n"))
        return response

    # -- what came of it ------------------------------------------------------------------------

    def _settle(self, exchange: Exchange, outcome: str) -> None:
        ask, passed, now_s = exchange.ask, exchange.passed, self._clock()
        usage = passed.usage or {}
        prompt_tokens = usage.get("prompt_tokens")
        output_tokens = usage.get("completion_tokens", passed.num_tokens)
        if passed.error is not None and outcome == "finished":
            outcome = "broken"
        ttft_s = None if passed.first_token_s is None else passed.first_token_s - exchange.begun_s
        exchange.decision.outcome = {
            "outcome": outcome, "e2e_s": now_s - exchange.begun_s,
            "finish_reason": passed.finish_reason, "ttft_s": ttft_s,
            "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
        metrics = self._metrics.of(ask.model or "", ask.service_class.name)
        metrics.outcomes[outcome].inc()
        if isinstance(output_tokens, int):
            metrics.output_tokens.inc(max(0, output_tokens))
        if isinstance(prompt_tokens, int):
            metrics.prompt_tokens.inc(max(0, prompt_tokens))
        if ttft_s is not None:
            metrics.ttft.observe(ttft_s)
        if outcome == "finished":
            metrics.e2e.observe(now_s - exchange.begun_s)


async def _begun(exchange: Exchange) -> web.StreamResponse:
    """The client's answer, with its headers on their way."""
    response = _Stream(headers={
        "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache",
        DECISION_HEADER: exchange.decision.decision_id})
    await _sent(response.prepare(exchange.http))
    return response


async def _sent(sending: Any) -> None:
    try:
        await sending
    except (ConnectionError, aiohttp.ClientError) as error:
        raise ClientLeftError from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The whole of an answer. Raises EngineFailedError."""
    parts, num_bytes = [], 0
    try:
        while part := await answer.content.readany():
            parts.append(part)
            num_bytes += len(part)
            if num_bytes > MOST_ANSWER_BYTES:
                raise EngineFailedError("answered more than anybody could mean")
    except _FAULTS as error:
        raise _failure(error) from error
    return b"".join(parts)


def _failure(error: Exception) -> EngineFailedError:
    """What an engine did wrong, in words."""
    if isinstance(error, EngineFailedError):
        return error
    if isinstance(error, TimeoutError):
        return EngineFailedError("was silent for too long")
    if isinstance(error, ValueError | TypeError | AttributeError) and not isinstance(
            error, aiohttp.ClientError):
        return EngineFailedError("answered something that is no stream of events")
    return EngineFailedError(f"failed ({type(error).__name__})")


def _given_up(exchange: Exchange) -> GatewayError:
    faults = "; ".join(f"{a['url']} {a['outcome']}" for a in exchange.decision.attempts)
    if exchange.retry_after is not None:
        return GatewayError(429, f"the engines have no room: {faults}", "engines_busy",
                            headers={"Retry-After": exchange.retry_after})
    if exchange.unsupported is not None:
        return GatewayError(400, f"no engine can serve this: {faults}", "unsupported")
    return GatewayError(502, f"no engine could answer: {faults}", "engines_failed")
