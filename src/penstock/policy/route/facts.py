"""Constant facts about models and replicas for routers."""

from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.money import FREE, Price
from penstock.policy.kv.tiers import TierSpec
from penstock.predict.latency import LatencyPrior


class Offer(NamedTuple):
    """A model as a router sees it.

    ``size`` (parameters per token) and ``quality`` (0 to 1, the mean of its answers) apply where
    there is no forecast for a request.
    """

    model: str
    price: Price = FREE
    size: float = 0.0
    quality: float = 1.0


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """One replica. Replicas of one ``kind`` are alike, so observations of one apply to all.
    ``tiers`` are below its KV cache, the fastest first."""

    replica_id: int
    offer: Offer
    kind: str
    prior: LatencyPrior
    tiers: tuple[TierSpec, ...] = ()
