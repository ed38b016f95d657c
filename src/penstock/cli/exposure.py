"""Servers without keys, which listen on the loopback interface unless told otherwise."""

from pathlib import Path

from penstock.core.errors import InputError
from penstock.core.loopback import is_loopback


def check_exposure(host: str, client_ca: Path | None, *, open_to_all: bool) -> None:
    """Raise InputError where a server would be open to everybody by oversight."""
    if not host.strip():  # which would be every address there is
        raise InputError("--host: found nothing; expected an address, such as 127.0.0.1")
    if not is_loopback(host) and client_ca is None and not open_to_all:
        raise InputError(f"--host {host[:60]}: this server asks for no keys; beyond the loopback "
                         "interface it needs --tls-client-ca, or --open to admit anyone")
