"""The summands of a roofline's step time, by operation.

The roofline combines reading and multiplying of all matrices by one smooth maximum, so matrices
overlap one another a little: the head's weights are read while layers multiply. Every matrix gets
its own smooth maximum, times the share of all together in the sum of these.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from penstock.core.step import StepFeatures
from penstock.perf.step_time.breakdown import (
    COMMUNICATION,
    DECODE_ATTENTION,
    DECODES,
    DENSE,
    EXPERTS,
    HEAD,
    HOST,
    LAYER_STARTS,
    LINEAR_STARTS,
    NORMS,
    OVERHEAD,
    PREFILL_ATTENTION,
    PROMPTS,
    STATES,
    WINDOWS,
    Part,
)
from penstock.perf.step_time.roofline import RooflineStepTime

_ROOFLINE = "roofline; "
_SETTING = "setting host_overhead_s"


def roofline_parts(model: RooflineStepTime, features: StepFeatures) -> Iterator[Part]:
    """Yield the parts of a step in the order in which a layer computes; they sum to its time."""
    tokens = features.prefill_tokens + features.decode_seqs
    own = _fullest_rank(model, features)
    source = model.evidence.source.removeprefix(_ROOFLINE)
    yield from _matrices(model, own, source)
    if model.all_experts_s:
        yield _experts(model, tokens, source)
    yield from _starts_and_norms(model, own.prefill_tokens + own.decode_seqs, source)
    if features.prefill_tokens:
        yield _prompts(model, own, source)
    if features.decode_seqs:
        yield from _decodes(model, own, source)
    for one in model.transfers:
        seconds = one.step_s + one.token_s * tokens
        if seconds:
            yield Part(one.name, COMMUNICATION, seconds, source, fixed_s=one.step_s,
                       sent_bytes=one.token_bytes * one.sent_share * tokens).against(model.peak)
    if model.host_s:
        rooflines = model.evidence.source.startswith(_ROOFLINE)
        yield Part(HOST, OVERHEAD, model.host_s, _SETTING if rooflines else source)


class _Rank(NamedTuple):
    """Features of a step on the data rank with the most sequences, times the number of ranks."""

    prefill_tokens: float
    prefill_attention_work: float
    decode_seqs: float
    context_tokens: float


def _fullest_rank(model: RooflineStepTime, features: StepFeatures) -> _Rank:
    prefill, work, decodes, context = features
    prompt_share, decode_share = model.fullest_shares(prefill, work, decodes)
    return _Rank(prefill * prompt_share, work * prompt_share, decodes * decode_share,
                 context * decode_share)


def _matrices(model: RooflineStepTime, features: _Rank, source: str) -> Iterator[Part]:
    work, peak, p = model.work, model.peak, model.sharpness
    tokens = features.prefill_tokens + features.decode_seqs
    sampled = features.decode_seqs + 1 if features.prefill_tokens else features.decode_seqs
    bytes_per_s = _rate(work.weight_bytes, model.weight_s)
    body = _rate(work.body_flops, model.body_token_s)
    rows = [Part(one.name, DENSE, 0.0, source, one.calls, one.num_bytes, one.flops * tokens,
                 bytes_per_s=bytes_per_s, flops_per_s=body).against(peak)
            for one in work.matrices]
    if work.window_flops:
        rows.append(Part(WINDOWS, DENSE, 0.0, source, flops=work.window_flops * tokens,
                         flops_per_s=body).against(peak))
    rows.append(Part(HEAD, DENSE, 0.0, source, 1, work.head_bytes, work.head_flops * sampled,
                     bytes_per_s=bytes_per_s, flops_per_s=_rate(
                         work.head_flops, model.head_token_s)).against(peak, in_16bit=True))
    alone = [(_time(row.num_bytes, row.bytes_per_s)**p + _time(row.flops, row.flops_per_s)**p)
             ** (1.0 / p) for row in rows]
    together_s = model.matrix_seconds(tokens, sampled)
    overlap = together_s / sum(alone) if together_s else 1.0
    fixed_s = model.launches.matrices_s / sum(row.calls for row in rows)
    for row, seconds in zip(rows, alone, strict=True):
        yield replace(_lasting(row, seconds * overlap, fixed_s * row.calls), overlap=overlap)


def _experts(model: RooflineStepTime, tokens: int, source: str) -> Part:
    work, fixed_s = model.work, model.launches.experts_s
    part = Part(EXPERTS, DENSE, model.expert_seconds(tokens), source,
                num_bytes=work.touched_expert_bytes(tokens), flops=work.expert_flops * tokens,
                bytes_per_s=_rate(work.num_experts * work.expert_bytes, model.all_experts_s),
                flops_per_s=_rate(work.expert_flops, model.expert_token_s))
    return _lasting(part.against(model.peak), part.seconds, fixed_s)


def _starts_and_norms(model: RooflineStepTime, tokens: float, source: str) -> Iterator[Part]:
    starts, num_bytes = model.launches, model.work.elementwise_bytes
    # Without a bound: fused kernels move fewer bytes.
    norms = Part(NORMS, DENSE, 0.0, source, num_bytes=num_bytes * tokens, binds="memory",
                 bytes_per_s=_rate(num_bytes, model.token_s))
    yield _lasting(norms, model.token_s * tokens, starts.elementwise_s)
    for name, seconds in ((LAYER_STARTS, starts.layers_s), (LINEAR_STARTS, starts.linear_s)):
        if seconds:
            yield Part(name, DENSE, seconds, source, fixed_s=seconds)


def _prompts(model: RooflineStepTime, features: _Rank, source: str) -> Part:
    flops = model.work.pair_flops * features.prefill_attention_work
    part = Part(PROMPTS, PREFILL_ATTENTION, 0.0, source, flops=flops,
                flops_per_s=_rate(model.work.pair_flops, model.work_s))
    return _lasting(part.against(model.peak, in_16bit=True),
                    model.work_s * features.prefill_attention_work, model.prefill_step_s)


def _decodes(model: RooflineStepTime, features: _Rank, source: str) -> Iterator[Part]:
    """Yield the attention of decodes, and the states of linear attention apart."""
    work, (_, _, decodes, context) = model.work, features
    linear_s = (model.state_s * work.linear_state_bytes / work.state_bytes
                if work.linear_state_bytes else 0.0)
    num_bytes = (work.context_bytes * context + (work.state_bytes - work.linear_state_bytes)
                 * work.full_states(decodes, context))
    part = Part(DECODES, DECODE_ATTENTION, 0.0, source, num_bytes=num_bytes,
                flops=work.decode_pair_flops * context,
                bytes_per_s=_rate(work.context_bytes, model.context_s))
    each_s = model.decode_seq_s - model.state_s
    yield _lasting(part.against(model.peak, in_16bit=True),
                   model.context_s * context + (model.state_s - linear_s) * decodes,
                   model.decode_step_s + each_s * decodes)
    if linear_s:
        yield Part(STATES, DECODE_ATTENTION, linear_s * decodes, source,
                   num_bytes=work.linear_state_bytes * decodes,
                   bytes_per_s=_rate(work.linear_state_bytes, linear_s)).against(model.peak)


def _lasting(part: Part, seconds: float, fixed_s: float) -> Part:
    return replace(part, seconds=seconds + fixed_s, fixed_s=fixed_s)


def _rate(amount: float, seconds: float) -> float | None:
    return amount / seconds if amount and seconds else None


def _time(amount: float, rate: float | None) -> float:
    return amount / rate if rate else 0.0
