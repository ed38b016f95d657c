"""Figures of the observation behind a scaling decision, for summaries and pages."""

from collections import Counter
from collections.abc import Iterable

from penstock.metrics.scaling_summary import ScalingView
from penstock.policy.scale.values import Observation, SeenReplica

SERVING = ("ready", "draining")


def view(seen: Observation, before: Observation | None, now_s: float) -> ScalingView:
    """Return the figures of an observation at ``now_s``. ``before`` is the observation of the
    decision before, from which arrivals are counted."""
    replicas = [one for group in seen.groups for one in group.replicas]
    serving = [one for one in replicas if one.state in SERVING]
    gauges = [one.gauges for one in serving if one.gauges is not None]
    ages_s = [now_s - one.observed_s for one in serving if one.observed_s is not None]
    return ScalingView(
        arrivals_per_s=_arrivals_per_s(seen, before),
        num_held=None if seen.demand is None else sum(one.num_held for one in seen.demand),
        num_waiting=sum(one.num_waiting for one in gauges),
        num_running=sum(one.num_running for one in gauges),
        num_unseen=len(serving) - len(gauges), gauges_age_s=max(ages_s, default=None),
        states=tuple(dict(Counter(one.state for one in group.replicas)) for group in seen.groups),
        state_ages_s=_state_ages_s(replicas, now_s))


def _arrivals_per_s(seen: Observation, before: Observation | None) -> float | None:
    """Return the arrivals per second between two observations, None where either has none."""
    if before is None or seen.demand is None or before.demand is None \
            or seen.observed_s <= before.observed_s:
        return None
    more = sum(one.num_arrived for one in seen.demand) \
        - sum(one.num_arrived for one in before.demand)
    return more / (seen.observed_s - before.observed_s)


def _state_ages_s(replicas: Iterable[SeenReplica], now_s: float) -> dict[str, float]:
    """Return the longest time that a replica has been in each state."""
    found: dict[str, float] = {}
    for one in replicas:
        found[one.state] = max(found.get(one.state, 0.0), now_s - one.since_s)
    return found
