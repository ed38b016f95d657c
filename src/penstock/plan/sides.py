"""Kinds of replicas that compute only prompts or only answers of a demand."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from penstock.core.slo import ServiceClass
from penstock.fleet.capacity import step_tokens
from penstock.fleet.disaggregation import drafts_in_vain
from penstock.fleet.values import Fleet
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.plan.demands import Demand
from penstock.plan.estimate import Candidate, believed_step_time
from penstock.plan.variants import Variant, variant_name
from penstock.policy.route.roles import PREFILL

MOST_KINDS = 3
"""Kinds of replicas of each role that a plan tries: the cheapest."""


def sides(fleet: Fleet, demand: Demand, variants: Sequence[Variant], role: str,
          least_tokens: int | None) -> list[Candidate]:
    """Return the cheapest kinds of replicas for a role, the cheapest first.

    They serve the prompts of ``least_tokens`` or more, None for those that the fleet's file states.
    A candidate's rate is in requests per second of the whole demand: that at which its tokens of
    the role keep it busy, in prompts of whole steps, or in the largest batch within the time
    between tokens and the KV cache. No number of replicas below ``num_replicas`` can do.
    """
    found = []
    served = demand.sample.prompt_tokens >= _least(fleet, least_tokens)
    for variant in variants:
        per_s = _requests_per_s(fleet, demand, variant, role, served)
        if per_s > 0.0:
            count = max(1, fleet.plan.min_replicas, ceil(demand.lasting_per_s / per_s - 1e-9))
            found.append(Candidate(with_role(variant, role, least_tokens), per_s, count,
                                   "prompts" if role == PREFILL else "answers", None, ()))
    return sorted(found, key=lambda side: (side.cost_per_hour, side.variant.name))[:MOST_KINDS]


def with_role(variant: Variant, role: str, least_tokens: int | None) -> Variant:
    """Return a kind of replica with a role."""
    group = replace(variant.group, role=role,
                    min_prompt_tokens=least_tokens if role == PREFILL else None)
    if drafts_in_vain(group):
        group = replace(group, speculation=None)
    return replace(variant, name=variant_name(group), group=group)


def _least(fleet: Fleet, least_tokens: int | None) -> int:
    if least_tokens is not None or fleet.disaggregation is None:
        return least_tokens or 0
    return fleet.disaggregation.min_prompt_tokens


def _requests_per_s(fleet: Fleet, demand: Demand, variant: Variant, role: str,
                    served: NDArray[np.bool_]) -> float:
    """Return the most requests per second of the whole demand whose part of the role one replica
    computes; 0 where it computes none in time."""
    model, options = believed_step_time(fleet, variant), fleet.schedule_of(variant.group)
    prompts = demand.sample.prompt_tokens[served].astype(np.float64)
    outputs = demand.sample.output_tokens[served].astype(np.float64)
    if not len(prompts):
        return 0.0
    share = len(prompts) / len(served)
    if role == PREFILL:
        step = max(1, step_tokens(options))
        context = float((prompts ** 2).mean() / prompts.mean())
        per_s = step / model.seconds(step, step * context / 2.0, 0, 0) / float(prompts.mean())
        return per_s / share if _in_time(model, demand.classes, prompts) else 0.0
    room = int(variant.kv_tokens / float((prompts + outputs).mean()))
    context = float((outputs * (prompts + outputs / 2.0)).mean() / outputs.mean())
    return max(_batches(model, demand.classes, min(options.max_num_seqs, room), context),
               default=0.0) / float(outputs.mean()) / share


def _in_time(model: StepTimeModel, classes: Sequence[ServiceClass],
             prompts: NDArray[np.float64]) -> bool:
    """Whether an idle replica computes the median prompt within the longest time to first token."""
    limit_s = max((inf if c.slo.ttft_s is None else c.slo.ttft_s for c in classes), default=inf)
    prompt = round(float(np.median(prompts)))
    return model.seconds(prompt, prompt * prompt / 2.0, 0, 0) <= limit_s


def _batches(model: StepTimeModel, classes: Sequence[ServiceClass], most: int,
             context_tokens: float) -> Iterator[float]:
    """Yield the tokens per second of decode batches within the time between tokens."""
    limit_s = min((c.slo.itl_s for c in classes if c.slo.itl_s is not None), default=inf)
    batch = 1
    while batch <= most:
        seconds = model.seconds(0, 0.0, batch, round(batch * context_tokens))
        if seconds > limit_s:
            return
        yield batch / seconds
        batch = batch + max(1, batch // 8)
