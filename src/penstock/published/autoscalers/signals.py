"""Figures of one group that the published autoscalers take from an observation."""

from collections.abc import Sequence

from penstock.policy.scale.protocol import GroupFacts
from penstock.policy.scale.values import Gauges, Observation, SeenDemand, SeenGroup, State


def ongoing(seen: Observation, number: int, facts: GroupFacts) -> float | None:
    """Return the requests that wait or run at a group's replicas, and those held for the group.
    None where a ready replica's gauges are missing."""
    gauges = gauges_of(seen.groups[number], "ready", "draining")
    if gauges is None:
        return None
    return held(seen, facts) + sum(one.num_running + one.num_waiting for one in gauges)


def gauges_of(group: SeenGroup, *states: State) -> list[Gauges] | None:
    """Return the gauges of the replicas in the given states, None where any are missing."""
    replicas = group.of(*states)
    found = [one.gauges for one in replicas if one.gauges is not None]
    return found if len(found) == len(replicas) else None


def held(seen: Observation, facts: GroupFacts) -> int:
    """Return the requests that wait at the gateway for a replica of the group's model."""
    return sum(one.num_held for one in seen.demand or () if one.model in ("", facts.model) and (
        facts.service_classes is None or one.service_class in facts.service_classes))


def of_model(demand: Sequence[SeenDemand], model: str) -> list[SeenDemand]:
    """Return the demand of one model."""
    return [one for one in demand if one.model in ("", model)]
