"""TLS of the gRPC server: from PEM files, which may change, or with a certificate of its own."""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from penstock.core.errors import InputError, missing_extra
from penstock.engines.tls import ServerTls, Stamps, server_context, stamps

_DAY = timedelta(days=1)
_VALID_DAYS = 365


def file_credentials(tls: ServerTls) -> Any:
    """Return the credentials of PEM files, which are read again where they have changed."""
    loaded = [stamps(tls.files)]
    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls), _reader(tls, loaded), tls.client_ca is not None)


def self_signed_credentials() -> Any:
    """Return the credentials of a new key with a certificate that it signs itself. Gateways must
    not verify it."""
    return grpc.ssl_server_credentials([_self_signed()])


def _configuration(tls: ServerTls) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(tls.key.read_bytes(), tls.cert.read_bytes())],
        None if tls.client_ca is None else tls.client_ca.read_bytes())


def _reader(tls: ServerTls, loaded: list[Stamps]) -> Callable[[], Any]:
    """Return a function that gRPC calls before each handshake, in a thread of its own. It returns
    None where nothing has changed, or where the new files do not work."""
    def read() -> Any:
        now = stamps(tls.files)
        if now == loaded[0]:
            return None
        loaded[0] = now
        try:
            server_context(tls)
            found = _configuration(tls)
        except (InputError, OSError) as error:
            tls.note(f"{error}; the TLS files read before stay in use")
            return None
        tls.note(f"{tls.cert}: the TLS files were read again")
        return found

    return read


def _self_signed() -> tuple[bytes, bytes]:
    """Return a key and its certificate, as PEM."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise missing_extra("--tls-self-signed", "kubernetes", error) from error
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "penstock endpoint-picker")])
    certificate = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(
        key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(
        now - _DAY).not_valid_after(now + _VALID_DAYS * _DAY).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(socket.gethostname()),
                                     x509.DNSName("localhost")]), critical=False).sign(
        key, hashes.SHA256())
    return (key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                              serialization.NoEncryption()),
            certificate.public_bytes(serialization.Encoding.PEM))
