"""API keys: created once, shown once, stored as a hash, compared in constant time."""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from penstock.fleet.values_gateway import Scope

_PREFIX = "psk"
_ID_BYTES, _SECRET_BYTES = 6, 32
_NOBODYS = sha256(b"").hexdigest()


SCOPES: Mapping[Scope, str] = {
    "ask": "inference requests and their decisions, for a tenant",
    "spend": "the tenant's spending; that of all tenants for a key without a tenant",
    "metrics": "/metrics",
    "status": "the status of engines",
    "drain": "draining engines",
    "deploy": "deployments and devices",
    "plan": "the planning API",
    "admin": "everything; inference only with a tenant",
}
"""The rights that a key may have, with their meaning."""
TENANT_SCOPES: tuple[Scope, ...] = ("ask", "spend")
"""The scopes of a tenant's key that states none."""


@dataclass(frozen=True, slots=True)
class Key:
    """Stored part of a key: never the key itself.

    ``key_id`` is the public part of the key, which lists and logs may show. ``digest`` is the
    SHA-256 of the secret part, in hexadecimal. A slow hash, as for passwords, would add nothing:
    the secret is 256 random bits, which cannot be guessed, and every request must be checked.
    ``tenant`` is empty for a key that only administers. Times are seconds since 1970. Without
    ``scopes``, a key has those of a tenant, or all scopes if it is an ``admin`` key.
    """

    key_id: str
    digest: str
    tenant: str
    admin: bool = False
    label: str = ""
    created_s: float = 0.0
    revoked_s: float | None = None
    scopes: tuple[str, ...] = ()
    expires_s: float | None = None

    def allows(self, scope: str) -> bool:
        """Whether the key has a right."""
        return self.admin or scope in self.all_scopes

    @property
    def all_scopes(self) -> tuple[str, ...]:
        """The scopes, with the implied ones."""
        usual = TENANT_SCOPES if self.tenant else ()
        if self.scopes:
            return self.scopes
        return (*usual, "admin") if self.admin else usual

    def is_expired(self, now_s: float) -> bool:
        """Whether the key's time is over."""
        return self.expires_s is not None and now_s >= self.expires_s


def new_key(tenant: str, now_s: float, random_bytes: Callable[[int], bytes], *,
            admin: bool = False, label: str = "", scopes: tuple[str, ...] = (),
            expires_s: float | None = None) -> tuple[str, Key]:
    """Return a key's text, which is stored nowhere, and its stored part. ``random_bytes`` must be
    cryptographically secure."""
    key_id = random_bytes(_ID_BYTES).hex()
    secret = urlsafe_b64encode(random_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    return f"{_PREFIX}-{key_id}-{secret}", Key(
        key_id, _digest(secret), tenant, admin or "admin" in scopes, label, now_s, None, scopes,
        expires_s)


def successor(key: Key, now_s: float, random_bytes: Callable[[int], bytes],
              expires_s: float | None = None) -> tuple[str, Key]:
    """Return a new key with the tenant, scopes and label of another; without ``expires_s``, with
    the same lifetime."""
    if expires_s is None and key.expires_s is not None:
        expires_s = now_s + key.expires_s - key.created_s
    return new_key(key.tenant, now_s, random_bytes, admin=key.admin, label=key.label,
                   scopes=key.scopes, expires_s=expires_s)


class Keyring:
    """Keys by their public part. ``had_keys`` says whether there was one, revoked ones included."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = {key.key_id: key for key in keys}

    @property
    def had_keys(self) -> bool:
        """Whether a key was ever created, even if revoked since."""
        return bool(self._keys)

    @property
    def num_valid(self) -> int:
        """Number of valid keys."""
        return sum(key.revoked_s is None for key in self._keys.values())

    def find(self, text: str) -> Key | None:
        """Return the key with this text, None where it is unknown or revoked. It may have expired.

        A wrong secret takes the same steps as an unknown id, so timing reveals nothing.
        """
        prefix, _, rest = text.partition("-")
        key_id, _, secret = rest.partition("-")
        key = self._keys.get(key_id)
        same = compare_digest(_digest(secret), _NOBODYS if key is None else key.digest)
        if key is None or not same or prefix != _PREFIX or key.revoked_s is not None:
            return None
        return key


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
