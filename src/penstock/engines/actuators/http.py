"""Shared parts of actuators for engines that Penstock does not start: requests over HTTP."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from penstock.engines.actuators.protocol import ActuatorError

_LOOK_S = 0.05
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)


class EngineUnreachableError(ActuatorError):
    """No server listens at the engine's address, so the engine holds no model."""


class EngineCalls:
    """Calls to one engine at ``url``. The caller limits their duration."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.url = url
        self._session = session

    async def get(self, path: str) -> Any:
        """Get the document at a path. Raises ActuatorError."""
        return await self._call("GET", path)

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Post a document and return the answer. Raises ActuatorError."""
        return await self._call("POST", path, body)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        sent: dict[str, Any] = {} if body is None else {"data": orjson.dumps(body), "headers": {
            "Content-Type": "application/json"}}
        try:
            async with self._session.request(method, self.url + path, timeout=_NO_LIMIT,
                                             **sent) as response:
                content = await response.read()
                if response.status >= 400:
                    raise ActuatorError(f"{self.url}{path.partition('?')[0]} answered "
                                        f"{response.status}{_said(content)}")
        except aiohttp.ClientConnectorError as error:
            raise EngineUnreachableError(f"{self.url} does not answer ({error})") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ActuatorError(f"{self.url} does not answer "
                                f"({str(error) or type(error).__name__})") from error
        try:
            return orjson.loads(content) if content.strip() else None
        except orjson.JSONDecodeError as error:
            raise ActuatorError(f"{self.url}{path} did not answer with JSON") from error


class ServerActuator:
    """Base of actuators for one model of a server at ``url`` that Penstock does not start."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._calls = EngineCalls(session, url)
        self._loaded = False

    @property
    def url(self) -> str | None:
        return self._calls.url if self._loaded else None

    async def is_loaded(self) -> bool:
        try:
            self._loaded = await self._held()
        except EngineUnreachableError:
            self._loaded = False
        return self._loaded

    async def prefetch(self) -> None:
        """Do nothing: the server reads its files itself."""

    async def close(self) -> None:
        """Do nothing: the server keeps running."""

    async def _held(self) -> bool:
        """Whether the model is loaded and answers. Raises ActuatorError."""
        raise NotImplementedError


def _said(content: bytes) -> str:
    """Return an error's text, as the end of a sentence."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        found = content.decode(errors="replace").strip()
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return f": {str(found)[:200]}" if found else ""


async def pause() -> None:
    """Wait for a moment between two polls of an engine."""
    await asyncio.sleep(_LOOK_S)
