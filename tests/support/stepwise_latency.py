"""What a replica does, one step at a time: the plain form of ``predictive.forward``."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.core.snapshot import QueuedWork
from penstock.predict.latency import LatencyPrior


@dataclass(slots=True)
class _Seated:
    prompt_left: int
    context: int
    output_left: int
    newcomer: bool


def slow_forward(prior: LatencyPrior, queue: Sequence[QueuedWork], kv_total_tokens: int,
                 newcomer: QueuedWork) -> tuple[float, float]:
    """(seconds to the newcomer's first token, seconds to its last): chunked prefill in order beside
    all decodes, first come first seated while seats and KV cache last."""
    waiting = [_Seated(w.prompt_tokens_left, w.context_tokens,
                       max(1, round(w.output_tokens_left)), w is newcomer)
               for w in (*queue, newcomer)]
    seated: list[_Seated] = []
    now_s, first_s = 0.0, -1.0
    while True:
        while waiting and len(seated) < prior.max_num_seqs:
            held = sum(one.context + one.prompt_left for one in seated)
            need = waiting[0].context + waiting[0].prompt_left
            if held and held + need > kv_total_tokens:
                break
            seated.append(waiting.pop(0))
        decodes = [one for one in seated if not one.prompt_left]
        context = sum(one.context for one in decodes)
        budget, work = prior.chunk_tokens, 0.0
        completed: list[_Seated] = []
        for one in [one for one in seated if one.prompt_left]:
            take = min(one.prompt_left, budget)
            work += take * (one.context + 0.5 * take)
            one.prompt_left -= take
            one.context += take
            budget -= take
            if take and not one.prompt_left:
                completed.append(one)
        now_s += prior.step.seconds(prior.chunk_tokens - budget, work, len(decodes), context)
        for one in decodes:
            one.context += 1
            one.output_left -= 1
        for one in completed:  # the first token comes with the end of the prompt
            one.output_left -= 1
            if one.newcomer:
                first_s = now_s
        for one in seated:
            if one.newcomer and not one.prompt_left and not one.output_left:
                return first_s, now_s
        seated = [one for one in seated if one.prompt_left or one.output_left]
