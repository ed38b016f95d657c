"""Step time from a model's architecture and an accelerator's reachable rates.

One step costs, in seconds,

    (memory^p + compute^p)^(1/p)        dense layers: read the weights, multiply every token
    + expert memory + expert compute    a mixture's routed experts, read and multiplied in turn
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

from dataclasses import dataclass

from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import BYTES_PER_VALUE, ModelSpec
from penstock.core.step import StepFeatures, StepTime
from penstock.core.units import ceil_div
from penstock.perf.efficiency import Efficiency, efficiency_for
from penstock.perf.evidence import Evidence
from penstock.perf.memory import (
    ONE_ACCELERATOR,
    check_precision,
    kv_tensor_share,
    tensor_share,
)
from penstock.perf.protocol import Slopes

# Scheduling, sampling and launch on the host: 2-3 ms in vLLM before asynchronous scheduling.
HOST_OVERHEAD_S = 0.002
# A transfer between stages: latency of one point-to-point message.
_SEND_S = 10e-6
_ACTIVATION_BYTES = 2
# Two norms, the rotary embedding, the activation function and a residual add.
_ELEMENTWISE_PER_LAYER = 5
# Kernel tables cover up to 65,536 rows (GEMM) and 16,384-token prompts (attention).
_LARGEST = StepFeatures(16_384, 16_384.0**2, 1_024, 4_000_000)


@dataclass(frozen=True, slots=True)
class StepWork:
    """What one accelerator of each stage must do per step: operations and bytes, stages summed.

    ``*_flops`` are per token (``body_flops`` without routed experts), ``pair_flops`` per (query,
    key) pair and ``decode_pair_flops`` per context token of a decode; ``expert_bytes`` per distinct
    expert, ``context_bytes`` per context token.
    """

    weight_bytes: float
    expert_bytes: float
    num_experts: int
    idle_expert_share: float
    body_flops: float
    expert_flops: float
    head_flops: float
    pair_flops: float
    decode_pair_flops: float
    context_bytes: float

    def touched_bytes(self, tokens: int) -> float:
        """Bytes of the weights that a step of ``tokens`` tokens reads, in expectation."""
        experts = self.num_experts * (1.0 - self.idle_expert_share**tokens)
        return self.weight_bytes + self.expert_bytes * experts


@dataclass(frozen=True, slots=True)
class PeakRates:
    """What the vendor promises: operations/s in the body and in 16 bits, bytes/s."""

    flops: float
    flops_16bit: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class RooflineStepTime:
    """Seconds per unit, ready to be summed; build one with ``roofline_step_time``."""

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

    @property
    def slopes(self) -> Slopes:
        """Rates in attention work and context tokens."""
        return Slopes(self.work_s, self.context_s)

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        total_s = self._dense_seconds(prefill_tokens, decode_seqs) + self.step_s + self.host_s
        total_s += ((self.token_s + self.communication_token_s) * (prefill_tokens + decode_seqs)
                    + self.communication_step_s)
        if prefill_tokens:
            total_s += self.prefill_step_s
        if decode_seqs:
            total_s += self.decode_step_s + self.decode_seq_s * decode_seqs
        return total_s + self.work_s * attention_work + self.context_s * context_tokens

    def _dense_seconds(self, prefill_tokens: int, decode_seqs: int) -> float:
        tokens = prefill_tokens + decode_seqs
        sampled = decode_seqs + 1 if prefill_tokens else decode_seqs
        compute_s = self.body_token_s * tokens + self.head_token_s * sampled
        p = self.sharpness
        dense_s: float = (self.weight_s**p + compute_s**p) ** (1.0 / p)
        if self.all_experts_s:
            dense_s += (self.all_experts_s * (1.0 - self.idle_expert_share**tokens)
                        + self.expert_token_s * tokens)
        return dense_s

    def bound_seconds(self, features: StepFeatures) -> float:
        """No step can be faster: operations over peak rate, or bytes over peak bandwidth.

        Bytes are the weights touched and the keys and values that decodes read.
        """
        prefill, attention, decodes, context = features
        work, peak = self.work, self.peak
        sampled = decodes + 1 if prefill else decodes
        compute_s = ((work.body_flops + work.expert_flops) * (prefill + decodes) / peak.flops
                     + (work.head_flops * sampled + work.pair_flops * attention
                        + work.decode_pair_flops * context) / peak.flops_16bit)
        num_bytes = work.touched_bytes(prefill + decodes) + work.context_bytes * context
        return max(compute_s, num_bytes / peak.bandwidth)

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with interval and parts."""
        prefill, attention, decodes, context = features
        tokens = prefill + decodes
        parts = {
            "dense": (self._dense_seconds(prefill, decodes) + self.token_s * tokens + self.step_s),
            "prefill_attention": (self.work_s * attention
                                  + (self.prefill_step_s if prefill else 0.0)),
            "decode_attention": (self.context_s * context + self.decode_seq_s * decodes
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
    peak = PeakRates(accelerator.flops(precision), accelerator.flops("bf16"),
                     accelerator.bandwidth_bytes_per_s)
    work = step_work(model, parallelism, precision, kv_precision)
    tensor, layers = parallelism.tensor, model.num_layers
    reduce_s, reduce_byte_s = rates.all_reduce_time(tensor) if tensor > 1 else (0.0, 0.0)
    hidden_bytes = model.hidden_size * _ACTIVATION_BYTES
    sends = parallelism.pipeline - 1
    heads = tensor_share(model.num_heads, tensor) * model.num_heads
    attention_layers = model.kv_layers or layers
    return RooflineStepTime(
        weight_s=work.weight_bytes / rates.gemm_bandwidth,
        all_experts_s=work.num_experts * work.expert_bytes / rates.expert_bandwidth,
        expert_token_s=work.expert_flops / rates.expert_flops,
        idle_expert_share=work.idle_expert_share,
        body_token_s=work.body_flops / rates.gemm_flops,
        head_token_s=work.head_flops / rates.head_flops,
        sharpness=rates.knee,
        token_s=_elementwise_bytes_per_token(model, tensor) / rates.gemm_bandwidth,
        communication_token_s=(2 * layers * reduce_byte_s * hidden_bytes
                               + sends * hidden_bytes / rates.link_bytes_per_s),
        decode_seq_s=rates.seq_head_s * heads * attention_layers,
        work_s=work.pair_flops / rates.prefill_flops,
        context_s=max(work.context_bytes / rates.decode_bandwidth,
                      work.decode_pair_flops / rates.prefill_flops),
        step_s=(_num_gemms(model) * rates.gemm_kernel_s
                + _ELEMENTWISE_PER_LAYER * layers * rates.elementwise_kernel_s
                + model.num_moe_layers * rates.expert_kernel_s),
        communication_step_s=2 * layers * reduce_s + sends * _SEND_S,
        prefill_step_s=attention_layers * rates.prefill_kernel_s,
        decode_step_s=attention_layers * rates.decode_kernel_s,
        host_s=host_overhead_s, work=work, peak=peak,
        evidence=_evidence(rates, accelerator, parallelism, mixture=model.num_moe_layers > 0))


def step_work(model: ModelSpec, parallelism: Parallelism, precision: str,
              kv_precision: str) -> StepWork:
    """Operations and bytes per accelerator; the pipeline's stages are summed, not divided."""
    tensor = parallelism.tensor
    width = BYTES_PER_VALUE[precision]
    head_params = model.vocab_size * model.hidden_size
    moe = model.num_moe_layers
    per_expert = moe * (3 if model.gated_mlp else 2) * (model.hidden_size
                                                        * model.expert_intermediate_size)
    routed = per_expert * model.experts_per_token
    body_params = model.active_params - head_params
    layers = model.kv_layers or model.num_layers
    heads = tensor_share(model.num_heads, tensor) * model.num_heads
    value_dim = model.v_head_dim or model.head_dim
    pair_flops = 2.0 * layers * heads * (model.head_dim + value_dim)
    # With a latent cache, decodes attend in the latent space: keys of the whole cached width and
    # values of it without the rotary part.
    latent = model.kv_latent_size
    decode_pair_flops = (2.0 * layers * heads * (2 * latent - model.rope_head_dim)
                         if latent else pair_flops)
    experts = model.num_experts if moe else 0
    return StepWork(
        weight_bytes=((body_params - routed) * width + head_params * max(width, 2.0)) / tensor,
        expert_bytes=per_expert * width / tensor, num_experts=experts,
        idle_expert_share=1.0 - model.experts_per_token / experts if experts else 1.0,
        body_flops=2.0 * (body_params - routed) / tensor,
        expert_flops=2.0 * routed / tensor, head_flops=2.0 * head_params / tensor,
        pair_flops=pair_flops, decode_pair_flops=decode_pair_flops,
        context_bytes=(model.kv_bytes_per_token(kv_precision) * kv_tensor_share(model, tensor)))


def _elementwise_bytes_per_token(model: ModelSpec, tensor: int) -> float:
    """Memory traffic of norms, residual adds, rotary embedding and the activation function."""
    width = model.expert_intermediate_size * model.experts_per_token \
        + model.shared_intermediate_size
    moe = model.num_moe_layers
    mlp = moe * width + (model.num_layers - moe) * model.intermediate_size
    # Values moved per layer: two norms read and write (4 h), two adds (6 h); the activation reads
    # gate and up and writes one (3 f); queries and keys are read and written once. A mixture
    # writes and reads each token once per expert.
    heads = 2 * (ceil_div(model.num_heads, tensor) + ceil_div(model.num_kv_heads, tensor))
    attention = heads * model.head_dim
    spread = 2 * moe * model.experts_per_token * model.hidden_size
    values = model.num_layers * (10 * model.hidden_size + attention) + 3 * mlp / tensor + spread
    return float(values * _ACTIVATION_BYTES)


def _num_gemms(model: ModelSpec) -> int:
    """Launches of dense GEMMs: four a layer; a mixture has a router in place of two."""
    moe = model.num_moe_layers
    extra = -1 + (2 if model.shared_intermediate_size else 0)
    latent = 2 if model.kv_latent_size else 0
    return model.num_layers * (4 + latent) + moe * extra + 1


def _evidence(rates: Efficiency, accelerator: Accelerator, parallelism: Parallelism, *,
              mixture: bool) -> Evidence:
    source, largest = f"roofline; {rates.source}", _LARGEST
    if parallelism.tensor > accelerator.max_per_node:
        # No figures for links between nodes: every answer is outside what was measured.
        source += "; all-reduce across nodes taken at the rate within one"
        largest = StepFeatures(-1, -1.0, -1, -1)
    mean, p95 = rates.mean_error, rates.p95_error
    if mixture:
        mean, p95 = max(mean, rates.expert_mean_error), max(p95, rates.expert_p95_error)
    return Evidence(source, mean, p95, largest)
