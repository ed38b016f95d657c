"""Routing by time saved: reuse of a prefix is worth the time that computing the prefix takes."""

from collections.abc import Mapping, Sequence

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.kv.index import TIERS, PrefixIndex
from penstock.policy.route.affinity import REPORTED_S
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.live_index import LiveIndex
from penstock.policy.route.outstanding import Outstanding
from penstock.policy.route.protocol import PlainRouter
from penstock.policy.route.sent import SentPrefixes, cached_tokens, usable_hashes
from penstock.predict.latency import Pace

_MEMORY = 0.999  # of the usual prompt, per request
_STEEPNESS = 8
_BRANCHES_PER_COPY = 4
_TARGET_SHARE = 0.8  # of the class's target that a prefix is worth waiting for


class _Queue:
    """The ``seconds`` until a replica in this state has computed the prompts that it has, its pace
    and its time of a token's attention to one token."""

    __slots__ = ("pace", "replica", "seconds", "work_s")

    def __init__(self, replica: ReplicaSnapshot, pace: Pace, work_s: float,
                 seconds: float) -> None:
        self.replica = replica
        self.pace = pace
        self.work_s = work_s
        self.seconds = seconds


class LeastAddedTime(PlainRouter):
    """The replica to which a request adds the least time.

    The time until the first token is that of the prompts that wait before the request, and of the
    tokens of its own prompt that the replica's cache lacks, all slowed by the decodes that run.
    Computing also delays all later requests, so that waiting for a replica with the prefix is
    better than computing the prefix again; blocks in tiers below a cache count with the time to
    load them. A second of waiting counts ``wait_weight`` of a second of computing. Not so where
    the wait gets too long: the first token should come within the share _TARGET_SHARE of the
    class's target, and within ``patience`` times as long as the usual prompt takes, weighted by
    length. Around that limit a second of waiting counts ``(first / limit) ** (_STEEPNESS - 1)``.

    What a cache holds is guessed from what was sent. The ``live`` index replaces the guess for
    replicas that report all of their blocks, but for those of the last moments, and for requests
    with exact hashes.

    A prefix behind which prompts branch off in many ways is worth a copy on more replicas, the
    shorter it is beside the rest of a prompt the sooner. Then all replicas count as if they had it,
    so that a prompt that is common to all requests draws them to no replica.
    """

    def __init__(self, facts: Mapping[int, ReplicaFacts], wait_weight: float = 0.05,
                 patience: float = 1.75, live: LiveIndex | None = None) -> None:
        self._live = live
        self._facts = facts
        self._wait_weight = wait_weight
        self._patience = patience
        self.index = PrefixIndex()
        self._record = SentPrefixes(self.index)
        self._outstanding = Outstanding()
        self._queues: dict[int, _Queue] = {}
        self._sum_s = self._sum_squares = 0.0  # of the times to compute whole prompts

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        hashes = usable_hashes(request)
        depths = self._depths(request, hashes, replicas, now_s)
        limit_s = self._limit_s(request)
        common = self._record.num_common(hashes, _BRANCHES_PER_COPY)
        best: tuple[float, float, int] | None = None
        best_cached, best_first_s, chosen = 0, 0.0, replicas[0]
        for one in replicas:
            fact = self._facts[one.replica_id]
            queue = self._queue(one, fact)
            pace, work_s = queue.pace, queue.work_s
            depth, load_s = depths.get(one.replica_id, 0), 0.0
            if fact.tiers:
                depth, load_s = self._from_tiers(request, hashes, depth, fact)
            cached = cached_tokens(request, depth)
            credit = cached_tokens(request, max(depth, common))
            compute_s = load_s + _compute_s(pace, request.prompt_tokens, credit, work_s)
            first_s = queue.seconds + compute_s
            late_s = limit_s * (first_s / limit_s) ** _STEEPNESS / _STEEPNESS if limit_s else 0.0
            key = (compute_s + self._wait_weight * first_s + late_s,
                   one.kv_used_tokens / one.speed, one.replica_id)
            if best is None or key < best:
                best, chosen = key, one
                best_cached, best_first_s = cached, first_s
        self._sent(request, chosen, best_cached, now_s)
        return Route(chosen.replica_id, {"cached_tokens": best_cached, "first_s": best_first_s})

    def _depths(self, request: Request, hashes: tuple[int, ...],
                replicas: Sequence[ReplicaSnapshot], now_s: float) -> dict[int, int]:
        """Return how many leading blocks each replica holds. Replicas with none may be left out."""
        depths, live = self.index.depths(hashes), self._live
        if live is None or not request.hashes_are_exact:
            return depths
        for one in replicas:
            number = one.replica_id
            if not live.speaks_of(number, request):
                continue
            held = live.depth(number, hashes)
            guess = depths.get(number, 0)
            if live.is_whole(number):
                guess = min(guess, self._record.num_since(number, hashes, now_s - REPORTED_S))
            depths[number] = max(held, guess)
        return depths

    def _from_tiers(self, request: Request, hashes: tuple[int, ...], depth: int,
                    fact: ReplicaFacts) -> tuple[int, float]:
        """Return how many leading blocks a replica and its tiers have, of which ``depth`` are the
        replica's own, and the time to load those that are in tiers."""
        counts = self.index.match(fact.replica_id, hashes[:depth])
        load_s = 0.0
        for tier in fact.tiers:
            num = counts[TIERS.index(tier.name)]
            if tier.shared:
                num = self._record.num_pooled(hashes, depth)
                depth += num
            if num:
                load_s += tier.latency_s + num * request.hash_block_tokens * tier.s_per_token
        return depth, load_s

    def _limit_s(self, request: Request) -> float:
        """Return the time until the first token that a request may wait for a cached prefix, 0
        where none is known yet."""
        limit_s = self._patience * self._sum_squares / self._sum_s if self._sum_s else 0.0
        target_s = request.service_class.slo.ttft_s
        if target_s is None:
            return limit_s
        return min(_TARGET_SHARE * target_s, limit_s) if limit_s else _TARGET_SHARE * target_s

    def _sent(self, request: Request, chosen: ReplicaSnapshot, cached: int, now_s: float) -> None:
        self._record.sent(request, chosen.replica_id, chosen.kv_total_tokens, now_s,
                          self._facts[chosen.replica_id].tiers)
        self._outstanding.sent(chosen.replica_id, request.prompt_tokens,
                               request.prompt_tokens - cached)
        queue = self._queues.pop(chosen.replica_id)
        whole_s = _compute_s(queue.pace, request.prompt_tokens, 0, queue.work_s)
        self._sum_s = _MEMORY * self._sum_s + whole_s
        self._sum_squares = _MEMORY * self._sum_squares + whole_s * whole_s

    def _queue(self, replica: ReplicaSnapshot, fact: ReplicaFacts) -> _Queue:
        """Return a replica's queue, computed once per snapshot until a request is sent there."""
        known = self._queues.get(replica.replica_id)
        if known is not None and known.replica is replica:
            return known
        pace, slopes = fact.prior.pace(replica), fact.prior.step.slopes
        work_s = 0.0 if slopes is None else slopes.work_s
        seconds = pace.wait_s + sum([
            _compute_s(pace, prompt.prompt_tokens, prompt.prompt_tokens - prompt.tokens_left,
                       work_s) for prompt in self._outstanding.of(replica)])
        found = self._queues[replica.replica_id] = _Queue(replica, pace, work_s, seconds)
        return found


def _tokens_s(pace: Pace, tokens: int) -> float:
    return -(-tokens // pace.chunk_tokens) * pace.chunk_s + tokens * pace.token_s


def _compute_s(pace: Pace, prompt_tokens: int, cached: int, work_s: float) -> float:
    """Return the time to compute a prompt after its cached tokens. ``work_s`` is the time of a
    token's attention to one token."""
    tokens = prompt_tokens - cached
    work = tokens * (cached + 0.5 * tokens) - 0.5 * tokens * pace.chunk_tokens
    return _tokens_s(pace, tokens) + work_s * max(0.0, work)
