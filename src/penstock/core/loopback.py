"""Addresses of this machine alone."""

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit


@lru_cache(maxsize=1024)
def is_loopback(name: str | None) -> bool:
    """Whether an address or name is this machine's loopback; False where it is unknown."""
    try:
        address = ip_address(name or "")
    except ValueError:
        return name == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_private(url: str) -> bool:
    """Whether nobody on the network can read or change what is sent to a URL: with TLS, or within
    this machine."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" or is_loopback(parts.hostname)
    except ValueError:
        return False
