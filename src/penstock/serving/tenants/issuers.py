"""Clients with tokens of an identity provider (OpenID Connect) in the place of keys."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from penstock.attest.tokens import jwt_library, signed_claims
from penstock.attest.values import EvidenceError
from penstock.engines.beside import is_set_within
from penstock.engines.discreet_log import trace_of
from penstock.fleet.values_gateway import Issuer
from penstock.serving.errors import ServiceError
from penstock.serving.tenants.key_sets import KeySet, KeySetError, PublicKey
from penstock.serving.tenants.keys import TENANT_SCOPES, Key

REFRESH_S = 300.0
"""Keys of issuers are read this often."""

AGAIN_S = 10.0
"""At least between two reads for a key that is not known, or after a failure."""

KEPT_S = 86_400.0
"""Keys that could not be read again for this long are no longer trusted."""

MOST_TOKEN_CHARS = 8_000
_MOST_REMEMBERED = 10_000
_PREFIX = "penstock:"

Fetch = Callable[[Issuer], Awaitable[KeySet]]
"""Reads the keys of an issuer. Raises KeySetError."""


class Issuers:
    """Verifies tokens, with the keys that ``run`` reads. One event loop owns the object.

    ``clock`` is monotonic, ``wall`` is the time of day; both are in seconds. ``note`` gets
    messages for operators.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float],
                 note: Callable[[str], None] = lambda _: None) -> None:
        self._clock = clock
        self._wall = wall
        self._note = note
        self._issuers: dict[str, Issuer] = {}
        self._keys: dict[str, tuple[KeySet, float]] = {}  # with the time of the last read
        self._tried_s: dict[str, float] = {}
        self._failing: set[str] = set()
        self._wake = asyncio.Event()
        self._verified: OrderedDict[bytes, tuple[Issuer, Key]] = OrderedDict()

    @property
    def num_issuers(self) -> int:
        """Number of issuers whose tokens are taken."""
        return len(self._issuers)

    def adopt(self, issuers: Sequence[Issuer]) -> None:
        """Take tokens of these issuers only. Raises InputError where the extra is missing."""
        if issuers:
            jwt_library("oidc")
        self._issuers = {one.url: one for one in issuers}
        self._keys = {url: keys for url, keys in self._keys.items() if url in self._issuers}
        self._tried_s.clear()
        self._verified.clear()
        self._wake.set()

    # -- verification ---------------------------------------------------------------------------

    def find(self, text: str) -> Key | None:
        """Return the rights of a token as a key, None where the token is not valid. It may have
        expired. Raises ServiceError with status 503 where the issuer's keys are not known, and with
        403 where a valid token names no tenant or has no scope."""
        if not self._issuers or len(text) > MOST_TOKEN_CHARS or text.count(".") != 2:
            return None
        digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
        found = self._verified.get(digest)
        if found is None:
            found = self._verify(text)
            if found is None:
                return None
            self._verified[digest] = found
            if len(self._verified) > _MOST_REMEMBERED:
                self._verified.popitem(last=False)
        issuer, key = found
        self._known(issuer)  # a remembered token is worth no more than its issuer's keys
        return key

    def _verify(self, text: str) -> tuple[Issuer, Key] | None:
        jwt = jwt_library("oidc")
        try:
            header = jwt.get_unverified_header(text)
            stated = jwt.decode(text, options={"verify_signature": False})
            issuer = self._issuers.get(stated.get("iss"))
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        if issuer is None:
            return None
        key = self._known(issuer).get(header.get("kid"))
        if key is None:
            self._ask_again(issuer)
            return None
        try:
            claims = self._claims(text, header, key, issuer)
        except EvidenceError:
            return None
        return issuer, _rights(issuer, claims)

    def _claims(self, text: str, header: Mapping[str, Any], key: PublicKey,
                issuer: Issuer) -> Mapping[str, Any]:
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in key.algorithms:
            # RFC 8725, 3.1: a public key must not be taken for a shared secret
            raise EvidenceError("is signed with another algorithm than its key is for")
        claims = signed_claims(text, {header.get("kid"): key.key}, algorithm, issuer.url,
                               self._wall(), allow_expired=True)
        audience = claims.get("aud")
        if issuer.audience not in (audience if isinstance(audience, list) else [audience]):
            raise EvidenceError("is for others")
        return claims

    def _known(self, issuer: Issuer) -> KeySet:
        keys, read_s = self._keys.get(issuer.url, ({}, float("-inf")))
        if self._clock() - read_s > KEPT_S:
            raise _unavailable()
        return keys

    def _ask_again(self, issuer: Issuer) -> None:
        """Read the keys again, unless that was done just now: the issuer may have a new one."""
        if self._clock() - self._tried_s.get(issuer.url, float("-inf")) > AGAIN_S:
            self._tried_s.pop(issuer.url, None)
            self._wake.set()
            raise _unavailable()

    # -- keys -----------------------------------------------------------------------------------

    async def run(self, fetch: Fetch) -> None:
        """Read the keys of issuers when they are due, until cancelled."""
        while True:
            self._wake.clear()
            await self.look(fetch)
            now_s = self._clock()
            next_s = min((self._due_s(url) for url in self._issuers), default=None)
            await is_set_within(self._wake,
                                None if next_s is None else max(0.01, next_s - now_s))

    async def look(self, fetch: Fetch) -> None:
        """Read the keys that are due."""
        due = [one for url, one in self._issuers.items() if self._due_s(url) <= self._clock()]
        await asyncio.gather(*(self._read(one, fetch) for one in due))

    def _due_s(self, url: str) -> float:
        wait_s = AGAIN_S if url in self._failing else REFRESH_S
        return self._tried_s.get(url, float("-inf")) + wait_s

    async def _read(self, issuer: Issuer, fetch: Fetch) -> None:
        url = issuer.url
        self._tried_s[url] = self._clock()
        try:
            keys = await fetch(issuer)
        except Exception as error:  # whatever an issuer sends must not stop later reads
            if url not in self._failing:
                why = error if isinstance(error, KeySetError) else trace_of(error)
                self._note(f"keys of the issuer {url} cannot be read: {why}")
            self._failing.add(url)
            return
        if url in self._failing:
            self._note(f"keys of the issuer {url} are read again")
        self._failing.discard(url)
        if self._issuers.get(url) == issuer:
            if keys != self._keys.get(url, ({}, 0.0))[0]:
                self._verified.clear()  # a key that is gone has been withdrawn
            self._keys[url] = keys, self._clock()


def _rights(issuer: Issuer, claims: Mapping[str, Any]) -> Key:
    scopes, tenant = _scopes(issuer, claims), _tenant(issuer, claims)
    if not tenant:  # an administrator; a key without a tenant would see all tenants' spending
        if all(one in TENANT_SCOPES for one in scopes):
            raise _names(issuer, "no tenant")
        scopes = tuple(one for one in scopes if one not in TENANT_SCOPES)
    if not scopes:
        raise ServiceError(403, "the token has none of the scopes that its issuer may grant",
                           "missing_scope")
    name = sha256(f"{issuer.url}\n{claims.get('sub')}".encode("utf-8", "surrogatepass"))
    return Key(f"oidc-{name.hexdigest()[:12]}", "", tenant, "admin" in scopes,
               created_s=float(claims["iat"]), scopes=scopes, expires_s=float(claims["exp"]))


def _scopes(issuer: Issuer, claims: Mapping[str, Any]) -> tuple[str, ...]:
    stated = claims.get(issuer.scope_claim)
    words = stated.split() if isinstance(stated, str) else stated
    words = words if isinstance(words, list) else []
    wanted = [word.removeprefix(_PREFIX) for word in words
              if isinstance(word, str) and word.startswith(_PREFIX)]
    return tuple(one for one in issuer.scopes if one in (wanted or TENANT_SCOPES))


def _tenant(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    stated = claims.get(issuer.tenant_claim)
    values = [one for one in (stated if isinstance(stated, list) else [stated])
              if isinstance(one, str) and one]
    if issuer.tenants:
        named = dict(issuer.tenants)
        values = sorted({named[one] for one in values if one in named})
    if len(values) > 1:
        raise _names(issuer, "several tenants")
    return values[0] if values else ""


def _names(issuer: Issuer, what: str) -> ServiceError:
    return ServiceError(403, f"the token's claim {issuer.tenant_claim!r} names {what}",
                        "unknown_tenant")


def _unavailable() -> ServiceError:
    return ServiceError(503, "the keys of the token's issuer are being read", "issuer_unavailable",
                        headers={"Retry-After": "1"})
