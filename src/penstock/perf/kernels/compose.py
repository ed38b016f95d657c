"""The step time of a whole model as the sum of its measured kernels.

One step costs, in seconds,

    layers x (qkv, out projection, gate and up, down)   GEMMs by the step's tokens
    + layers x two all-reduces                          by tokens, under tensor parallelism
    + sends between stages                              under pipeline parallelism
    + head                                              GEMM by sampled tokens
    + layers x attention of prompts                     by prompt tokens and pairs
    + layers x attention of decodes                     by sequences and context tokens
    + norms, activations, rotary embedding, host        not in the tables: as in the roofline

A mixture's layers have a router, shared experts and a ``moe`` row in place of gate, up and down.
Under tensor parallelism each rank holds its share of heads and columns, rounded up. Every kernel's
time is at least its physical bound and kernels add up, so the sum is at least the step's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.step import StepFeatures, StepTime
from penstock.core.units import ceil_div
from penstock.perf.evidence import Evidence
from penstock.perf.kernels.attention import decode_plane, prefill_plane
from penstock.perf.kernels.curves import NOTHING, BatchPlane, Curve, Plane, total_curve
from penstock.perf.kernels.dense import all_reduce_curve, gemm_curve, moe_curve
from penstock.perf.kernels.tables import KernelTables
from penstock.perf.memory import ONE_ACCELERATOR, check_precision
from penstock.perf.step_time.efficiency import efficiency_for
from penstock.perf.step_time.protocol import Slopes
from penstock.perf.step_time.roofline import ELEMENTWISE_PER_LAYER, HOST_OVERHEAD_S, SEND_S
from penstock.perf.step_time.work import (
    PeakRates,
    StepWork,
    bound_seconds,
    elementwise_bytes_per_token,
    peak_rates,
    step_work,
)

# Against Vidur's profiles of dense layers, which others took with other software: the larger of
# A100 and H100, see docs/reproduction.md. Interpolation alone is off by 1 to 3 % of a step.
MEAN_ERROR = 0.15
P95_ERROR = 0.29
_ACTIVATION_BYTES = 2


@dataclass(frozen=True, slots=True)
class KernelStepTime:
    """Seconds of a step from curves and planes; build one with ``kernel_step_time``.

    ``matrices``, ``elementwise`` and ``communication`` go by the step's tokens, ``body`` is their
    sum; ``head`` goes by sampled tokens. Attention covers all layers. ``work`` and ``peak`` give
    the physical bound.
    """

    body: Curve
    matrices: Curve
    elementwise: Curve
    communication: Curve
    head: Curve
    prefill: Plane
    decode: BatchPlane
    host_s: float
    work: StepWork
    peak: PeakRates
    evidence: Evidence

    @property
    def slopes(self) -> Slopes | None:
        """None: measured attention is not affine in what it reads. ``compact`` fits one that is."""
        return None

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        total_s = self.host_s + self.body.at(prefill_tokens + decode_seqs)
        sampled = decode_seqs
        if prefill_tokens:
            sampled += 1
            total_s += self.prefill.at(prefill_tokens, attention_work)
        if decode_seqs:
            total_s += self.decode.at(decode_seqs, context_tokens)
        return total_s + self.head.at(sampled)

    def bound_seconds(self, features: StepFeatures) -> float:
        """No step can be faster: operations over peak rate, or bytes over peak bandwidth."""
        return bound_seconds(self.work, self.peak, features)

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with interval and parts; ``source`` says where it left the tables."""
        prefill, attention, decodes, context = features
        tokens = prefill + decodes
        parts = {
            "dense": (self.matrices.at(tokens) + self.elementwise.at(tokens)
                      + self.head.at(decodes + 1 if prefill else decodes)),
            "prefill_attention": self.prefill.at(prefill, attention) if prefill else 0.0,
            "decode_attention": self.decode.at(decodes, context) if decodes else 0.0,
            "communication": self.communication.at(tokens),
            "overhead": self.host_s,
        }
        return self.evidence.step_time(features, self.seconds(*features), parts,
                                       self.bound_seconds(features),
                                       ", ".join(self.left_tables(features)))

    def left_tables(self, features: StepFeatures) -> Iterator[str]:
        """Return the kernels that the step takes beyond their measured range."""
        prefill, attention, decodes, context = features
        for name, curve in (("GEMM", self.matrices), ("all-reduce", self.communication)):
            if curve is not NOTHING and not curve.covers(prefill + decodes):
                yield f"{name} at {prefill + decodes:,} tokens"
        if prefill and not self.prefill.covers(prefill, attention):
            yield f"prompt attention at {prefill:,} tokens and {attention:,.0f} pairs"
        if decodes and not self.decode.covers(decodes, context):
            yield f"decode attention at {decodes:,} sequences and {context:,} context tokens"


def kernel_step_time(
    tables: KernelTables, model: ModelSpec, accelerator: Accelerator,
    parallelism: Parallelism = ONE_ACCELERATOR, precision: str = "bf16",
    kv_precision: str = "bf16", *, host_overhead_s: float = HOST_OVERHEAD_S,
) -> KernelStepTime:
    """Compose ``model`` on ``parallelism.num_accelerators`` GPUs of the tables' system.

    ``accelerator`` gives the peaks of the physical bound. Raises InputError for a precision, a
    number of ranks, a head size or a mixture's shape that the tables do not have.
    """
    check_precision(precision)
    check_precision(kv_precision)
    if model.kv_latent_size:
        raise InputError(f"{model.name}: multi-head latent attention cannot be composed from these "
                         "tables; use the roofline")
    if parallelism.data > 1:
        raise InputError("data-parallel attention cannot be composed from these tables; use the "
                         "roofline")
    if model.linear_layers:
        raise InputError(f"{model.name}: linear attention cannot be composed from these tables; "
                         "use the roofline")
    tensor = parallelism.tensor
    matrices, notes = layer_matrices(tables, model, tensor, precision, accelerator)
    head, more = gemm_curve(tables, ceil_div(model.vocab_size, tensor), model.hidden_size, "bf16",
                            accelerator)
    notes += more
    layers = model.cached_layers
    heads = ceil_div(model.num_heads, tensor)
    kv_heads = ceil_div(model.num_kv_heads, tensor)
    prefill, more = prefill_plane(tables, heads, kv_heads, model.head_dim, kv_precision,
                                  accelerator)
    notes += more
    decode, more = decode_plane(tables, heads, kv_heads, model.head_dim, kv_precision, accelerator)
    notes += more
    communication = _communication(tables, model, parallelism, accelerator)
    elementwise = elementwise_curve(model, tensor, precision, kv_precision, accelerator)
    work = step_work(model, parallelism, precision, kv_precision)
    if work.num_experts:
        # Skewed routing touches fewer experts than even routing: certain are only a token's own.
        work = replace(work, num_experts=model.experts_per_token, idle_expert_share=0.0)
    peak = peak_rates(accelerator, precision)
    source = "; ".join(dict.fromkeys((f"composed from {tables.source}", *notes)))
    return KernelStepTime(
        body=total_curve((matrices, elementwise, communication)), matrices=matrices,
        elementwise=elementwise, communication=communication, head=head,
        prefill=prefill.times(layers), decode=decode.times(layers), host_s=host_overhead_s,
        work=work, peak=peak, evidence=Evidence(source, MEAN_ERROR, P95_ERROR))


def layer_matrices(tables: KernelTables, model: ModelSpec, tensor: int, precision: str,
                   accelerator: Accelerator) -> tuple[Curve, tuple[str, ...]]:
    """All GEMMs of the layers, and their experts, by tokens."""
    hidden, moe = model.hidden_size, model.num_moe_layers
    heads = ceil_div(model.num_heads, tensor) * model.head_dim
    key_values = 2 * ceil_div(model.num_kv_heads, tensor) * model.head_dim
    shapes = [(model.num_layers, heads + key_values, hidden), (model.num_layers, hidden, heads)]
    for layers, width in ((model.num_layers - moe, model.intermediate_size),
                          (moe, model.shared_intermediate_size)):
        if layers and width:
            inner = ceil_div(width, tensor)
            shapes += [(layers, (2 if model.gated_mlp else 1) * inner, hidden),
                       (layers, hidden, inner)]
    if moe:
        shapes.append((moe, model.num_experts, hidden))
    curves: list[Curve] = []
    notes: tuple[str, ...] = ()
    for layers, n, k in shapes:
        curve, more = gemm_curve(tables, n, k, precision, accelerator)
        curves.append(curve.times(layers))
        notes += more
    if moe:
        curve, more = moe_curve(tables, hidden, model.expert_intermediate_size, model.num_experts,
                                model.experts_per_token, tensor, precision, accelerator)
        curves.append(curve.times(moe))
        notes += more
    return total_curve(curves), notes


def elementwise_curve(model: ModelSpec, tensor: int, precision: str, kv_precision: str,
                      accelerator: Accelerator) -> Curve:
    """Norms, adds, activation, rotary and token embedding: bytes moved and kernels launched."""
    rates = efficiency_for(accelerator, precision, kv_precision)
    kernels = ELEMENTWISE_PER_LAYER * model.num_layers + 1
    num_bytes = elementwise_bytes_per_token(model, tensor) + 2 * model.hidden_size * 2
    return Curve((0.0,), (kernels * rates.elementwise_kernel_s,), num_bytes / rates.gemm_bandwidth)


def _communication(tables: KernelTables, model: ModelSpec, parallelism: Parallelism,
                   accelerator: Accelerator) -> Curve:
    """Two all-reduces a layer over the tensor ranks; a send between neighbouring stages."""
    curves: list[Curve] = []
    if parallelism.tensor > 1:
        reduce = all_reduce_curve(tables, parallelism.tensor, accelerator)
        curves.append(reduce.times(2 * model.num_layers, unit=model.hidden_size))
    if parallelism.pipeline > 1:
        sends = parallelism.pipeline - 1
        link = accelerator.link_bytes_per_s or accelerator.pcie_bytes_per_s
        curves.append(Curve((0.0,), (sends * SEND_S,),
                            sends * model.hidden_size * _ACTIVATION_BYTES / link))
    return total_curve(curves)
