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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ATTENTION_OUT, MLP, QKV, ROUTER, SHARED_EXPERTS, ModelSpec
from penstock.core.step import StepFeatures, StepTime
from penstock.core.units import ceil_div
from penstock.perf.evidence import Evidence
from penstock.perf.kernels.attention import decode_plane, prefill_plane
from penstock.perf.kernels.curves import NOTHING, BatchPlane, Curve, Plane, total_curve
from penstock.perf.kernels.dense import (
    all_reduce_curve,
    all_reduce_rows,
    gemm_curve,
    moe_curve,
)
from penstock.perf.kernels.tables import KernelTables
from penstock.perf.memory import ONE_ACCELERATOR, check_precision
from penstock.perf.step_time.breakdown import DECODES, EMBEDDING, EXPERTS, HEAD, NORMS, PROMPTS
from penstock.perf.step_time.efficiency import efficiency_for
from penstock.perf.step_time.protocol import Slopes
from penstock.perf.step_time.roofline import (
    ELEMENTWISE_PER_LAYER,
    HOST_OVERHEAD_S,
    REDUCE,
    SENDS,
    Transfer,
    sends,
)
from penstock.perf.step_time.terms import reduced_bytes
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

class Kernel(NamedTuple):
    """Calls of a step for one purpose: seconds by tokens, and where in which table they are."""

    name: str
    calls: int
    curve: Curve
    source: str


@dataclass(frozen=True, slots=True)
class KernelStepTime:
    """Seconds of a step from curves and planes; build one with ``kernel_step_time``.

    ``matrices``, ``elementwise`` and ``communication`` go by the step's tokens, ``body`` is their
    sum, and ``kernels`` are its summands; ``head`` goes by sampled tokens. Attention covers all
    layers. ``work`` and ``peak`` give the physical bound; ``even_work`` is the work where tokens
    spread evenly over experts. ``sources`` has the tables of ``head``
    and attention, by purpose.
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
    kernels: tuple[Kernel, ...]
    transfers: tuple[Transfer, ...]
    even_work: StepWork
    embedding_bytes: float
    sources: Mapping[str, str]

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
    matrices, kernels, notes = layer_matrices(tables, model, tensor, precision, accelerator)
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
    messages, transfers = _communication(tables, model, parallelism, accelerator)
    communication = total_curve(one.curve for one in messages)
    elementwise, parts = elementwise_kernels(model, tensor, precision, kv_precision, accelerator)
    work = even_work = step_work(model, parallelism, precision, kv_precision)
    if work.num_experts:
        # Skewed routing touches fewer experts than even routing: certain are only a token's own.
        work = replace(work, num_experts=model.experts_per_token, idle_expert_share=0.0)
    peak = peak_rates(accelerator, precision)
    shape = f"{heads} heads over {kv_heads} of keys and values"
    sources = {HEAD: _rows_named(tables, "gemm", f"n {ceil_div(model.vocab_size, tensor)}, "
                                                 f"k {model.hidden_size}"),
               PROMPTS: _rows_named(tables, "context_attention", shape),
               DECODES: _rows_named(tables, "generation_attention", shape)}
    source = "; ".join(dict.fromkeys((f"composed from {tables.source}", *notes)))
    return KernelStepTime(
        body=total_curve((matrices, elementwise, communication)), matrices=matrices,
        elementwise=elementwise, communication=communication, head=head,
        prefill=prefill.times(layers), decode=decode.times(layers), host_s=host_overhead_s,
        work=work, peak=peak, evidence=Evidence(source, MEAN_ERROR, P95_ERROR),
        kernels=(*kernels, *parts, *messages), transfers=transfers, even_work=even_work,
        embedding_bytes=_embedding_bytes(model), sources=sources)


def _rows_named(tables: KernelTables, table: str, shape: str) -> str:
    """Return the file of a table, and which of its rows."""
    return f"{Path(tables.table(table).source).name}: {shape}"


def layer_matrices(tables: KernelTables, model: ModelSpec, tensor: int, precision: str,
                   accelerator: Accelerator
                   ) -> tuple[Curve, tuple[Kernel, ...], tuple[str, ...]]:
    """All GEMMs of the layers, and their experts, by tokens: their sum, its summands, and notes."""
    hidden, moe = model.hidden_size, model.num_moe_layers
    heads = ceil_div(model.num_heads, tensor) * model.head_dim
    key_values = 2 * ceil_div(model.num_kv_heads, tensor) * model.head_dim
    shapes = [(QKV, model.num_layers, heads + key_values, hidden),
              (ATTENTION_OUT, model.num_layers, hidden, heads)]
    for name, layers, width in (
            (MLP, model.num_layers - moe, model.intermediate_size),
            (SHARED_EXPERTS, moe, model.shared_intermediate_size)):
        if layers and width:
            inner = ceil_div(width, tensor)
            shapes += [(name, layers, (2 if model.gated_mlp else 1) * inner, hidden),
                       (name, layers, hidden, inner)]
    if moe:
        shapes.append((ROUTER, moe, model.num_experts, hidden))
    kernels: list[Kernel] = []
    notes: tuple[str, ...] = ()
    for name, layers, n, k in shapes:
        curve, more = gemm_curve(tables, n, k, precision, accelerator)
        kernels.append(Kernel(name, layers, curve.times(layers),
                              _rows_named(tables, "gemm", f"n {n}, k {k}")))
        notes += more
    if moe:
        width, experts, active = (model.expert_intermediate_size, model.num_experts,
                                  model.experts_per_token)
        curve, more = moe_curve(tables, hidden, width, experts, active, tensor, precision,
                                accelerator)
        kernels.append(Kernel(EXPERTS, moe, curve.times(moe), _rows_named(
            tables, "moe", f"{active} of {experts} experts of {hidden} x {width}")))
        notes += more
    return total_curve(one.curve for one in kernels), tuple(kernels), notes


def elementwise_kernels(model: ModelSpec, tensor: int, precision: str, kv_precision: str,
                        accelerator: Accelerator) -> tuple[Curve, tuple[Kernel, Kernel]]:
    """Norms, adds, activation, rotary and token embedding: bytes moved and kernels launched.

    Returns the sum, and its summands.
    """
    rates = efficiency_for(accelerator, precision, kv_precision)
    in_layers = ELEMENTWISE_PER_LAYER * model.num_layers
    layer_bytes, row_bytes = elementwise_bytes_per_token(model, tensor), _embedding_bytes(model)

    def moved(kernels: int, num_bytes: float) -> Curve:
        return Curve((0.0,), (kernels * rates.elementwise_kernel_s,),
                     num_bytes / rates.gemm_bandwidth)

    return moved(in_layers + 1, layer_bytes + row_bytes), (
        Kernel(NORMS, in_layers, moved(in_layers, layer_bytes), rates.source),
        Kernel(EMBEDDING, 1, moved(1, row_bytes), rates.source))


def _embedding_bytes(model: ModelSpec) -> float:
    """Bytes of a token's row of the embedding, in 16 bits: read and written."""
    return 2.0 * model.hidden_size * 2.0


def _communication(tables: KernelTables, model: ModelSpec, parallelism: Parallelism,
                   accelerator: Accelerator
                   ) -> tuple[tuple[Kernel, ...], tuple[Transfer, ...]]:
    """Two all-reduces a layer over the tensor ranks; a send between neighbouring stages."""
    kernels: list[Kernel] = []
    transfers: list[Transfer] = []
    if parallelism.tensor > 1:
        ranks = parallelism.tensor
        curve = all_reduce_curve(tables, ranks, accelerator).times(2 * model.num_layers,
                                                                   unit=model.hidden_size)
        file = Path(all_reduce_rows(tables, ranks).source).name
        kernels.append(Kernel(REDUCE, 2 * model.num_layers, curve, f"{file}: {ranks} ranks"))
        transfers.append(Transfer(REDUCE, curve.seconds[0], curve.beyond_s, reduced_bytes(model),
                                  (ranks - 1) / ranks))
    if parallelism.pipeline > 1:
        link = accelerator.link_bytes_per_s or accelerator.pcie_bytes_per_s
        between = sends(model, parallelism, link)
        kernels.append(Kernel(SENDS, parallelism.pipeline - 1, Curve(
            (0.0,), (between.step_s,), between.token_s), "datasheet of the link"))
        transfers.append(between)
    return tuple(kernels), tuple(transfers)
