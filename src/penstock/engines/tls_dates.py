"""The end of a certificate's validity (X.509, DER), which Python's ssl reads of peers alone."""

import ssl
from datetime import UTC, datetime

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_VERSION, _UTC_TIME = 0xA0, 0x17


def end_of_validity(pem: bytes) -> float | None:
    """Return when the first certificate of a PEM text expires, in seconds since 1970, or None where
    the text cannot be understood."""
    try:
        text = pem.decode("ascii", "replace")
        start = text.index(_BEGIN)
        der = ssl.PEM_cert_to_DER_cert(text[start:text.index(_END, start) + len(_END)])
        _, certificate, _ = _element(der)
        _, to_be_signed, _ = _element(certificate)
        tag, _, rest = _element(to_be_signed)
        # After the optional version: serial number, signature algorithm, issuer, validity.
        for _ in range(3 + (tag == _VERSION) - 1):
            _, _, rest = _element(rest)
        _, validity, _ = _element(rest)
        _, _, rest = _element(validity)
        tag, moment, _ = _element(rest)
        return _seconds(moment.decode("ascii"), short=tag == _UTC_TIME)
    except (ValueError, IndexError):
        return None


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Return the tag and the content of the first element, and the bytes after the element."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("cut off")
    return der[0], der[start:start + length], der[start + length:]


def _seconds(moment: str, *, short: bool) -> float:
    """``YYMMDDhhmmssZ`` (50 to 99 are of the 20th century) or ``YYYYMMDDhhmmssZ``."""
    if short:
        moment = ("19" if int(moment[:2]) >= 50 else "20") + moment
    return datetime.strptime(moment, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
