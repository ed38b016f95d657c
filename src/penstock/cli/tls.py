"""The TLS options of servers."""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.engines.tls import ServerTls


def server_tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> "ServerTls | None":
    """Return the TLS files of a server, None for plain HTTP. Raises InputError for files that do
    not work, before the server starts anything."""
    from penstock.cli.console import note
    from penstock.engines.tls import ServerTls, server_context

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        given = ("--tls-client-ca" if cert is key else
                 "--tls-key" if cert is None else "--tls-cert")
        raise InputError(f"{given}: expected --tls-cert and --tls-key together")
    server_context(ServerTls(cert, key, client_ca, lambda _: None))
    return ServerTls(cert, key, client_ca, note)
