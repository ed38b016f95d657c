"""The gateway's connections to engines."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp

from penstock.engines.tls import watched_engine_context
from penstock.fleet.values_gateway import EngineTls

_NOT_NEEDED = ("Accept", "Accept-Encoding", "User-Agent")  # in requests to engines


@asynccontextmanager
async def engine_session(tls: EngineTls | None,
                         note: Callable[[str], None]) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session for requests to engines. Answers are passed on unchanged: not decompressed,
    and without cookies. Changed files of ``tls`` are followed. Raises InputError for files that do
    not work."""
    trust: ssl.SSLContext | bool = True  # the system's CAs
    following = None
    if tls is not None:
        trust, follow = watched_engine_context(tls, note)
        following = asyncio.create_task(follow())
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=trust),
                                         cookie_jar=aiohttp.DummyCookieJar(),
                                         auto_decompress=False,
                                         skip_auto_headers=_NOT_NEEDED) as session:
            yield session
    finally:
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
