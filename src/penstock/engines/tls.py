"""TLS: contexts of servers and of clients of engines from PEM files, checked before use."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.engines.file_stamp import Stamp, file_stamp
from penstock.engines.tls_dates import end_of_validity
from penstock.fleet.values_gateway import EngineTls

HANDSHAKE_S = 10.0
"""Longest handshake with a client, and longest wait for the end of a closed session, seconds."""
CLIENT_VARIABLES = ("PENSTOCK_TLS_CERT", "PENSTOCK_TLS_KEY")
"""Files of the certificate that commands show to servers, and of its key (unset: in the same
file)."""

Files = tuple[Path, ...]
Stamps = tuple[Stamp | None, ...]
_LOOK_S = 1.0
_MOST_BYTES = 1 << 20
_READABLE_BY_OTHERS = 0o004
_CERTIFICATE, _KEY = b"-----BEGIN CERTIFICATE-----", b"PRIVATE KEY-----"
_ENCRYPTED = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of a server: its certificate with the chain, the certificate's key, and the CA of
    which clients must show a certificate (None: no client certificates). ``note`` gets warnings."""

    cert: Path
    key: Path
    client_ca: Path | None
    note: Callable[[str], None]

    @property
    def files(self) -> Files:
        """All files."""
        return (self.cert, self.key, *([] if self.client_ca is None else [self.client_ca]))


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Return the context of a server. Raises InputError, one line, for files that do not work."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, tls.cert, tls.key, tls.note)
    if tls.client_ca is not None:
        _load_cas(context, tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would not show the certificate again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def engine_context(tls: EngineTls, note: Callable[[str], None]) -> ssl.SSLContext:
    """Return the context of a client of engines. Raises InputError, one line, for files that do not
    work."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        note("gateway.engine_tls.verify is false: certificates of engines are not checked, so "
             "anybody on the network can pose as an engine")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca is None:
        context.load_default_certs()
    _load_engine_files(context, tls, note)
    return context


def client_context(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return the context of a client that shows the certificate which CLIENT_VARIABLES name, None
    where none is set. Servers are trusted by the system's CAs. Raises InputError for files that do
    not work."""
    cert, key = (environment.get(name) or None for name in CLIENT_VARIABLES)
    if cert is None and key is not None:
        raise InputError(f"{CLIENT_VARIABLES[1]}: expected {CLIENT_VARIABLES[0]}, too")
    if cert is None:
        return None
    return engine_context(EngineTls(cert=cert, key=key), lambda _: None)


def _load_engine_files(context: ssl.SSLContext, tls: EngineTls,
                       note: Callable[[str], None]) -> None:
    if tls.ca is not None:
        _load_cas(context, Path(tls.ca))
    if tls.cert is not None:
        _load_pair(context, Path(tls.cert), Path(tls.key or tls.cert), note)


async def watch(files: Files, loaded: Stamps, reload: Callable[[], Awaitable[None]],
                note: Callable[[str], None], period_s: float = _LOOK_S) -> None:
    """Call ``reload`` after changes of ``files`` since they were ``loaded``, once they have stayed
    the same for a period, until cancelled. Where ``reload`` raises InputError, the error is noted
    once for each change."""
    before = loaded
    while True:
        await asyncio.sleep(period_s)
        now = stamps(files)
        if now == before != loaded:
            loaded = now
            try:
                await reload()
                note(f"{files[0]}: the TLS files were read again")
            except InputError as error:
                note(f"{error}; the TLS files read before stay in use")
        before = now


def watched_engine_context(tls: EngineTls, note: Callable[[str], None]) -> tuple[
        ssl.SSLContext, Callable[[], Coroutine[Any, Any, None]]]:
    """Return ``engine_context``, and a function that gives new connections of the context the
    certificate and CAs of changed files, until cancelled. A CA that is taken out of its file stays
    trusted until the process ends."""
    files = tuple(Path(file) for file in (tls.ca, tls.cert, tls.key) if file is not None)
    loaded = stamps(files)
    context = engine_context(tls, note)

    async def reload() -> None:
        _load_engine_files(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls, note)
        _load_engine_files(context, tls, lambda _: None)

    return context, lambda: watch(files, loaded, reload, note)


def stamps(files: Files) -> Stamps:
    """Return the identities of the files' present versions, None where a file is absent."""
    return tuple(map(file_stamp, files))


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path,
               note: Callable[[str], None]) -> None:
    """Load a certificate and its key. ``note`` gets warnings."""
    certificate = _pem(cert, _CERTIFICATE, "a certificate")
    content = _pem(key, _KEY, "a private key")
    if any(mark in content for mark in _ENCRYPTED):
        raise InputError(f"{key}: the key is encrypted; expected a key without a passphrase")
    try:
        # Without a password, OpenSSL would ask the terminal for one.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(f"{key}: is not the key of the certificate in {cert}") from None
        raise InputError(f"{cert}, {key}: cannot be used ({_words(error)})") from None
    except OSError as error:
        raise InputError(f"{cert}, {key}: cannot be read ({error.strerror})") from None
    end_s = end_of_validity(certificate)
    if end_s is not None and end_s < time.time():
        note(f"{cert}: the certificate expired on {datetime.fromtimestamp(end_s, UTC):%Y-%m-%d}")
    if key.stat().st_mode & _READABLE_BY_OTHERS:
        note(f"{key}: everybody on this machine can read the key; expected mode 0600")


def _load_cas(context: ssl.SSLContext, ca: Path) -> None:
    _pem(ca, _CERTIFICATE, "a certificate")
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise InputError(f"{ca}: cannot be used ({_words(error)})") from None
    except OSError as error:
        raise InputError(f"{ca}: cannot be read ({error.strerror})") from None


def _pem(file: Path, mark: bytes, expected: str) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    if mark not in content:
        raise InputError(f"{file}: found no PEM text of {expected}")
    return content


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "not PEM").replace("_", " ").lower()
