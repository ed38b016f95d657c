"""Public keys of identity providers: found, read and checked (OpenID Connect Discovery 1.0, section
4; RFC 7517; RFC 7518, section 3)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import aiohttp
import orjson

from penstock.attest.tokens import MOST_BYTES, jwt_library
from penstock.core.loopback import is_private
from penstock.fleet.values_gateway import Issuer

_MOST_KEYS = 100
_LEAST_RSA_BITS = 2048
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
_TIMEOUT = aiohttp.ClientTimeout(total=10.0)


class KeySetError(Exception):
    """The keys of an issuer cannot be had."""


class PublicKey(NamedTuple):
    """A key, and the signature algorithms that it is for."""

    key: Any
    algorithms: frozenset[str]


KeySet = Mapping[str | None, PublicKey]
"""Keys by ``kid``. An only key may have none."""


async def fetch_key_set(session: aiohttp.ClientSession, issuer: Issuer) -> KeySet:
    """Read the keys of an issuer. Raises KeySetError."""
    url = issuer.jwks_url
    if url is None:
        place = issuer.url.rstrip("/") + "/.well-known/openid-configuration"
        found = await _document(session, place)
        if found.get("issuer") != issuer.url:
            raise KeySetError(f"{place} is of another issuer")
        url = found.get("jwks_uri")
        if not isinstance(url, str) or not is_private(url):
            raise KeySetError(f"{place} has no https:// address in jwks_uri")
    entries = (await _document(session, url)).get("keys")
    if not isinstance(entries, list):
        raise KeySetError(f"{url} is not a JSON Web Key Set")
    keys = read_key_set(entries)
    if not keys:
        raise KeySetError(f"{url} has no public key for signatures that is supported")
    return keys


async def _document(session: aiohttp.ClientSession, url: str) -> Mapping[str, Any]:
    try:
        async with session.get(url, timeout=_TIMEOUT, allow_redirects=False) as answer:
            if answer.status != 200:
                raise KeySetError(f"{url} answers with status {answer.status}")
            text = b""
            while part := await answer.content.readany():
                text += part
                if len(text) > MOST_BYTES:
                    raise KeySetError(f"{url} answers with more than {MOST_BYTES:,} bytes")
        found = orjson.loads(text)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise KeySetError(f"{url} cannot be read ({type(error).__name__})") from None
    except ValueError:
        raise KeySetError(f"{url} is not JSON") from None
    if not isinstance(found, dict):
        raise KeySetError(f"{url} is not a JSON object")
    return found


def read_key_set(entries: Iterable[object]) -> KeySet:
    """Return the keys of a key set that are for signatures and supported; symmetric keys are not,
    since everybody can read the set."""
    found: dict[str | None, PublicKey] = {}
    for entry in list(entries)[:_MOST_KEYS]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        kid, key = entry.get("kid"), _key(entry)
        if key is not None and (kid is None or isinstance(kid, str)):
            found[kid] = key
    if len(found) > 1:
        found.pop(None, None)  # which key a token means would be a guess
    return found


def _key(entry: Mapping[str, Any]) -> PublicKey | None:
    algorithms = _algorithms(entry)
    jwt = jwt_library("oidc")
    try:
        key = jwt.PyJWK({name: entry[name] for name in ("kty", "n", "e", "crv", "x", "y")
                         if name in entry}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if getattr(key, "key_size", _LEAST_RSA_BITS) < _LEAST_RSA_BITS and entry["kty"] == "RSA":
        return None
    return PublicKey(key, algorithms) if algorithms else None


def _algorithms(entry: Mapping[str, Any]) -> frozenset[str]:
    """Return the algorithms of a key; one that the entry states is the only one."""
    kind, curve, stated = entry.get("kty"), entry.get("crv"), entry.get("alg")
    found: frozenset[str] = frozenset()
    if kind == "RSA":
        found = frozenset(_RSA)
    elif kind in ("EC", "OKP") and isinstance(curve, str) and curve in _CURVES:
        found = frozenset((_CURVES[curve],))
    return found if stated is None else found & {stated if isinstance(stated, str) else ""}
