"""Tiers of memory below the KV cache in the fleet file."""

from typing import Literal

from penstock.fleet.fields import GbPerS, NotNegative, Positive, Section, described


class KvTierSection(Section):
    """A tier that takes the blocks which the tier above evicts."""

    name: Literal["host", "disk", "remote"] = described("Which tier.", "host", default=...)
    gib: Positive = described("Room for keys and values of one replica, or of all replicas of the "
                              "model where the tier is shared, GiB.", 1024, default=...)
    read_gb_per_s: GbPerS = described("Rate of loading blocks into a replica's KV cache, GB/s.",
                                        50, default=...)
    latency_s: NotNegative = described("Time before the first byte of a load, seconds.", 0.001,
                                       default=0.0)
    shared: bool = described("Whether all replicas of a model use one store.", True, default=False)
