"""Prefix hashes that differ between tenants whose prompts must not be found in each other's caches.

Tenants that share caches are one domain. A domain is a text; the empty one has no secrets from
anybody.
"""

from functools import lru_cache
from hashlib import blake2b


def hashes_in(domain: str, hashes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the hashes of a prompt as they are in a domain: equal only within it."""
    if not domain or not hashes:
        return hashes
    mask = _mask(domain)
    return tuple(one ^ mask for one in hashes)


@lru_cache(maxsize=4096)
def _mask(domain: str) -> int:
    # Journals keep 63 bits and a sign.
    return int.from_bytes(blake2b(domain.encode(errors="replace"), digest_size=8).digest(),
                          "big") >> 1
