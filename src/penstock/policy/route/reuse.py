"""Routing by time saved: reuse of a prefix is worth the time that computing the prefix takes."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.kv.index import PrefixIndex
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.protocol import PlainRouter
from penstock.policy.route.sent import SentPrefixes, usable_hashes
from penstock.predict.latency import Pace

_MOST_SENT = 4096


class _Sent(NamedTuple):
    """A request that may still wait at its replica: its prompt, and the time to compute what the
    cache lacks of the prompt."""

    prompt_tokens: int
    compute_s: float


class LeastAddedTime(PlainRouter):
    """The replica to which a request adds the least time.

    A request adds the time until its first token: prompts that wait before it, then the tokens of
    its own prompt that the replica's cache lacks, all slowed by the decodes that run. Computing
    also delays later requests; ``delay_weight`` is their delay for each second of computing.
    """

    def __init__(self, facts: Mapping[int, ReplicaFacts], delay_weight: float = 1.0) -> None:
        self._facts = facts
        self._delay_weight = delay_weight
        self.index = PrefixIndex()
        self._record = SentPrefixes(self.index)
        self._sent: dict[int, deque[_Sent]] = {}

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        depths = self.index.depths(usable_hashes(request))
        best: tuple[float, float, int] | None = None
        best_cached, best_compute_s, chosen = 0, 0.0, replicas[0]
        for one in replicas:
            fact = self._facts[one.replica_id]
            pace = fact.prior.pace(one)
            cached = min(depths.get(one.replica_id, 0) * request.hash_block_tokens,
                         request.prompt_tokens - 1)
            slopes = fact.prior.step.slopes
            compute_s = _compute_s(pace, request.prompt_tokens, cached,
                                   0.0 if slopes is None else slopes.work_s)
            first_s = self._queue_s(one, pace) + compute_s
            key = (first_s + self._delay_weight * compute_s, one.kv_used_tokens / one.speed,
                   one.replica_id)
            if best is None or key < best:
                best, chosen = key, one
                best_cached, best_compute_s = cached, compute_s
        assert best is not None
        self._record.sent(request, chosen.replica_id, chosen.kv_total_tokens)
        sent = self._sent.setdefault(chosen.replica_id, deque(maxlen=_MOST_SENT))
        sent.append(_Sent(request.prompt_tokens, best_compute_s))
        return Route(chosen.replica_id, {"cached_tokens": best_cached, "added_s": best[0]})

    def _queue_s(self, replica: ReplicaSnapshot, pace: Pace) -> float:
        """Return the time until a replica has computed the prompts that it has."""
        started, waiting_s = replica.queued_prompt_tokens, 0.0
        # Prompts are computed in order, so those that wait were sent last.
        sent = self._sent.get(replica.replica_id)
        if sent is not None and replica.num_waiting:
            for place in range(1, min(replica.num_waiting, len(sent)) + 1):
                one = sent[-place]
                started -= one.prompt_tokens
                waiting_s += one.compute_s
        return pace.wait_s + waiting_s + _tokens_s(pace, max(0, started))


def _tokens_s(pace: Pace, tokens: int) -> float:
    return -(-tokens // pace.chunk_tokens) * pace.chunk_s + tokens * pace.token_s


def _compute_s(pace: Pace, prompt_tokens: int, cached: int, work_s: float) -> float:
    """Return the time to compute a prompt after its cached tokens. ``work_s`` is the time of a
    token's attention to one token."""
    tokens = prompt_tokens - cached
    work = tokens * (cached + 0.5 * tokens) - 0.5 * tokens * pace.chunk_tokens
    return _tokens_s(pace, tokens) + work_s * max(0.0, work)
