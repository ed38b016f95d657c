"""The listening sockets of a server, with and without TLS (aiohttp)."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from penstock.engines.beside import beside
from penstock.engines.tls import HANDSHAKE_S, ServerTls, Stamps, server_context, stamps, watch

_BACKLOG = 4096  # beyond it, clients of a burst of connections wait a second for a retry


class Door:
    """Listening sockets, whose TLS context can be replaced: accepted connections and those that
    wait to be accepted go on, and new handshakes take the new context."""

    def __init__(self, protocols: web.Server, server: asyncio.Server) -> None:
        self._protocols = protocols
        self._servers = [server]
        self.address: tuple[str, int] = server.sockets[0].getsockname()[:2]

    async def replace(self, context: ssl.SSLContext) -> None:
        """Listen with another context. Sessions of the old context cannot be resumed."""
        old, self._servers = self._servers, []
        for one in (listener for server in old for listener in server.sockets):
            self._servers.append(await asyncio.get_running_loop().create_server(
                self._protocols, sock=socket.socket(fileno=os.dup(one.fileno())),
                **_options(context)))
        await _accept_no_more(old)
        for server in old:
            server.close()

    def close(self) -> None:
        """Accept no more connections."""
        for server in self._servers:
            server.close()


@asynccontextmanager
async def open_door(runner: web.AppRunner, host: str, port: int,
                    tls: ServerTls | None, *, port_is_shared: bool = False
                    ) -> AsyncIterator[Door]:
    """Yield the door of a runner that is set up; it is closed when the context ends. With ``tls``,
    the server speaks HTTPS alone, and changes of the files are followed. Raises InputError for
    files that do not work, and OSError or UnicodeError where the address cannot be bound."""
    protocols = runner.server
    assert protocols is not None, "setup() has made the server"
    loaded = () if tls is None else stamps(tls.files)
    context = None if tls is None else server_context(tls)
    door = Door(protocols, await asyncio.get_running_loop().create_server(
        protocols, host, port, reuse_port=port_is_shared or None, **_options(context)))
    try:
        async with beside(*([] if tls is None else [_follow(door, tls, loaded)])):
            yield door
    finally:
        door.close()


async def _accept_no_more(servers: list[asyncio.Server]) -> None:
    """Wait until connections that were accepted belong to their server. asyncio makes the transport
    of a connection a turn of the loop after its acceptance, and the transport of a server that has
    been closed in between is lost without an end of its connection."""
    loop = asyncio.get_running_loop()
    for listener in (listener for server in servers for listener in server.sockets):
        loop.remove_reader(listener.fileno())  # does nothing on uvloop, which makes both at once
    for _ in range(2):
        await asyncio.sleep(0)


async def _follow(door: Door, tls: ServerTls, loaded: Stamps) -> None:
    async def reload() -> None:
        await door.replace(server_context(tls))

    await watch(tls.files, loaded, reload, tls.note)


def _options(context: ssl.SSLContext | None) -> dict[str, Any]:
    limit_s = None if context is None else HANDSHAKE_S
    return {"ssl": context, "backlog": _BACKLOG, "ssl_handshake_timeout": limit_s,
            "ssl_shutdown_timeout": limit_s}
