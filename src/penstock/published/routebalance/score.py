"""RouteBalance's weighted score of normalised terms, and its latency estimate."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from penstock.core.forecast import Forecast
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.facts import ReplicaFacts

BLOCK_TOKENS = 16
_TINY = 1e-8
FIRST_TOKEN_S = 0.05  # a constant in the shipped fast path

QualityNorm = Literal["raw", "minmax", "scaled"]


class Weights(NamedTuple):
    """Weights of the four terms."""

    latency: float = 0.33
    cost: float = 0.33
    quality: float = 0.33
    balance: float = 0.0


PRESETS: dict[str, Weights] = {
    "balance": Weights(1 / 3, 1 / 3, 1 / 3),  # the paper's headline; the rest are its corners
    "latency": Weights(1.0, 0.0, 0.0),
    "price": Weights(0.0, 1.0, 0.0),
    "relevance": Weights(0.0, 0.0, 1.0),
    "code": Weights(0.3, 0.2, 0.3, 0.2),  # defaults in the code, as opposed to the paper's
}


class Pair(NamedTuple):
    """Expectation for a request on one replica. Seconds, money, tokens."""

    replica_id: int
    model: str
    quality: float
    output_tokens: float
    cost: float
    ttft_s: float
    tpot_s: float
    e2e_s: float
    use: float
    num_requests: int


def pair(request: Request, forecast: Forecast, replica: ReplicaSnapshot,
         fact: ReplicaFacts) -> Pair:
    """The estimate for one replica.

    Time per output token is the tier's own at low load: the published ablation finds a learned one
    no better. With a free seat and nobody waiting a request runs at once; otherwise it waits for
    the mean remaining work of those who run.
    """
    output = min(forecast.output_tokens, float(request.max_tokens))
    tpot_s = max(1e-3, fact.prior.step.seconds(0, 0.0, 1, request.prompt_tokens))
    open_seat = replica.num_running < fact.prior.max_num_seqs and replica.num_waiting == 0
    wait = 0.0 if open_seat else replica.pending_output_tokens / max(replica.num_running, 1)
    cost = (request.prompt_tokens * fact.offer.price.input_per_token
            + output * fact.offer.price.output_per_token)
    free = max(1.0, float(replica.kv_total_tokens - replica.kv_used_tokens)) / BLOCK_TOKENS
    used = replica.kv_used_tokens / replica.kv_total_tokens
    needed = (request.prompt_tokens + output) / BLOCK_TOKENS
    return Pair(replica.replica_id, replica.model, forecast.quality, output, cost, FIRST_TOKEN_S,
                tpot_s, (wait + output) * tpot_s, used + needed * (1.0 - used) / free,
                replica.num_running + replica.num_waiting)


def scores(pairs: Sequence[Pair], weights: Weights, norm: QualityNorm = "minmax",
           gain: float = 1.0) -> list[float]:
    """The score of every pair; each term but quality is divided by the worst of the candidates."""
    low = min(p.quality for p in pairs)
    spread = max(p.quality for p in pairs) - low + _TINY
    # Where the worst is 0 all are; a small number in its place would make the unit of money matter.
    dearest = max(p.cost for p in pairs) or 1.0
    slowest = max(p.e2e_s for p in pairs) or 1.0
    fullest = max(p.use for p in pairs) or 1.0
    found: list[float] = []
    for p in pairs:
        quality = p.quality
        if norm == "minmax":
            quality = (p.quality - low) / spread
        elif norm == "scaled":
            quality = min(1.0, p.quality * gain)
        found.append(weights.quality * quality + weights.cost * (1.0 - p.cost / dearest)
                     + weights.latency * (1.0 - p.e2e_s / slowest)
                     + weights.balance * (1.0 - p.use / fullest))
    return found
