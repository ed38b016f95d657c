"""Predictive dispatch: simulate each replica's queue, and choose where the request ends first.

The idea of Block (arXiv 2508.03611): the dispatcher simulates each candidate's scheduler with
predicted lengths, instead of comparing one number for its load.
"""

import heapq
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

_AHEAD_STEPS = 4000  # a queue that takes more steps counts as full


class _Replay:
    """A simulated replica: chunked prefill in order, within ``max_num_seqs`` and the KV cache.

    Decodes all advance by one token a turn, so each is kept as the turn of its last token and the
    context that it would have had at turn 0; a step costs O(log n), not O(n).
    """

    def __init__(self, prior: LatencyPrior, queue: Sequence[QueuedWork],
                 kv_total_tokens: int) -> None:
        self._prior = prior
        self._kv_total_tokens = kv_total_tokens
        self._waiting = deque(queue)
        self._prompts: deque[list[int]] = deque()  # [tokens left, context, output tokens]
        self._decodes: list[tuple[int, int]] = []  # heap of (last turn, context at turn 0)
        self._turn = 0
        self._context = 0  # of all decodes
        self._prompt_kv = 0  # of all prompts, computed or not
        self.now_s = 0.0

    def run(self, newcomer: QueuedWork) -> tuple[float, float]:
        """Return (seconds to the first token, seconds to the last) of a new request at the end of
        the queue."""
        self._waiting.append(newcomer)
        behind = len(self._waiting)
        first_s, ours_ends = 0.0, -1
        for _ in range(_AHEAD_STEPS):
            completed = self._step()
            if completed and behind > 0:
                behind -= len(completed)
                if behind <= 0:  # prompts are computed in order, so the new one is the last of them
                    first_s, ours_ends = self.now_s, completed[-1]
            if 0 <= ours_ends <= self._turn:
                break
        return first_s or self.now_s, self.now_s

    def _step(self) -> list[int]:
        """Simulate the next step, or all steps until a decode ends. Returns, for every completed
        prompt, the turn of its last token."""
        behind_decodes = self._admit()
        chunk, work, finished = self._take_prompts()
        num = len(self._decodes)
        turns = 1 if chunk or not num else max(1, self._decodes[0][0] - self._turn)
        self.now_s += turns * self._prior.step.seconds(chunk, work, num,
                                                       self._context + num * (turns - 1) // 2)
        self._turn += turns
        self._context += num * turns
        ends: list[int] = behind_decodes
        for context, output in finished:
            ends.append(self._turn + output - 1)
            self._decode(context, output - 1)
        while self._decodes and self._decodes[0][0] <= self._turn:
            _, base = heapq.heappop(self._decodes)
            self._context -= base + self._turn
        return ends

    def _decode(self, context: int, output_left: int) -> None:
        heapq.heappush(self._decodes, (self._turn + output_left, context - self._turn))
        self._context += context

    def _admit(self) -> list[int]:
        """Admit waiting requests that fit. Returns, for those that already decode, the turns of
        their last tokens."""
        ends: list[int] = []
        while (self._waiting
               and len(self._prompts) + len(self._decodes) < self._prior.max_num_seqs):
            work = self._waiting[0]
            need = work.context_tokens + work.prompt_tokens_left
            held = self._context + self._prompt_kv
            if held and held + need > self._kv_total_tokens:
                break
            self._waiting.popleft()
            output = max(1, round(work.output_tokens_left))
            if work.prompt_tokens_left > 0:
                self._prompts.append([work.prompt_tokens_left, work.context_tokens, output])
                self._prompt_kv += need
            else:
                self._decode(work.context_tokens, output)
                ends.append(self._turn + output)
        return ends

    def _take_prompts(self) -> tuple[int, float, list[tuple[int, int]]]:
        """Return (tokens, attention work, completed prompts) of the prompts' share of a step."""
        budget, work = self._prior.chunk_tokens, 0.0
        finished: list[tuple[int, int]] = []
        while self._prompts and budget > 0:
            prompt = self._prompts[0]
            take = min(prompt[0], budget)
            work += take * (prompt[1] + 0.5 * take)
            prompt[0] -= take
            prompt[1] += take
            budget -= take
            if not prompt[0]:
                self._prompts.popleft()
                self._prompt_kv -= prompt[1]
                finished.append((prompt[1], prompt[2]))
        return self._prior.chunk_tokens - budget, work, finished


def forward(prior: LatencyPrior, queue: Sequence[QueuedWork], kv_total_tokens: int,
            newcomer: QueuedWork) -> tuple[float, float]:
    """Return (seconds to the new request's first token, seconds to its last) behind ``queue``."""
    return _Replay(prior, queue, kv_total_tokens).run(newcomer)


class Predictive:
    """The replica with the earliest last (``e2e``) or first (``ttft``) token of the request.

    ``sample`` > 0 limits the simulation to this many replicas with the fewest requests, which saves
    most of the work. (Block's "power of two" samples at random instead; the fewest requests are at
    least as informative.)
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
