"""What a router may know of replicas that does not change while they run."""

from dataclasses import dataclass

from penstock.core.money import Price
from penstock.predict.latency import LatencyPrior


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """One replica. Replicas of one ``kind`` are alike, so what is learned of one holds for all."""

    replica_id: int
    model: str
    kind: str
    price: Price
    prior: LatencyPrior
    confidential: bool = False
