"""Routing between replicas and pools: whether a replica or a multiplexed model serves a request.
The gateway and the simulator use the same two functions."""

from collections.abc import Sequence
from typing import NamedTuple


class Availability(NamedTuple):
    """Whether any replica may take a request: ``now``, or now or later (``ever``)."""

    now: bool
    ever: bool


class PooledModel(NamedTuple):
    """The present state of a model in a pool. ``place`` is the caller's number for it. ``refuses``
    says that a request for the model would be rejected now."""

    place: int
    is_resident: bool
    num_waiting: int
    refuses: bool = False


def goes_to_pool(replicas: Availability, *, confidential: bool, attestable: bool) -> bool:
    """Whether a request that a pool can serve goes there rather than to a replica.

    A replica that may take the request now has priority, since its model is loaded. A confidential
    request rather waits for a replica that may still be attested than for devices that never will
    be; ``attestable`` says that devices of a pool may be attested, now or later.
    """
    if replicas.now:
        return False
    return not confidential or attestable or not replicas.ever


def choose_pooled(models: Sequence[PooledModel]) -> PooledModel:
    """Choose the model of a pool that serves a request, in this order: one that does not refuse,
    one that is resident, the one with the fewest waiting requests, the first."""
    best = models[0]
    for one in models:
        if (one.refuses, not one.is_resident, one.num_waiting) < (
                best.refuses, not best.is_resident, best.num_waiting):
            best = one
    return best
