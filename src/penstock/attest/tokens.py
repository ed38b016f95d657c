"""Signed tokens (JSON Web Tokens): keys, signatures, and the claims common to all evidence.

Extras: ``attest`` and ``oidc`` (PyJWT and cryptography).
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from penstock.attest.values import CLOCK_SKEW_S, EvidenceError
from penstock.core.errors import InputError, missing_extra, nearest, quote

MOST_BYTES = 1 << 20
"""Size limit; evidence and key sets are far smaller."""

_NEEDED_BY = {"attest": "attestation", "oidc": "gateway.issuers"}
_FARTHEST_S = 1e12  # since 1970: bound of plausible times


def jwt_library(extra: Literal["attest", "oidc"] = "attest") -> Any:
    """Import PyJWT. Raises InputError where the extra is not installed."""
    try:
        import jwt
    except ImportError as error:
        raise missing_extra(_NEEDED_BY[extra], extra, error) from None
    return jwt


def read_keys(path: str | Path) -> dict[str, Any]:
    """Read the public keys of a JSON Web Key Set by their ``kid`` (RFC 7517).

    For a key with only certificates (``x5c``), the key is that of the first certificate. Raises
    InputError.
    """
    try:
        document = json.loads(Path(path).read_bytes()[:MOST_BYTES])
        entries = document["keys"]
        return {entry["kid"]: _key(entry) for entry in entries}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not a JSON Web Key Set, keys with a kid each "
                         f"({type(error).__name__}: {error})") from None


def _key(entry: Mapping[str, Any]) -> Any:
    jwt = jwt_library()
    try:
        if "x" in entry:
            return jwt.PyJWK({name: value for name, value in entry.items() if name != "use"}).key
        from cryptography.x509 import load_der_x509_certificate
        return load_der_x509_certificate(b64decode(entry["x5c"][0])).public_key()
    except (jwt.PyJWTError, ValueError, IndexError) as error:
        raise InputError(f"the key {quote(entry.get('kid'))} cannot be used ({error})") from None


def signed_claims(token: object, keys: Mapping[Any, Any], algorithm: str, issuer: str,
                  now_s: float, *, allow_expired: bool = False) -> dict[str, Any]:
    """Return the claims of a token after checking its signature, issuer and times. A caller that
    allows expired tokens checks ``exp`` itself.

    Only ``algorithm`` is accepted, whatever the token's header states (RFC 8725, 3.1). Raises
    EvidenceError.
    """
    jwt = jwt_library()
    if not isinstance(token, str):
        raise EvidenceError("has no signed token where one is expected")
    try:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        if header.get("alg") != algorithm:
            raise EvidenceError(f"is signed by {quote(header.get('alg'))}; expected {algorithm}")
        if kid not in keys:
            raise EvidenceError(f"is signed with key {quote(kid)}, which is not trusted"
                                f"{nearest(str(kid)[:60], keys)}")
        # Times are checked below, by the caller's clock.
        claims: dict[str, Any] = jwt.decode(
            token, keys[kid], algorithms=[algorithm], issuer=issuer,
            options={"require": ["iss", "iat", "exp"], "verify_exp": False, "verify_nbf": False,
                     "verify_iat": False, "verify_aud": False})
    except jwt.InvalidIssuerError:
        raise EvidenceError(f"was not issued by {issuer}") from None
    except jwt.InvalidSignatureError:
        raise EvidenceError("has a bad signature") from None
    except EvidenceError:
        raise
    except (jwt.PyJWTError, ValueError, RecursionError) as error:  # not text, or nested too deeply
        raise EvidenceError(f"is not a signed token ({error})") from None
    _check_times(claims, now_s, allow_expired)
    return claims


def _check_times(claims: Mapping[str, Any], now_s: float, allow_expired: bool) -> None:
    for name in ("iat", "exp", "nbf"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) \
                or not -_FARTHEST_S < value < _FARTHEST_S:  # false for infinity and NaN
            raise EvidenceError(f"has no time in {name}, found {quote(value)}")
    if now_s >= claims["exp"] and not allow_expired:
        raise EvidenceError(f"expired {now_s - claims['exp']:.0f} s ago")
    begins_s = max(claims["iat"], claims.get("nbf", 0))
    if begins_s > now_s + CLOCK_SKEW_S:
        raise EvidenceError(f"begins to hold only in {begins_s - now_s:.0f} s")


def check_nonce(claims: Mapping[str, Any], nonce: str) -> None:
    """Check that a token answers this challenge (``eat_nonce`` of RFC 9711). Raises
    EvidenceError."""
    found = claims.get("eat_nonce")
    if not isinstance(found, str) or found.lower() != nonce.lower():
        raise EvidenceError("answers another challenge: its nonce is not the one asked with")


def check_devices(found: list[str], expected: tuple[str, ...]) -> None:
    """Check that the evidence covers exactly these devices. Raises EvidenceError."""
    if len(set(found)) != len(found):
        raise EvidenceError("names a device twice")
    if others := sorted(set(found) - set(expected)):
        raise EvidenceError(f"is of another device, {quote(others[0])}")
    if missing := sorted(set(expected) - set(found)):
        raise EvidenceError(f"lacks device {quote(missing[0])}")


def check_reference(claims: Mapping[str, Any], reference: Mapping[str, tuple[str, ...]]) -> None:
    """Check that pinned claims have one of their allowed values. Raises EvidenceError."""
    for name, allowed in reference.items():
        found = claims.get(name)
        text = found if isinstance(found, str) else json.dumps(found)
        if text not in allowed:
            raise EvidenceError(f"says {name} is {quote(found)}; expected one of "
                                f"{', '.join(allowed)}")


def read_json(evidence: bytes) -> Any:
    """Parse a JSON document. Raises EvidenceError."""
    if len(evidence) > MOST_BYTES:
        raise EvidenceError(f"has more than {MOST_BYTES:,} bytes")
    try:
        return json.loads(evidence)
    except (ValueError, RecursionError):  # RecursionError for deeply nested lists
        raise EvidenceError("is not JSON") from None
