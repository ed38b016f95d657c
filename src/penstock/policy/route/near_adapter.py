"""Which replicas are near an adapter (LoRA): any router then chooses among those."""

from collections.abc import Collection, Sequence

from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.simple import loads
from penstock.policy.schedule.adapters import AdapterStore

ACTIVE, SLOT_FREE, WAITING, FAR = 1.0, 0.8, 0.6, 0.0
"""Nearness of a replica to an adapter, as in llm-d's scorer: its requests run there; a place in the
batch is free; its requests wait there; none of it."""


LOADED, PLACE_FREE, FULL, BUSY = 3, 2, 1, 0
"""Among equally near replicas, in this order: the adapter is loaded; it may be, beside the others;
another must make way for it; another must make way that is in use."""


def nearness(store: AdapterStore, adapter: str, coming: Collection[str] = ()
             ) -> tuple[float, int]:
    """Return how near a replica with these adapters is to one, and what it takes to have it loaded.
    ``coming`` are adapters of requests that its scheduler has not read yet."""
    wanted = store.requests.keys()
    if adapter in store.users:
        place = ACTIVE
    elif len(wanted) + sum(1 for one in coming if one not in wanted) < store.max_loras:
        place = SLOT_FREE
    else:
        place = WAITING if adapter in wanted or adapter in coming else FAR
    if adapter in store.host:
        return place, LOADED
    if len(store.host) < store.most_loaded:
        return place, PLACE_FREE
    return place, BUSY if all(one in wanted for one in store.host) else FULL


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
    best = max([how for how, one in zip(nearness, all_loads, strict=True) if one[0] <= limit])
    return [place for place, (how, one) in enumerate(zip(nearness, all_loads, strict=True))
            if how == best and one[0] <= limit]
