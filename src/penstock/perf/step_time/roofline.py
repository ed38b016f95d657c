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

from dataclasses import dataclass

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
from penstock.perf.step_time.work import (
    PeakRates,
    StepWork,
    bound_seconds,
    elementwise_bytes_per_token,
    step_work,
)

# Scheduling, sampling and launch on the host: 2-3 ms in vLLM before asynchronous scheduling.
HOST_OVERHEAD_S = 0.002
# A transfer between stages: latency of one point-to-point message.
SEND_S = 10e-6
_ACTIVATION_BYTES = 2
# Two norms, the rotary embedding, the activation function and a residual add.
ELEMENTWISE_PER_LAYER = 5
# Kernel tables cover up to 65,536 rows (GEMM) and 16,384-token prompts (attention).
_LARGEST = StepFeatures(16_384, 16_384.0**2, 1_024, 4_000_000)


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
    expert_sharpness: float = 1.0

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
            read_s = self.all_experts_s * (1.0 - self.idle_expert_share**tokens)
            multiply_s, q = self.expert_token_s * tokens, self.expert_sharpness
            dense_s += (read_s + multiply_s if q == 1.0
                        else (read_s**q + multiply_s**q) ** (1.0 / q))
        return dense_s

    def bound_seconds(self, features: StepFeatures) -> float:
        """No step can be faster: operations over peak rate, or bytes over peak bandwidth.

        Bytes are the weights touched and the keys and values that decodes read.
        """
        return bound_seconds(self.work, self.peak, features)

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
    tensor, data, layers = parallelism.tensor, parallelism.data, model.num_layers
    hidden_bytes = model.hidden_size * _ACTIVATION_BYTES
    reduce_step_s, reduce_token_s = _reductions(rates, model, parallelism)
    sends = parallelism.pipeline - 1
    heads = tensor_share(model.num_heads, tensor) * model.num_heads
    attention_layers = model.cached_layers
    return RooflineStepTime(
        weight_s=work.weight_bytes / rates.gemm_bandwidth,
        all_experts_s=work.num_experts * work.expert_bytes / rates.expert_bandwidth,
        expert_token_s=work.expert_flops / rates.expert_flops,
        idle_expert_share=work.idle_expert_share,
        body_token_s=work.body_flops / rates.gemm_flops,
        head_token_s=work.head_flops / rates.head_flops,
        sharpness=rates.knee,
        token_s=elementwise_bytes_per_token(model, tensor) / data / rates.gemm_bandwidth,
        communication_token_s=reduce_token_s + sends * hidden_bytes / rates.link_bytes_per_s,
        decode_seq_s=(rates.seq_head_s * heads * attention_layers / data
                      + work.state_bytes / rates.decode_bandwidth),
        work_s=work.pair_flops / rates.prefill_flops,
        context_s=max(work.context_bytes / rates.decode_bandwidth,
                      work.decode_pair_flops / rates.prefill_flops),
        step_s=(_num_gemms(model) * rates.gemm_kernel_s
                + ELEMENTWISE_PER_LAYER * layers * rates.elementwise_kernel_s
                + model.num_moe_layers * rates.expert_kernel_s),
        communication_step_s=reduce_step_s + sends * SEND_S,
        prefill_step_s=attention_layers * rates.prefill_kernel_s,
        decode_step_s=attention_layers * rates.decode_kernel_s,
        host_s=host_overhead_s, work=work, peak=peak,
        evidence=_evidence(rates, accelerator, parallelism, mixture=model.num_moe_layers > 0))


def _reductions(rates: Efficiency, model: ModelSpec,
                parallelism: Parallelism) -> tuple[float, float]:
    """Return the seconds of all reductions among ranks, per step and per token.

    Tensor ranks reduce twice a layer, after attention and after the feed-forward. With
    data-parallel attention the second is among all ranks, which gather the tokens before the
    experts and scatter the sums after them: as many bytes as a reduction of all tokens.
    """
    tensor, data, layers = parallelism.tensor, parallelism.data, model.num_layers
    hidden_bytes = model.hidden_size * _ACTIVATION_BYTES
    step_s = byte_s = 0.0
    for ranks, share in ((tensor, 1.0 / data), (tensor * data, 1.0)):
        if ranks > 1:
            base_s, each_s = rates.all_reduce_time(ranks)
            step_s += layers * base_s
            byte_s += layers * each_s * share
    return step_s, byte_s * hidden_bytes


def _num_gemms(model: ModelSpec) -> int:
    """Launches of dense GEMMs: four a layer; a mixture has a router in place of two."""
    moe = model.num_moe_layers
    extra = -1 + (2 if model.shared_intermediate_size else 0)
    latent = 2 if model.kv_latent_size else 0
    return model.num_layers * (4 + latent) + moe * extra + 1


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
