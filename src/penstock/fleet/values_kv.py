"""Tiers of memory below the KV cache, resolved."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KvTier:
    """A tier of ``gib`` GiB: of one replica, or of all replicas of a model where ``shared``. A load
    takes ``latency_s`` and its bytes at ``read_gb_per_s`` GB/s."""

    name: str
    gib: float
    read_gb_per_s: float
    latency_s: float = 0.0
    shared: bool = False
