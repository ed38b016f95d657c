"""Step time from a model's architecture and an accelerator's reachable rates.

One step costs, in seconds,

    (memory^p + compute^p)^(1/p)        dense layers: read the weights, multiply every token
    (expert memory^q + expert compute^q)^(1/q)    a mixture's routed experts; q = 1: in turn
    + work * W + context * K            attention of prompts and of decodes
    + per token, per decode, per layer  element-wise kernels, all-reduce, launches, host

Expert memory counts the experts that the step touches: of E with k per token, T tokens touch
E * (1 - (1 - k/E)^T) on average. The head multiplies only sampled tokens: one per decode, and one
for the prompt chunks together. Every rate is at most the chip's peak, so the estimate cannot fall
under the physical bound (``bound_seconds``).

A batch passes the pipeline's stages one after the other, so a step lasts as long as all stages
together plus the transfers: right for latency. A pipeline with as many batches in flight as stages
has up to that many times the throughput; whoever schedules the batches accounts for that.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.step import StepFeatures, StepTime
from penstock.perf.evidence import Evidence
from penstock.perf.memory import (
    ONE_ACCELERATOR,
    check_precision,
    tensor_share,
)
from penstock.perf.step_time.efficiency import Efficiency, efficiency_for
from penstock.perf.step_time.protocol import Slopes
from penstock.perf.step_time.terms import fullest
from penstock.perf.step_time.work import (
    PeakRates,
    StepWork,
    bound_seconds,
    peak_rates,
    step_work,
)

# Scheduling, sampling and launch on the host: 2-3 ms in vLLM before asynchronous scheduling.
HOST_OVERHEAD_S = 0.002
# A transfer between stages: latency of one point-to-point message.
SEND_S = 10e-6
_ACTIVATION_BYTES = 2
REDUCE, REDUCE_ATTENTION, REDUCE_MLP = (
    "all-reduces", "all-reduces of attention", "all-reduces of feed-forward")
GATHER, SENDS = "gather and scatter of tokens", "sends between stages"
# Two norms, the rotary embedding, the activation function and a residual add.
ELEMENTWISE_PER_LAYER = 5
# Kernel tables cover up to 65,536 rows (GEMM) and 16,384-token prompts (attention).
_LARGEST = StepFeatures(16_384, 16_384.0**2, 1_024, 4_000_000)


class Launches(NamedTuple):
    """Seconds a step in which kernels start: those of matrices and of element-wise operations, of
    routed experts and of linear attention, and of whole ``layers`` where nobody tells them apart.
    """

    matrices_s: float = 0.0
    elementwise_s: float = 0.0
    layers_s: float = 0.0
    experts_s: float = 0.0
    linear_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Return the sum."""
        return (self.matrices_s + self.elementwise_s + self.layers_s + self.experts_s
                + self.linear_s)


class Transfer(NamedTuple):
    """Messages of one purpose: seconds a step and a token, bytes a token, and the part of these
    bytes that every accelerator must send."""

    name: str
    step_s: float
    token_s: float
    token_bytes: float
    sent_share: float


@dataclass(frozen=True, slots=True)
class RooflineStepTime:
    """Seconds per unit, ready to be summed; build one with ``roofline_step_time``.

    ``step_s`` is the sum of ``launches``, ``communication_step_s`` and ``communication_token_s``
    are sums of ``transfers``, and ``decode_seq_s`` includes ``state_s``: ``roofline_parts``
    tells the summands. Where attention is parallel over ``data_ranks``, all but routed experts and
    messages last as long as on the rank with the most sequences.
    """

    weight_s: float
    all_experts_s: float
    idle_expert_share: float
    expert_token_s: float
    body_token_s: float
    head_token_s: float
    sharpness: float
    token_s: float
    communication_token_s: float
    decode_seq_s: float
    work_s: float
    context_s: float
    step_s: float
    communication_step_s: float
    prefill_step_s: float
    decode_step_s: float
    host_s: float
    work: StepWork
    peak: PeakRates
    evidence: Evidence
    launches: Launches
    transfers: tuple[Transfer, ...]
    state_s: float
    expert_sharpness: float = 1.0
    data_ranks: int = 1

    @property
    def slopes(self) -> Slopes:
        """Rates in attention work and context tokens, of the mean data rank."""
        return Slopes(self.work_s, self.context_s, exact=self.data_ranks == 1)

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        tokens = prefill_tokens + decode_seqs
        own_prefill, own_decodes = float(prefill_tokens), float(decode_seqs)
        if self.data_ranks > 1:
            prompt_share, decode_share = self.fullest_shares(
                prefill_tokens, attention_work, decode_seqs)
            own_prefill, own_decodes = prefill_tokens * prompt_share, decode_seqs * decode_share
            attention_work = attention_work * prompt_share
            context_s = self.context_s * decode_share * context_tokens
        else:
            context_s = self.context_s * context_tokens
        own_tokens = own_prefill + own_decodes
        total_s = self.matrix_seconds(own_tokens,
                                      own_decodes + 1 if prefill_tokens else own_decodes)
        if self.all_experts_s:
            total_s += self.expert_seconds(tokens)
        total_s = total_s + self.step_s + self.host_s
        total_s += (self.token_s * own_tokens + self.communication_token_s * tokens
                    + self.communication_step_s)
        if prefill_tokens:
            total_s += self.prefill_step_s
        if decode_seqs:
            total_s += self.decode_step_s + self.decode_seq_s * own_decodes
        return total_s + self.work_s * attention_work + context_s

    def fullest_shares(self, prefill_tokens: int, attention_work: float,
                       decode_seqs: int) -> tuple[float, float]:
        """Return the prompts and the decodes of the data rank with the most, over the mean rank's.

        Equal prompts without cached tokens are T^2 / 2 W in number, with T tokens and W pairs.
        """
        prompts = max(1.0, prefill_tokens**2 / (2.0 * attention_work)) if attention_work else 0.0
        return (fullest(prompts, self.data_ranks), fullest(decode_seqs, self.data_ranks))

    def matrix_seconds(self, tokens: float, sampled: float) -> float:
        """Seconds of the matrices of all layers, which multiply ``tokens`` tokens, and of the head,
        which multiplies those ``sampled``, but for routed experts and launches."""
        compute_s = self.body_token_s * tokens + self.head_token_s * sampled
        p = self.sharpness
        seconds: float = (self.weight_s**p + compute_s**p) ** (1.0 / p)
        return seconds

    def expert_seconds(self, tokens: int) -> float:
        """Seconds of the routed experts, but for launches."""
        read_s = self.all_experts_s * (1.0 - self.idle_expert_share**tokens)
        multiply_s, q = self.expert_token_s * tokens, self.expert_sharpness
        seconds: float = (read_s + multiply_s if q == 1.0
                          else (read_s**q + multiply_s**q) ** (1.0 / q))
        return seconds

    def bound_seconds(self, features: StepFeatures) -> float:
        """No step can be faster: operations over peak rate, or bytes over peak bandwidth.

        Bytes are the weights touched and the keys and values that decodes read.
        """
        return bound_seconds(self.work, self.peak, features)

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with interval and parts."""
        prefill, attention, decodes, context = features
        prompt_share, decode_share = self.fullest_shares(prefill, attention, decodes)
        own_decodes = decodes * decode_share
        own_tokens, tokens = prefill * prompt_share + own_decodes, prefill + decodes
        parts = {
            "dense": (self.matrix_seconds(own_tokens, own_decodes + 1 if prefill else own_decodes)
                      + self.expert_seconds(tokens) + self.token_s * own_tokens + self.step_s),
            "prefill_attention": (self.work_s * attention * prompt_share
                                  + (self.prefill_step_s if prefill else 0.0)),
            "decode_attention": (self.context_s * context * decode_share
                                 + self.decode_seq_s * own_decodes
                                 + (self.decode_step_s if decodes else 0.0)),
            "communication": self.communication_step_s + self.communication_token_s * tokens,
            "overhead": self.host_s,
        }
        return self.evidence.step_time(features, self.seconds(*features), parts,
                                       self.bound_seconds(features))


def roofline_step_time(
    model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism = ONE_ACCELERATOR,
    precision: str = "bf16", kv_precision: str = "bf16", *,
    host_overhead_s: float = HOST_OVERHEAD_S,
) -> RooflineStepTime:
    """The step time of ``model`` on ``parallelism.num_accelerators`` equal accelerators.

    Raises InputError for an unknown precision. The interval is the error of the kernel fits, wider
    where a rate is assumed; see docs/reference/step-time.md for whole-step errors.
    """
    check_precision(precision)
    check_precision(kv_precision)
    rates = efficiency_for(accelerator, precision, kv_precision)
    work = step_work(model, parallelism, precision, kv_precision)
    tensor, data, layers = parallelism.tensor, parallelism.data, model.num_layers
    heads = tensor_share(model.num_heads, tensor) * model.num_heads
    attention_layers = model.cached_layers
    launches = Launches(_num_gemms(work) * rates.gemm_kernel_s,
                        ELEMENTWISE_PER_LAYER * layers * rates.elementwise_kernel_s,
                        experts_s=model.num_moe_layers * rates.expert_kernel_s)
    reductions, reduce_token_s = _reductions(rates, model, parallelism)
    between = sends(model, parallelism, rates.link_bytes_per_s)
    state_s = work.state_bytes / rates.decode_bandwidth
    return RooflineStepTime(
        weight_s=work.weight_bytes / rates.gemm_bandwidth,
        all_experts_s=work.num_experts * work.expert_bytes / rates.expert_bandwidth,
        expert_token_s=work.expert_flops / rates.expert_flops,
        idle_expert_share=work.idle_expert_share,
        body_token_s=work.body_flops / rates.gemm_flops,
        head_token_s=work.head_flops / rates.head_flops,
        sharpness=rates.knee, token_s=work.elementwise_bytes / rates.gemm_bandwidth,
        communication_token_s=reduce_token_s + between.token_s,
        decode_seq_s=rates.seq_head_s * heads * attention_layers / data + state_s,
        work_s=work.pair_flops / rates.prefill_flops,
        context_s=max(work.context_bytes / rates.decode_bandwidth,
                      work.decode_pair_flops / rates.prefill_flops),
        step_s=launches.total_s, communication_step_s=step_seconds(reductions) + between.step_s,
        prefill_step_s=attention_layers * rates.prefill_kernel_s,
        decode_step_s=attention_layers * rates.decode_kernel_s,
        host_s=host_overhead_s, work=work, peak=peak_rates(accelerator, precision),
        evidence=_evidence(rates, accelerator, parallelism, mixture=model.num_moe_layers > 0),
        launches=launches, transfers=(*reductions, between), state_s=state_s,
        data_ranks=parallelism.data)


def step_seconds(transfers: Iterable[Transfer]) -> float:
    """Seconds of a step's messages, whatever they carry."""
    total_s = 0.0
    for transfer in transfers:
        total_s += transfer.step_s
    return total_s


def sends(model: ModelSpec, parallelism: Parallelism, link_bytes_per_s: float) -> Transfer:
    """Messages between the stages of a pipeline, none where there is one stage."""
    count = parallelism.pipeline - 1
    token_bytes = float(count * (model.hidden_size * _ACTIVATION_BYTES))
    return Transfer(SENDS, count * SEND_S, token_bytes / link_bytes_per_s, token_bytes, 1.0)


def _reductions(rates: Efficiency, model: ModelSpec,
                parallelism: Parallelism) -> tuple[tuple[Transfer, ...], float]:
    """Return the reductions among ranks, and their seconds per token together.

    Tensor ranks reduce twice a layer, after attention and after the feed-forward. With
    data-parallel attention the second is among all ranks, which gather the tokens before the
    experts and scatter the sums after them: as many bytes as a reduction of all tokens.
    """
    tensor, data, layers = parallelism.tensor, parallelism.data, model.num_layers
    hidden_bytes = model.hidden_size * _ACTIVATION_BYTES
    found: list[Transfer] = []
    byte_s = 0.0
    second = GATHER if data > 1 else REDUCE_MLP
    for name, ranks, share in ((REDUCE_ATTENTION, tensor, 1.0 / data),
                               (second, tensor * data, 1.0)):
        if ranks > 1:
            base_s, each_s = rates.all_reduce_time(ranks)
            own_s = layers * each_s * share
            byte_s += own_s
            found.append(Transfer(name, layers * base_s, own_s * hidden_bytes,
                                  layers * share * hidden_bytes, (ranks - 1) / ranks))
    return tuple(found), byte_s * hidden_bytes


def _num_gemms(work: StepWork) -> int:
    """Launches of dense GEMMs, the head's included."""
    return sum(one.calls for one in work.matrices) + 1


def _evidence(rates: Efficiency, accelerator: Accelerator, parallelism: Parallelism, *,
              mixture: bool) -> Evidence:
    source, largest = f"roofline; {rates.source}", _LARGEST
    if parallelism.tensor * parallelism.data > accelerator.max_per_node:
        # No figures for links between nodes: every answer is outside what was measured.
        source += "; all-reduce across nodes taken at the rate within one"
        largest = StepFeatures(-1, -1.0, -1, -1)
    mean, p95 = rates.mean_error, rates.p95_error
    if mixture:
        mean, p95 = max(mean, rates.expert_mean_error), max(p95, rates.expert_p95_error)
    return Evidence(source, mean, p95, largest, () if rates.measured else ("accelerator",))
