"""Predictive dispatch: play each replica's queue forward, and go where the request ends first.

The idea of Block (arXiv 2508.03611): the dispatcher simulates the candidate's own scheduler with
predicted lengths, in place of a single number for its load.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal

from penstock.core.decision import Route
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.usual import UsualForecasts
from penstock.predict.latency import LatencyPrior

_AHEAD_STEPS = 4000  # a queue that is not through by then is long enough to be called full


class _Running:
    """One request in the replay."""

    __slots__ = ("context", "output_left", "prompt_left")

    def __init__(self, work: QueuedWork) -> None:
        self.prompt_left = work.prompt_tokens_left
        self.context = work.context_tokens
        self.output_left = max(1, round(work.output_tokens_left))


class _Replay:
    """A replica played forward: chunked prefill in order, within its seats and its KV cache."""

    def __init__(self, prior: LatencyPrior, queue: Sequence[QueuedWork],
                 kv_total_tokens: int) -> None:
        self._prior = prior
        self._kv_total_tokens = kv_total_tokens
        self._waiting = deque(_Running(work) for work in queue)
        self._running: list[_Running] = []
        self._held = 0
        self.now_s = 0.0

    def step(self) -> list[_Running]:
        """The next step, or a stretch of steps that only decode: whose prompts it completed."""
        self._seat()
        decodes = [one for one in self._running if not one.prompt_left]
        context = sum(one.context for one in decodes)
        chunk, work, completed = self._take_prompts()
        steps = 1 if chunk or not decodes else max(1, min(one.output_left for one in decodes))
        grown = context + len(decodes) * (steps - 1) // 2
        self.now_s += steps * self._prior.step.seconds(chunk, work, len(decodes), grown)
        for one in decodes:
            one.context += steps
            one.output_left -= steps
        self._held += steps * len(decodes)
        for one in completed:
            one.output_left -= 1
        for one in [r for r in self._running if not r.prompt_left and r.output_left <= 0]:
            self._running.remove(one)
            self._held -= one.context
        return completed

    def _seat(self) -> None:
        while self._waiting and len(self._running) < self._prior.max_num_seqs:
            need = self._waiting[0].context + self._waiting[0].prompt_left
            if self._running and self._held + need > self._kv_total_tokens:
                return
            self._held += need
            self._running.append(self._waiting.popleft())

    def _take_prompts(self) -> tuple[int, float, list[_Running]]:
        budget, work = self._prior.chunk_tokens, 0.0
        completed: list[_Running] = []
        for one in self._running:
            take = min(one.prompt_left, budget)
            if take > 0:
                work += take * (one.context + 0.5 * take)
                one.prompt_left -= take
                one.context += take
                budget -= take
                if not one.prompt_left:
                    completed.append(one)
        return self._prior.chunk_tokens - budget, work, completed

    def join(self, work: QueuedWork) -> _Running:
        """One more at the end of the queue."""
        one = _Running(work)
        self._waiting.append(one)
        return one


def forward(prior: LatencyPrior, queue: Sequence[QueuedWork], kv_total_tokens: int,
            newcomer: QueuedWork) -> tuple[float, float]:
    """(seconds to the newcomer's first token, seconds to its last) behind ``queue``."""
    replay = _Replay(prior, queue, kv_total_tokens)
    ours = replay.join(newcomer)
    first_s = 0.0
    for _ in range(_AHEAD_STEPS):
        if ours in replay.step():
            first_s = replay.now_s
        if not ours.prompt_left and ours.output_left <= 0:
            break
    return first_s or replay.now_s, replay.now_s


class Predictive:
    """The replica where the request's last (``e2e``) or first (``ttft``) token comes first.

    ``sample`` > 0 looks only at so many replicas with the fewest requests, which saves most of the
    work ("power of two" in Block samples at random instead; fewest is never worse informed).
    """

    looks_into_queues = True
    learns = True

    def __init__(self, facts: Mapping[int, ReplicaFacts], usual: UsualForecasts,
                 target: Literal["e2e", "ttft"] = "e2e", sample: int = 0) -> None:
        self._facts = facts
        self._usual = usual
        self._target = target
        self._sample = sample

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        seen = sorted(replicas, key=lambda r: (r.num_running + r.num_waiting, r.replica_id))
        forecasts = self._usual.of(request)
        best: tuple[float, float, int] | None = None
        for replica in seen[:self._sample or len(seen)]:
            fact = self._facts[replica.replica_id]
            work = QueuedWork(request.prompt_tokens, 0, min(
                forecasts[fact.offer.model].output_tokens, float(request.max_tokens)))
            first_s, last_s = forward(fact.prior, replica.queue, replica.kv_total_tokens, work)
            key = (last_s, first_s) if self._target == "e2e" else (first_s, last_s)
            if best is None or (*key, replica.replica_id) < best:
                best = (*key, replica.replica_id)
        assert best is not None
        self._usual.sent(request)
        first_s, last_s = (best[1], best[0]) if self._target == "e2e" else best[:2]
        return Route(best[2], {"ttft_s": first_s, "e2e_s": last_s})

    def ended(self, departure: Departure) -> None:
        self._usual.ended(departure)
