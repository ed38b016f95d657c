"""Predictive dispatch: play each replica's queue forward, and go where the request ends first.

The idea of Block (arXiv 2508.03611): the dispatcher simulates the candidate's own scheduler with
predicted lengths, in place of a single number for its load.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from penstock.core.decision import Route
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.policy.route.facts import ReplicaFacts
from penstock.predict.latency import LatencyPrior
from penstock.predict.length import LengthPredictor

_AHEAD_STEPS = 4000  # a queue that is not through by then is long enough to be called full


class _Running:
    """One request in the replay."""

    __slots__ = ("context", "output_left", "prompt_left")

    def __init__(self, work: QueuedWork) -> None:
        self.prompt_left = work.prompt_tokens_left
        self.context = work.context_tokens
        self.output_left = max(1, round(work.output_tokens_left))


def forward(prior: LatencyPrior, queue: Sequence[QueuedWork], kv_total_tokens: int,
            newcomer: QueuedWork) -> tuple[float, float]:
    """(seconds to the newcomer's first token, seconds to its last) behind ``queue``.

    Chunked prefill in order of the queue, at most ``prior.chunk_tokens`` tokens a step, at most
    ``prior.max_num_seqs`` sequences and no more than the KV cache holds. Stretches of steps that
    only decode are taken at once.
    """
    waiting = [_Running(work) for work in (*queue, newcomer)]
    ours = waiting[-1]
    running: list[_Running] = []
    held = 0
    now_s = first_s = 0.0
    for _ in range(_AHEAD_STEPS):
        while waiting and len(running) < prior.max_num_seqs:
            need = waiting[0].context + waiting[0].prompt_left
            if running and held + need > kv_total_tokens:
                break
            held += need
            running.append(waiting.pop(0))
        budget = prior.chunk_tokens
        chunk, work = 0, 0.0
        decodes = [one for one in running if not one.prompt_left]
        context = sum(one.context for one in decodes)
        ended_prompts: list[_Running] = []
        for one in running:
            if one.prompt_left and chunk < budget:
                take = min(one.prompt_left, budget - chunk)
                work += take * (one.context + 0.5 * take)
                one.prompt_left -= take
                one.context += take
                chunk += take
                if not one.prompt_left:
                    ended_prompts.append(one)
        steps = 1
        if not chunk:
            steps = max(1, min(one.output_left for one in decodes))
        grown = context + len(decodes) * (steps - 1) // 2
        now_s += steps * prior.step.seconds(chunk, work, len(decodes), grown)
        for one in decodes:
            one.context += steps
            one.output_left -= steps
        held += steps * len(decodes)
        for one in ended_prompts:
            one.output_left -= 1
        if ours in ended_prompts:
            first_s = now_s
        if ours.output_left <= 0 and not ours.prompt_left:
            return first_s, now_s
        for one in [r for r in running if not r.prompt_left and r.output_left <= 0]:
            running.remove(one)
            held -= one.context
    return first_s or now_s, now_s


class Predictive:
    """The replica where the request's last (``e2e``) or first (``ttft``) token comes first.

    ``sample`` > 0 looks only at so many replicas with the fewest requests, which saves most of the
    work ("power of two" in Block samples at random instead; fewest is never worse informed).
    """

    looks_into_queues = True
    learns = True

    def __init__(self, facts: Mapping[int, ReplicaFacts], lengths: LengthPredictor,
                 target: Literal["e2e", "ttft"] = "e2e", sample: int = 0) -> None:
        self._facts = facts
        self._lengths = lengths
        self._target = target
        self._sample = sample
        self._class_of: dict[int, str] = {}

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        seen = sorted(replicas, key=lambda r: (r.num_running + r.num_waiting, r.replica_id))
        best: tuple[float, float, int] | None = None
        for replica in seen[:self._sample or len(seen)]:
            fact = self._facts[replica.replica_id]
            work = QueuedWork(request.prompt_tokens, 0, self._output(request, fact.model))
            first_s, last_s = forward(fact.prior, replica.queue, replica.kv_total_tokens, work)
            key = (last_s, first_s) if self._target == "e2e" else (first_s, last_s)
            if best is None or (*key, replica.replica_id) < best:
                best = (*key, replica.replica_id)
        assert best is not None
        self._class_of[request.request_id] = request.service_class.name
        first_s, last_s = (best[1], best[0]) if self._target == "e2e" else best[:2]
        return Route(best[2], {"ttft_s": first_s, "e2e_s": last_s})

    def ended(self, departure: Departure) -> None:
        name = self._class_of.pop(departure.request_id, None)
        if name is not None and departure.finished:
            self._lengths.observe(name, departure.output_tokens)

    def _output(self, request: Request, model: str) -> float:
        forecast = request.forecasts.get(model)
        mean = forecast.output_tokens if forecast else self._lengths.mean(
            request.service_class.name)
        return min(mean, float(request.max_tokens))
