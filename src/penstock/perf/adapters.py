"""Sizes of adapters (LoRA) and how long a step waits for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.units import ceil_div

WIDTH_BYTES = 2.0
"""Engines keep adapters in 16 bits, whatever the precision of the model's weights is."""


class Target(NamedTuple):
    """A matrix of the model that adapters change, in ``num_layers`` layers. Ranks split its output
    where it is ``by_columns``, else its input."""

    num_layers: int
    inputs: int
    outputs: int
    by_columns: bool = True


def targets(model: ModelSpec) -> Iterator[Target]:
    """Yield all linear matrices of the layers, but those of routed experts, to which adapters of
    mixtures rarely apply."""
    hidden, linear = model.hidden_size, model.linear_layers
    full = model.num_layers - linear
    yield from _attention(model, full)
    if linear:
        keys = model.linear_key_heads * model.linear_head_dim
        values = model.linear_value_heads * model.linear_head_dim
        yield Target(linear, hidden, 2 * keys + 2 * values + 2 * model.linear_value_heads)
        yield Target(linear, values, hidden, by_columns=False)
    for layers, width in ((model.num_layers - model.num_moe_layers, model.intermediate_size),
                          (model.num_moe_layers, model.shared_intermediate_size)):
        if layers and width:
            for _ in range(2 if model.gated_mlp else 1):
                yield Target(layers, hidden, width)
            yield Target(layers, width, hidden, by_columns=False)


def _attention(model: ModelSpec, layers: int) -> Iterator[Target]:
    hidden, width = model.hidden_size, model.num_heads * model.head_dim
    if not model.kv_latent_size:
        kv_width = model.num_kv_heads * model.head_dim
        yield Target(layers, hidden, (2 if model.gated_attention else 1) * width)
        yield Target(layers, hidden, kv_width)
        yield Target(layers, hidden, kv_width)
        yield Target(layers, width, hidden, by_columns=False)
        return
    # Latent attention (arXiv 2405.04434, section 2.1), as in ``ModelSpec``.
    value_dim = model.v_head_dim or model.head_dim
    latent = model.kv_latent_size - model.rope_head_dim
    if model.q_latent_size:
        yield Target(layers, hidden, model.q_latent_size)
        yield Target(layers, model.q_latent_size, width)
    else:
        yield Target(layers, hidden, width)
    yield Target(layers, hidden, model.kv_latent_size)
    yield Target(layers, latent,
                 model.num_heads * (model.head_dim - model.rope_head_dim + value_dim))
    yield Target(layers, model.num_heads * value_dim, hidden, by_columns=False)


def adapter_bytes(model: ModelSpec, rank: int) -> float:
    """Return the bytes of an adapter: rank * (inputs + outputs) values of each matrix."""
    return WIDTH_BYTES * rank * sum(one.num_layers * (one.inputs + one.outputs)
                                    for one in targets(model))


def adapter_bytes_per_accelerator(model: ModelSpec, parallelism: Parallelism, rank: int) -> float:
    """Return the bytes of an adapter on the fullest accelerator. As in vLLM without fully sharded
    LoRA, ranks split the half that the matrix's own split reaches, and copy the other."""
    tensor = parallelism.tensor
    values = sum(one.num_layers * (one.inputs + one.outputs / tensor if one.by_columns
                                   else one.inputs / tensor + one.outputs)
                 for one in targets(model))
    stage = ceil_div(model.num_layers, parallelism.pipeline) / model.num_layers
    return WIDTH_BYTES * rank * values * stage


@dataclass(frozen=True, slots=True)
class AdapterTimes:
    """Times of an adapter, seconds: from disk to host memory, from there to the device, and to read
    its weights once a step."""

    fetch_s: float
    copy_s: float
    read_s: float


def adapter_times(model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism, rank: int,
                  disk_bytes_per_s: float, copy_bytes_per_s: float | None = None) -> AdapterTimes:
    """Return the times of an adapter. Every accelerator copies its part over its own link, at the
    rate of the catalog where none is stated."""
    each = adapter_bytes_per_accelerator(model, parallelism, rank)
    return AdapterTimes(adapter_bytes(model, rank) / disk_bytes_per_s,
                        each / (copy_bytes_per_s or accelerator.pcie_bytes_per_s),
                        each / accelerator.bandwidth_bytes_per_s)
