"""Times of a step's parts at an accelerator's peaks, to which measured rates apply.

A step takes, with one rate p for each part,

    ((p W)^3 + (p F)^3)^(1/3)        dense layers: read the weights, multiply every token
    + ((p E)^2 + (p G)^2)^(1/2)      routed experts, alike
    + p times each further part      attention, reductions, launches, host

With data-parallel attention, dense layers and attention take as long as on the rank with the most
sequences: sequences are dealt out evenly, so that ``n`` of them on ``r`` ranks give the fullest
``ceil(n / r)``, for which alone a rank's own scheduler works. Routed experts compute all ranks'
tokens together.

``DENSE_SHARPNESS`` and ``EXPERT_SHARPNESS`` are the exponents: reading and multiplying overlap
nearly whole in dense layers, less in grouped kernels of experts.
"""

from math import ceil
from typing import NamedTuple

import numpy as np

from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.metrics.definitions import FloatColumn
from penstock.perf.step_time.work import step_work

DENSE_SHARPNESS = 3.0
EXPERT_SHARPNESS = 2.0
_ACTIVATION_BYTES = 2
_DISPATCHED_BYTES = 1  # of an activation on its way to the experts: FP8
NETWORK_BYTES_PER_S = 50e9
"""An accelerator's share of the network between nodes: one card of 400 Gbit/s."""
_ROUNDING = 0.05  # of sequences a rank: prompts of unequal lengths count as a little fewer
_NODE_LATENCY = 4
"""Latency of a message between nodes over that within a node: some 25 us beside 6 us."""


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
    sent_token_bytes: float = 0.0
    data_ranks: int = 1

    def parts(self, prefill_tokens: FloatColumn, attention_work: FloatColumn,
              decode_seqs: FloatColumn, context_tokens: FloatColumn) -> FloatColumn:
        """Return a row for each field of ``Rates``: the part of each step to which it applies."""
        tokens, prompts = prefill_tokens + decode_seqs, (prefill_tokens > 0).astype(np.float64)
        one = np.ones(len(tokens))
        prompt_share, decode_share = (np.array([
            fullest(count, self.data_ranks) for count in counts.tolist()]) for counts in (
                num_prompts(prefill_tokens, attention_work), decode_seqs))
        own_tokens = prefill_tokens * prompt_share + decode_seqs * decode_share
        return np.stack([
            self.weights_s * one,
            self.body_token_s * own_tokens + self.head_s * (decode_seqs * decode_share + prompts),
            self.experts_s * (1.0 - self.idle_expert_share**tokens),
            self.expert_token_s * tokens,
            (self.context_s * context_tokens + self.state_s * decode_seqs) * decode_share,
            self.pair_s * attention_work * prompt_share,
            self.elementwise_token_s * own_tokens,
            self.link_token_s * tokens,
            self.num_layers * one, self.num_layers * prompts, self.num_expert_layers * one,
            self.num_linear_layers * one, self.num_reductions * one, one, prompts,
            decode_seqs * decode_share / self.data_ranks])


def fullest(num_seqs: float, ranks: int) -> float:
    """Return the sequences of the fullest of ``ranks`` over the mean of all, dealt out evenly."""
    if ranks == 1 or num_seqs <= 0.0:
        return 1.0
    return ceil(num_seqs / ranks - _ROUNDING) * ranks / num_seqs


def num_prompts(prefill_tokens: FloatColumn, attention_work: FloatColumn) -> FloatColumn:
    """Return the number of prompts of each step, by their tokens T and (query, key) pairs W. Equal
    prompts without cached tokens have W = T^2 / 2n; at least one where there are tokens."""
    found: FloatColumn = np.maximum(
        prefill_tokens**2 / (2.0 * np.maximum(attention_work, 1.0)), 1.0) * (prefill_tokens > 0)
    return found


def reduced_bytes(model: ModelSpec) -> float:
    """Bytes of a token that ranks reduce in a step: twice a layer, in 16 bits."""
    return 2.0 * model.num_layers * model.hidden_size * _ACTIVATION_BYTES


def units(model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism, precision: str,
          kv_precision: str) -> Units:
    """Return the units of a replica. Raises InputError for a precision without a stated peak."""
    work = step_work(model, parallelism, precision, kv_precision)
    bandwidth = accelerator.bandwidth_bytes_per_s
    peak, peak_16bit = accelerator.flops(precision), accelerator.flops("bf16")
    messages = _messages(model, accelerator, parallelism)
    return Units(
        weights_s=work.weight_bytes / bandwidth, body_token_s=work.body_flops / peak,
        head_s=work.head_flops / peak_16bit,
        experts_s=work.num_experts * work.expert_bytes / bandwidth,
        idle_expert_share=work.idle_expert_share, expert_token_s=work.expert_flops / peak,
        context_s=max(work.context_bytes / bandwidth, work.decode_pair_flops / peak_16bit),
        state_s=work.state_bytes / bandwidth, pair_s=work.pair_flops / peak_16bit,
        elementwise_token_s=work.elementwise_bytes / bandwidth, link_token_s=messages.token_s,
        num_layers=model.num_layers, num_expert_layers=model.num_moe_layers,
        num_linear_layers=model.linear_layers,
        num_reductions=messages.num, sent_token_bytes=messages.sent_token_bytes,
        data_ranks=parallelism.data)


class _Messages(NamedTuple):
    """Messages of a step among ranks: seconds at the peak and bytes that each accelerator must
    send, for a token, and the number, in messages within a node."""

    token_s: float = 0.0
    sent_token_bytes: float = 0.0
    num: int = 0


def _messages(model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism) -> _Messages:
    """Return the messages that move activations among the ranks of a replica.

    A ring of n ranks moves 2 (n - 1) / n bytes of each reduced byte through every link. With whole
    experts on data-parallel ranks, each token goes to the ranks of its experts and back: of k
    experts, n (1 - (1 - 1/n)^k) ranks in expectation, from one rank of n.
    """
    ranks = parallelism.tensor * parallelism.data
    if ranks == 1:
        return _Messages()
    link = max(accelerator.link_bytes_per_s, 1.0)
    far = ranks > accelerator.max_per_node > 1
    num = 2 * model.num_layers * (_NODE_LATENCY if far else 1)
    others = (ranks - 1) / ranks
    if parallelism.data > 1 and parallelism.expert > 1:
        targets = ranks * (1.0 - (1.0 - 1.0 / ranks)**model.experts_per_token)
        sent = (model.num_moe_layers * model.hidden_size
                * (_DISPATCHED_BYTES + _ACTIVATION_BYTES) * targets * others / ranks)
        return _Messages(sent / (min(link, NETWORK_BYTES_PER_S) if far else link), sent, num)
    sent = reduced_bytes(model) * others
    # All cards of a node share what leaves the node.
    rate = min(link, NETWORK_BYTES_PER_S * accelerator.max_per_node) if far else link
    return _Messages(2.0 * sent / rate, sent, num)
