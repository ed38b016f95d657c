"""Replicas as slow as they may be, by the intervals of their step times."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import NormalDist
from typing import Any

from penstock.fleet.replica_factory import step_time
from penstock.fleet.values import ReplicaGroup
from penstock.perf.step_time.deviation import USUAL_STEP, deviation

_NORMAL = NormalDist()


def sigmas_of(confidence: float) -> float:
    """Return the standard deviations that a normal draw exceeds with probability 1 - confidence."""
    return _NORMAL.inv_cdf(confidence)


def probability_of(sigmas: float) -> float:
    """Return the probability that a normal draw stays below so many standard deviations."""
    return _NORMAL.cdf(sigmas)


def slower(groups: Iterable[ReplicaGroup], sigmas: float) -> tuple[ReplicaGroup, ...]:
    """Return the groups with step times that are off by ``sigmas`` standard deviations.

    All groups are off to the same side: errors of one fit have common causes.
    """
    return tuple(_slower(group, sigmas) if sigmas else group for group in groups)


def _slower(group: ReplicaGroup, sigmas: float) -> ReplicaGroup:
    factor = deviation(step_time(group), sigmas)
    stated = group.step_time
    options: dict[str, Any] = (dict(stated) if isinstance(stated, Mapping)
                               else {"kind": stated or "roofline"})
    return replace(group, step_time={**options, "factor": factor * options.get("factor", 1.0)})


def unmeasured(group: ReplicaGroup) -> tuple[str, ...]:
    """Return the parts of a replica that no measurement behind its step times was of."""
    return step_time(group).predict(USUAL_STEP).unmeasured
