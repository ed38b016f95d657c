"""Routing between replicas and pools: who serves a request, a model that is loaded for good or one
that shares devices with others. The gateway and the simulator ask the same two functions."""

from collections.abc import Sequence
from typing import NamedTuple


class Availability(NamedTuple):
    """Whether any replica may take a request: ``now``, or at some time (``ever``)."""

    now: bool
    ever: bool


class PooledModel(NamedTuple):
    """A model in a pool as it stands: ``place`` is the caller's number for it. ``refuses`` says
    that a request for the model would be turned away now."""

    place: int
    is_resident: bool
    num_waiting: int
    refuses: bool = False


def goes_to_pool(replicas: Availability, *, confidential: bool, attestable: bool) -> bool:
    """Whether a request that a pool can serve goes there rather than to a replica.

    A replica that may take the request now goes first: its model is loaded. A confidential request
    waits for a replica that may be attested yet rather than for devices that never will be;
    ``attestable`` says that devices of a pool may be attested, now or later.
    """
    if replicas.now:
        return False
    return not confidential or attestable or not replicas.ever


def choose_pooled(models: Sequence[PooledModel]) -> PooledModel:
    """The model that serves a request, of those in pools that may: one that does not refuse, then
    one that is resident, then the one that fewest requests wait for, then the first."""
    best = models[0]
    for one in models:
        if (one.refuses, not one.is_resident, one.num_waiting) < (
                best.refuses, not best.is_resident, best.num_waiting):
            best = one
    return best
