"""Which replicas are near an adapter (LoRA): any router then chooses among those."""

from collections.abc import Sequence

from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.simple import loads

ACTIVE, SLOT_FREE, WAITING, FAR = 1.0, 0.8, 0.6, 0.0
"""Nearness of a replica to an adapter, as in llm-d's scorer: its requests run there; a place in the
batch is free; its requests wait there; none of it."""


LOADED, PLACE_FREE, FULL, BUSY = 3, 2, 1, 0
"""Among equally near replicas, in this order: the adapter is loaded; it may be, beside the others;
another must make way for it; another must make way that is in use."""


def near(replicas: Sequence[ReplicaSnapshot], nearness: Sequence[tuple[float, int]],
         prompt_tokens: int, imbalance: float = 1.5, slack_tokens: float = 2048.0) -> list[int]:
    """Return the places of the replicas that are nearest to an adapter.

    ``nearness`` has for each replica how near it is, and what it takes to have it loaded. A replica
    with more than ``imbalance`` times the load of the least loaded one (and at least
    ``slack_tokens`` more) counts only where all have so much, so that a popular adapter spreads.
    """
    all_loads = loads(replicas, prompt_tokens)
    least = min(all_loads)[0]
    limit = max(imbalance * least, least + slack_tokens)
    best = max([near for near, one in zip(nearness, all_loads, strict=True) if one[0] <= limit])
    return [place for place, (near, one) in enumerate(zip(nearness, all_loads, strict=True))
            if near == best and one[0] <= limit]
