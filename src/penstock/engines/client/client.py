"""A client of an OpenAI-compatible server that records the arrival of every token (aiohttp).

``EngineClient.ask`` sends a body to ``/v1/completions`` or ``/v1/chat/completions`` and always
returns an ``Answer`` (see ``answer.py``): refusals, timeouts and broken streams are outcomes, not
exceptions.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from penstock.core.errors import InputError
from penstock.engines.client.answer import (
    BROKEN,
    CUT_OFF,
    TIMED_OUT,
    UNREACHABLE,
    Answer,
    refusal,
)
from penstock.engines.client.frames import FrameReader, MalformedAnswerError, StreamError
from penstock.engines.tls import client_context

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
_MOST_ERROR_BYTES = 1 << 16
_MOST_METRICS_BYTES = 4 << 20
# Below the 5 s after which uvicorn, and so vLLM, closes an idle connection.
_KEEPALIVE_S = 4.0
_TRAILER_S = 1.0


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """Timeouts of a client in seconds: for a connection, for the first token, between two reads,
    for the whole answer. ``None`` is no limit."""

    connect_s: float | None = 10.0
    first_token_s: float | None = None
    silence_s: float | None = None
    total_s: float | None = 600.0


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that a server offers, with its longest context if the server reports it."""

    name: str
    context_tokens: int | None = None


def client_session(environment: Mapping[str, str] = os.environ) -> aiohttp.ClientSession:
    """Return a session for any number of concurrent connections, which shows the certificate that
    the ``environment`` names. The caller closes the session. Raises InputError for files that do
    not work."""
    trust: ssl.SSLContext | bool = client_context(environment) or True
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(
        limit=0, keepalive_timeout=_KEEPALIVE_S, ssl=trust))


def streamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with a request for a stream that ends with its usage."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


class EngineClient:
    """Sends requests to one server at ``base_url`` (see ``address.base_url``).

    ``api_key`` is sent as a bearer token and never shown. ``clock`` gives all times in answers, in
    seconds.
    """

    def __init__(self, session: aiohttp.ClientSession, base_url: str,
                 patience: ClientTimeouts = ClientTimeouts(), api_key: str | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.base_url = base_url
        self._session = session
        self._patience = patience
        self._clock = clock
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience.connect_s,
                                              sock_read=patience.silence_s)

    async def ask(self, body: Mapping[str, Any], path: str = COMPLETIONS,
                  headers: Mapping[str, str] | None = None, into: Answer | None = None) -> Answer:
        """Send ``body`` unchanged (see ``streamed``) and read the answer to its end.

        Raises nothing but cancellation: ``Answer.outcome`` names the failure. Tokens that arrived
        before it are kept. ``into`` is filled instead of a new answer, so that a caller that
        cancels has the tokens received so far.
        """
        sent = {"Content-Type": "application/json", **self._headers, **(headers or {})}
        content = orjson.dumps(body)
        answer = into or Answer(0.0)
        answer.sent_s = self._clock()
        reader = FrameReader(answer)
        limit = asyncio.timeout(_least(self._patience.first_token_s, self._patience.total_s))
        try:
            async with limit, self._session.post(
                    self.base_url + path, data=content, headers=sent, timeout=self._timeout,
                    allow_redirects=False) as response:
                answer.status = response.status
                answer.headers = {key.lower(): value for key, value in response.headers.items()}
                if response.status != 200:
                    answer.end(*refusal(response.status, _document(
                        await response.content.read(_MOST_ERROR_BYTES))))
                elif response.content_type == "application/json":
                    reader.whole(await response.read(), self._clock())
                else:
                    await self._follow(response, reader, limit)
        except asyncio.CancelledError:
            answer.end(CUT_OFF, "the client wanted it no more")
            answer.ended_s = self._clock()
            raise
        except StreamError as error:
            answer.end(*refusal(error.status, error.document))
        except MalformedAnswerError as error:
            answer.end(BROKEN, str(error))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            answer.end(UNREACHABLE, str(error) or type(error).__name__)
        except TimeoutError:
            if not reader.done:
                answer.end(TIMED_OUT, _waited(answer))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if not reader.done:
                answer.end(BROKEN, f"{type(error).__name__}: {error}")
        if not reader.done:
            answer.ended_s = self._clock()
        return answer

    async def _follow(self, response: aiohttp.ClientResponse, reader: FrameReader,
                      limit: asyncio.Timeout) -> None:
        begun_s = asyncio.get_running_loop().time() - (self._clock() - reader.answer.sent_s)
        waiting = True
        async for chunk in response.content.iter_any():
            reader.feed(chunk, self._clock())
            if reader.done:
                # Reading the rest of the body keeps the connection reusable.
                limit.reschedule(asyncio.get_running_loop().time() + _TRAILER_S)
            elif waiting and reader.answer.events:
                waiting = False
                total_s = self._patience.total_s
                limit.reschedule(None if total_s is None else begun_s + total_s)
        reader.close(self._clock())

    async def models(self) -> list[ModelCard]:
        """Return the models that the server offers. Raises InputError when it does not list
        them."""
        try:
            async with self._session.get(
                    f"{self.base_url}/v1/models", headers=self._headers,
                    timeout=aiohttp.ClientTimeout(total=30.0)) as response:
                body = await response.read()
                if response.status != 200:
                    raise InputError(f"{self.base_url}/v1/models: "
                                     f"{refusal(response.status, _document(body))[1]}")
            cards = [ModelCard(str(card["id"]), _positive(card.get("max_model_len")))
                     for card in orjson.loads(body)["data"]]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise InputError(f"{self.base_url}: does not answer "
                             f"({error or type(error).__name__})") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{self.base_url}/v1/models: not a list of models as OpenAI's API "
                             "gives it") from error
        return cards

    async def metrics(self) -> bytes | None:
        """Return the text of the server's ``/metrics``, None where it has none or does not
        answer."""
        try:
            async with self._session.get(f"{self.base_url}/metrics", headers=self._headers,
                                         timeout=aiohttp.ClientTimeout(total=10.0)) as response:
                if response.status != 200:
                    return None
                return await response.content.read(_MOST_METRICS_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


def _least(*limits_s: float | None) -> float | None:
    return min((limit_s for limit_s in limits_s if limit_s is not None), default=None)


def _waited(answer: Answer) -> str:
    if not answer.events:
        return "no token in the time allowed"
    return f"not at its end in the time allowed, after {len(answer.events)} events"


def _document(body: bytes) -> Any:
    """Return a body's JSON, or its text where it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace").strip()


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
