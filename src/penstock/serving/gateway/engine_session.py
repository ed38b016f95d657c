"""The gateway's connections to engines."""

import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from penstock.engines.beside import beside
from penstock.engines.tls import watched_engine_context
from penstock.fleet.values_gateway import EngineTls
from penstock.serving.gateway.engine_http import engine_connector

_NOT_NEEDED = ("Accept", "Accept-Encoding", "User-Agent")  # in requests to engines


@asynccontextmanager
async def engine_session(tls: EngineTls | None,
                         note: Callable[[str], None]) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session for requests to engines. Answers are passed on unchanged: not decompressed,
    and without cookies. Changed files of ``tls`` are followed. Raises InputError for files that do
    not work."""
    trust: ssl.SSLContext | bool = True  # the system's CAs
    following: list[Coroutine[Any, Any, None]] = []
    if tls is not None:
        trust, follow = watched_engine_context(tls, note)
        following.append(follow())
    async with beside(*following), aiohttp.ClientSession(
            connector=engine_connector(trust),
            cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
            skip_auto_headers=_NOT_NEEDED) as session:
        yield session
