"""The summands of a composed step time, by operation, with the rows of their tables."""

from collections.abc import Iterator
from dataclasses import replace

from penstock.core.step import StepFeatures
from penstock.perf.kernels.compose import KernelStepTime
from penstock.perf.kernels.curves import Curve
from penstock.perf.step_time.breakdown import (
    COMMUNICATION,
    DECODE_ATTENTION,
    DECODES,
    DENSE,
    EMBEDDING,
    EXPERTS,
    HEAD,
    HOST,
    NORMS,
    OVERHEAD,
    PREFILL_ATTENTION,
    PROMPTS,
    Part,
)

_SETTING = "setting host_overhead_s"


def kernel_parts(model: KernelStepTime, features: StepFeatures) -> Iterator[Part]:
    """Yield the parts of a step in the order in which a layer computes; they sum to its time."""
    prefill, pairs, decodes, context = features
    work, peak, tokens = model.work, model.peak, prefill + decodes
    parts = _by_tokens(model, tokens)
    sampled = decodes + 1 if prefill else decodes
    yield from (part for part in parts if part.group == DENSE)
    yield Part(HEAD, DENSE, model.head.at(sampled),
               _rows_at(model.sources[HEAD], model.head, sampled), 1, work.head_bytes,
               work.head_flops * sampled).against(peak, in_16bit=True)
    if prefill:
        source = model.sources[PROMPTS] + _beyond(inside=model.prefill.covers(prefill, pairs))
        yield Part(PROMPTS, PREFILL_ATTENTION, model.prefill.at(prefill, pairs), source,
                   flops=work.pair_flops * pairs).against(peak, in_16bit=True)
    if decodes:
        source = model.sources[DECODES] + _beyond(inside=model.decode.covers(decodes, context))
        num_bytes = (work.context_bytes * context
                     + work.state_bytes * work.full_states(decodes, context))
        yield Part(DECODES, DECODE_ATTENTION, model.decode.at(decodes, context), source,
                   num_bytes=num_bytes,
                   flops=work.decode_pair_flops * context).against(peak, in_16bit=True)
    yield from (part for part in parts if part.group == COMMUNICATION)
    if model.host_s:
        yield Part(HOST, OVERHEAD, model.host_s, _SETTING)


def _by_tokens(model: KernelStepTime, tokens: int) -> list[Part]:
    """Return the parts that go by the step's tokens; kernels of one purpose are one part."""
    work = model.work
    done = {one.name: (one.num_bytes, one.flops * tokens) for one in work.matrices}
    done[EXPERTS] = (work.touched_expert_bytes(tokens), work.expert_flops * tokens)
    done[NORMS] = (work.elementwise_bytes * tokens, 0.0)
    done[EMBEDDING] = (model.embedding_bytes * tokens, 0.0)
    sent = {one.name: one.token_bytes * one.sent_share * tokens for one in model.transfers}
    parts = []
    for name in dict.fromkeys(kernel.name for kernel in model.kernels):
        own = [kernel for kernel in model.kernels if kernel.name == name]
        num_bytes, flops = done.get(name, (0.0, 0.0))
        sources = dict.fromkeys(_rows_at(one.source, one.curve, tokens) for one in own)
        part = Part(name, COMMUNICATION if name in sent else DENSE,
                    sum(one.curve.at(tokens) for one in own), "; ".join(sources),
                    sum(one.calls for one in own), num_bytes, flops, sent.get(name, 0.0))
        parts.append(_bounded(model, part, tokens))
    return parts


def _bounded(model: KernelStepTime, part: Part, tokens: int) -> Part:
    """Return the part with its bound: of certain bytes alone."""
    if part.name == NORMS:  # fused, element-wise kernels move fewer bytes
        return replace(part, binds="memory")
    bounded = part.against(model.peak)
    if part.name == EXPERTS:  # skewed routing touches fewer experts than even routing
        return replace(bounded, num_bytes=model.even_work.touched_expert_bytes(tokens))
    return bounded


def _rows_at(source: str, curve: Curve, tokens: int) -> str:
    """Return the source with the rows of the table between which the tokens lie."""
    if len(curve.knots) < 2:
        return source
    below = max((knot for knot in curve.knots if knot <= tokens), default=curve.knots[0])
    above = min((knot for knot in curve.knots if knot >= tokens), default=curve.knots[-1])
    rows = f"{below:g}" if below == above else f"{below:g} to {above:g}"
    return f"{source}, {rows} tokens" + _beyond(inside=curve.covers(tokens))


def _beyond(*, inside: bool) -> str:
    return "" if inside else ", beyond the table"
