"""HTTP between the processes of one server, over sockets in a folder that only their user can open
(aiohttp). Callers are not checked again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Self

import aiohttp
from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.http import server_logger

_ANSWER_S = 5.0
_SHUTDOWN_S = 1.0
ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
"""Errors of a process that does not answer."""


class Reply(NamedTuple):
    """Answer of another process."""

    status: int
    body: bytes
    content_type: str


class Client:
    """Asks other processes by the paths of their sockets. Used as a context."""

    def __init__(self, answer_s: float = _ANSWER_S) -> None:
        self._timeout = aiohttp.ClientTimeout(total=answer_s)
        self._sessions: dict[Path, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(session.close() for session in self._sessions.values()))

    async def ask(self, socket: Path, method: str, path: str, body: bytes = b"") -> Reply:
        """Ask a process. Raises one of ``ERRORS`` where the process does not answer."""
        session = self._sessions.get(socket)
        if session is None:
            session = self._sessions[socket] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(socket), limit=0), timeout=self._timeout)
        headers = {"Content-Type": "application/json"} if body else {}
        async with session.request(method, f"http://localhost{path}", data=body or None,
                                   headers=headers) as answer:
            return Reply(answer.status, await answer.read(), answer.content_type)


@asynccontextmanager
async def privately_listening(app: web.Application, socket: Path) -> AsyncIterator[None]:
    """Serve an application on a socket until the context ends. Raises InputError where the path is
    too long for a socket."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, logger=server_logger(),
                           shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        socket.unlink(missing_ok=True)  # of a worker that has died
        try:
            await web.UnixSite(runner, socket).start()
        except OSError as error:
            raise InputError(f"{socket}: cannot listen on this socket ({error.strerror or error}); "
                             "TMPDIR states another folder") from error
        yield
    finally:
        await runner.cleanup()
