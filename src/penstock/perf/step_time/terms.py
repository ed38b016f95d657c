"""Times of a step's parts at an accelerator's peaks, to which measured rates apply.

A step takes, with one rate p for each part,

    ((p W)^3 + (p F)^3)^(1/3)        dense layers: read the weights, multiply every token
    + ((p E)^2 + (p G)^2)^(1/2)      routed experts, alike
    + p times each further part      attention, reductions, launches, host

``DENSE_SHARPNESS`` and ``EXPERT_SHARPNESS`` are the exponents: reading and multiplying overlap
nearly whole in dense layers, less in grouped kernels of experts.
"""

from typing import NamedTuple

import numpy as np

from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.metrics.definitions import FloatColumn
from penstock.perf.step_time.work import step_work

DENSE_SHARPNESS = 3.0
EXPERT_SHARPNESS = 2.0
_ACTIVATION_BYTES = 2


class Rates(NamedTuple):
    """Rates of the parts: of the first eight, time over the time at the peak; of the others,
    seconds per layer, reduction, step or sequence."""

    weights: float
    dense_flops: float
    experts: float
    expert_flops: float
    decode_attention: float
    prompt_attention: float
    elementwise: float
    link: float
    layer_s: float
    prompt_layer_s: float
    expert_layer_s: float
    linear_layer_s: float
    reduction_s: float
    step_s: float
    prompt_step_s: float
    sequence_s: float


class Units(NamedTuple):
    """Seconds at the peaks, and counts, of a replica's steps.

    ``*_token_s`` are per token of a step, ``head_s`` per sampled token, ``context_s`` per context
    token of a decode, ``state_s`` per decode, ``pair_s`` per (query, key) pair of prompts.
    """

    weights_s: float
    body_token_s: float
    head_s: float
    experts_s: float
    idle_expert_share: float
    expert_token_s: float
    context_s: float
    state_s: float
    pair_s: float
    elementwise_token_s: float
    link_token_s: float
    num_layers: int
    num_expert_layers: int
    num_linear_layers: int
    num_reductions: int

    def parts(self, prefill_tokens: FloatColumn, attention_work: FloatColumn,
              decode_seqs: FloatColumn, context_tokens: FloatColumn) -> FloatColumn:
        """Return a row for each field of ``Rates``: the part of each step to which it applies."""
        tokens, prompts = prefill_tokens + decode_seqs, (prefill_tokens > 0).astype(np.float64)
        one = np.ones(len(tokens))
        return np.stack([
            self.weights_s * one,
            self.body_token_s * tokens + self.head_s * (decode_seqs + prompts),
            self.experts_s * (1.0 - self.idle_expert_share**tokens),
            self.expert_token_s * tokens,
            self.context_s * context_tokens + self.state_s * decode_seqs,
            self.pair_s * attention_work,
            self.elementwise_token_s * tokens,
            self.link_token_s * tokens,
            self.num_layers * one, self.num_layers * prompts, self.num_expert_layers * one,
            self.num_linear_layers * one, self.num_reductions * one, one, prompts, decode_seqs])


def reduced_bytes(model: ModelSpec) -> float:
    """Bytes of a token that ranks reduce in a step: twice a layer, in 16 bits."""
    return 2.0 * model.num_layers * model.hidden_size * _ACTIVATION_BYTES


def units(model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism, precision: str,
          kv_precision: str) -> Units:
    """Return the units of a replica. Raises InputError for a precision without a stated peak."""
    work = step_work(model, parallelism, precision, kv_precision)
    bandwidth = accelerator.bandwidth_bytes_per_s
    peak, peak_16bit = accelerator.flops(precision), accelerator.flops("bf16")
    ranks = parallelism.tensor * parallelism.data
    # A ring of n ranks moves 2 (n - 1) / n bytes of each reduced byte through every link.
    link_token_s = 0.0
    if ranks > 1:
        moved = reduced_bytes(model)
        link_token_s = moved * 2.0 * (ranks - 1) / ranks / max(accelerator.link_bytes_per_s, 1.0)
    return Units(
        weights_s=work.weight_bytes / bandwidth, body_token_s=work.body_flops / peak,
        head_s=work.head_flops / peak_16bit,
        experts_s=work.num_experts * work.expert_bytes / bandwidth,
        idle_expert_share=work.idle_expert_share, expert_token_s=work.expert_flops / peak,
        context_s=max(work.context_bytes / bandwidth, work.decode_pair_flops / peak_16bit),
        state_s=work.state_bytes / bandwidth, pair_s=work.pair_flops / peak_16bit,
        elementwise_token_s=work.elementwise_bytes / bandwidth, link_token_s=link_token_s,
        num_layers=model.num_layers, num_expert_layers=model.num_moe_layers,
        num_linear_layers=model.linear_layers,
        num_reductions=2 * model.num_layers if ranks > 1 else 0)
