"""Addresses of endpoints, as the endpoint picker protocol writes them: ``ip:port``."""

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from penstock.core.errors import InputError

_PORTS = {"http": 80, "https": 443}


@lru_cache(maxsize=65_536)
def address_of(url: str) -> str:
    """Return the ``ip:port`` of an engine's URL; an IPv6 address stands in brackets. Raises
    InputError for a URL that the protocol cannot name: with a host name, or with a path."""
    parts = urlsplit(url)
    try:
        address = ip_address(parts.hostname or "")
    except ValueError:
        raise InputError(f"replicas: endpoints: found {url[:80]}; an endpoint picker tells the "
                         "gateway addresses, so expected an IP address in the place of the host "
                         "name") from None
    if parts.path.strip("/"):
        raise InputError(f"replicas: endpoints: found {url[:80]}; an endpoint picker cannot add a "
                         "path to requests, so expected none")
    return joined(str(address), parts.port or _PORTS[parts.scheme])


def joined(ip: str, port: int) -> str:
    """Return ``ip:port``."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def ip_of(address: str) -> str:
    """Return the IP address of an ``ip:port``."""
    return address.rpartition(":")[0].strip("[]")
