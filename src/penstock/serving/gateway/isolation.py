"""Keeps prompts of tenants apart in prefix caches: the router's memory, and the engines' own."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from hmac import digest

from penstock.fleet.values_gateway import GatewayOptions
from penstock.serving.gateway.ask import ANYBODY, Ask

CACHE_SALT = "cache_salt"
"""vLLM's field of a request: only requests of equal salt share cached prefixes."""


class PrefixIsolation:
    """Names the cache that a request may use. ``secret`` keeps salts from being guessed."""

    def __init__(self, options: GatewayOptions, secret: bytes) -> None:
        self._options = options
        self._secret = secret
        self._salts: dict[str, str] = {}  # of tenants whose clients bring no salt

    def adopt(self, options: GatewayOptions) -> None:
        """Apply a changed fleet file to requests from now on."""
        self._options = options

    def domain(self, ask: Ask) -> str:
        """Return the domain of a request's prefixes; empty where all tenants share. A salt of the
        client's own divides the domain further."""
        return _divided(self._options.prefix_domain(ask.tenant), ask)

    def cache(self, ask: Ask) -> str:
        """Return the domain of a request's blocks: prompts for an adapter have blocks of their
        own."""
        domain = self.domain(ask)
        return domain if ask.adapter is None else f"{domain}\0adapter\0{ask.adapter.name}"

    def salt(self, ask: Ask) -> str | None:
        """Return the salt for an engine's prefix cache.

        None where all tenants share, and for requests without a key, which are of one tenant. Those
        keep the client's own salt, if any, and find nothing of tenants whose requests are salted.
        """
        tenants = self._options.prefix_domain(ask.tenant)
        if tenants in ("", ANYBODY.name):
            return None
        domain = _divided(tenants, ask)
        if domain != tenants:
            return self._salt(domain)
        found = self._salts.get(domain)
        if found is None:
            found = self._salts[domain] = self._salt(domain)
        return found

    def session(self, ask: Ask) -> str:
        """Return the name by which engines know a request's session, empty without one. Sessions of
        different tenants are apart, and their own names stay here."""
        return self._hashed(f"session\0{ask.tenant}\0{ask.session}") if ask.session else ""

    def _salt(self, domain: str) -> str:
        return self._hashed(f"{CACHE_SALT}\0{domain}")

    def _hashed(self, text: str) -> str:
        named = text.encode(errors="replace")
        return urlsafe_b64encode(digest(self._secret, named, sha256)).rstrip(b"=").decode()


def _divided(domain: str, ask: Ask) -> str:
    """Return the part of a domain that a request may use."""
    own = ask.body.get(CACHE_SALT)
    return f"{domain}\0{own}" if isinstance(own, str) and own else domain
