"""API keys: created once, shown once, stored as a hash, compared in constant time."""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

_PREFIX = "psk"
_ID_BYTES, _SECRET_BYTES = 6, 32
_NOBODYS = sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Key:
    """Stored part of a key: never the key itself.

    ``key_id`` is the public part of the key, which lists and logs may show. ``digest`` is the
    SHA-256 of the secret part, in hexadecimal. A slow hash, as for passwords, would add nothing:
    the secret is 256 random bits, which cannot be guessed, and every request must be checked.
    ``tenant`` is empty for a key that only administers. Times are seconds since 1970.
    """

    key_id: str
    digest: str
    tenant: str
    admin: bool = False
    label: str = ""
    created_s: float = 0.0
    revoked_s: float | None = None


def new_key(tenant: str, now_s: float, random_bytes: Callable[[int], bytes], *,
            admin: bool = False, label: str = "") -> tuple[str, Key]:
    """Return a key's text, which is stored nowhere, and its stored part. ``random_bytes`` must be
    cryptographically secure."""
    key_id = random_bytes(_ID_BYTES).hex()
    secret = urlsafe_b64encode(random_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    return f"{_PREFIX}-{key_id}-{secret}", Key(key_id, _digest(secret), tenant, admin, label, now_s)


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
        """Return the key with this text, None where it is unknown or revoked.

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
