"""How much of an accelerator's memory is left for keys and values."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import BYTES_PER_VALUE, ModelSpec
from penstock.core.units import GIB, ceil_div

# Activations, CUDA context and graphs, communication buffers: AIConfigurator reserves 3.5 GiB
# (its system files, "other_mem"). Engines that we know of take between 1 and 6 GiB.
OVERHEAD_BYTES = int(3.5 * GIB)
OVERHEAD_RANGE_BYTES = (1 * GIB, 6 * GIB)
ONE_ACCELERATOR = Parallelism()


@dataclass(frozen=True, slots=True)
class KvBudget:
    """Tokens whose keys and values fit into one replica, with the interval that overhead leaves.

    ``parts`` are bytes on the fullest accelerator: usable, weights, overhead, kv_cache.
    """

    tokens: int
    blocks: int
    block_tokens: int
    low_tokens: int
    high_tokens: int
    parts: dict[str, float]
    source: str


def tensor_share(num_heads: int, tensor: int) -> float:
    """Part of ``num_heads`` that one of ``tensor`` ranks holds; a head is copied, never split."""
    return ceil_div(num_heads, tensor) / num_heads


def kv_tensor_share(model: ModelSpec, tensor: int) -> float:
    """Part of a token's keys and values on one rank; a latent cache is copied to every rank."""
    return 1.0 if model.kv_latent_size else tensor_share(model.num_kv_heads, tensor)


def weight_bytes_per_accelerator(model: ModelSpec, parallelism: Parallelism,
                                 precision: str) -> float:
    """Weights on the fullest accelerator: the stage with most layers and an embedding."""
    check_precision(precision)
    pipeline, tensor = parallelism.pipeline, parallelism.tensor
    width = BYTES_PER_VALUE[precision]
    embeddings = model.embedding_params * max(width, 2.0)
    routed = model.routed_params * width
    body = model.weight_bytes(precision) - embeddings - routed + routed / parallelism.data
    stage_layers = ceil_div(model.num_layers, pipeline)
    # The first and the last stage each hold one of the two embedding matrices.
    embedding_share = 1.0 if pipeline == 1 or model.tied_embeddings else 0.5
    return (body * stage_layers / model.num_layers + embeddings * embedding_share) / tensor


def kv_capacity_tokens(
    model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism = ONE_ACCELERATOR,
    precision: str = "bf16", kv_precision: str = "bf16", *, memory_fraction: float = 0.9,
    overhead_bytes: int | None = None, block_tokens: int = 16, adapter_bytes: float = 0.0,
) -> KvBudget:
    """The KV cache of one replica, in tokens and in blocks of ``block_tokens``, over all ranks of
    data-parallel attention.

    ``memory_fraction`` is the part of the accelerator's memory that the engine may use (vLLM's
    ``gpu_memory_utilization``), of which places for adapters take ``adapter_bytes``. Raises
    InputError when not a single block fits.
    """
    check_precision(kv_precision)
    if not 0.0 < memory_fraction <= 1.0:
        raise InputError(f"memory_fraction: {memory_fraction:g}; expected more than 0, at most 1")
    usable = accelerator.memory_bytes * memory_fraction
    weights = weight_bytes_per_accelerator(model, parallelism, precision)
    overhead = OVERHEAD_BYTES if overhead_bytes is None else overhead_bytes
    per_token = kv_bytes_per_accelerator(model, parallelism, kv_precision)

    def blocks(reserved: float) -> int:
        left = usable - weights - adapter_bytes - reserved
        return max(0, int(left / (per_token * block_tokens)))

    num_blocks = blocks(overhead)
    if num_blocks < 1:
        shortfall = weights + adapter_bytes + overhead + per_token * block_tokens - usable
        raise InputError(_does_not_fit(model, accelerator, parallelism, precision, kv_precision,
                                       memory_fraction, overhead + round(adapter_bytes),
                                       block_tokens, shortfall)
                         + (f"; places for adapters take {adapter_bytes / GIB:.1f} GiB"
                            if adapter_bytes else ""))
    ranks = parallelism.data
    least, most = OVERHEAD_RANGE_BYTES if overhead_bytes is None else (overhead, overhead)
    return KvBudget(
        tokens=num_blocks * block_tokens * ranks, blocks=num_blocks * ranks,
        block_tokens=block_tokens, low_tokens=blocks(most) * block_tokens * ranks,
        high_tokens=blocks(least) * block_tokens * ranks,
        parts={"usable": usable, "weights": weights, "overhead": float(overhead),
               **({"adapters": adapter_bytes} if adapter_bytes else {}),
               "kv_cache": num_blocks * block_tokens * per_token},
        source="memory left by weights and a fixed overhead; overhead "
               + ("of 3.5 GiB assumed, 1 to 6 GiB as interval" if overhead_bytes is None
                  else "as given"))


def kv_bytes_per_accelerator(model: ModelSpec, parallelism: Parallelism,
                             kv_precision: str) -> float:
    """Bytes that one token takes on an accelerator of the stage with most layers."""
    stage_share = ceil_div(model.num_layers, parallelism.pipeline) / model.num_layers
    return (model.kv_bytes_per_token(kv_precision) * stage_share
            * kv_tensor_share(model, parallelism.tensor))


def check_precision(precision: str) -> None:
    """Raise InputError when the number format is unknown."""
    if precision not in BYTES_PER_VALUE:
        hint = nearest(precision, BYTES_PER_VALUE)
        raise InputError(f"precision: {precision!r} is unknown{hint}")


def _does_not_fit(model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism,
                  precision: str, kv_precision: str, memory_fraction: float, overhead: int,
                  block_tokens: int, shortfall: float) -> str:
    usable = accelerator.memory_bytes * memory_fraction
    fitting: dict[str, str] = {}
    for what, wider, width in _alternatives(parallelism, accelerator, precision):
        weights = weight_bytes_per_accelerator(model, wider, width)
        cache = kv_bytes_per_accelerator(model, wider, kv_precision) * block_tokens
        if weights + overhead + cache <= usable:
            fitting.setdefault(what.split()[0], what)
    advice = f"; {' or '.join(fitting.values())} would fit" if fitting else \
        "; no tensor parallelism within a node or lower precision would fit"
    degree = f"tensor {parallelism.tensor}" + (
        f", pipeline {parallelism.pipeline}" if parallelism.pipeline > 1 else "") + (
        f", data {parallelism.data}" if parallelism.data > 1 else "")
    return (f"model does not fit: {model.name} in {precision} on {accelerator.name} ({degree}) "
            f"lacks {shortfall / GIB:.1f} GiB per accelerator{advice}")


def _alternatives(parallelism: Parallelism, accelerator: Accelerator,
                  precision: str) -> Iterator[tuple[str, Parallelism, str]]:
    """More ranks first (smallest first), then the nearest lower precisions."""
    tensor = parallelism.tensor * 2
    while tensor <= accelerator.max_per_node:
        yield f"tensor {tensor}", replace(parallelism, tensor=tensor), precision
        tensor *= 2
    for lower in ("bf16", "fp8", "int8", "fp4", "int4"):
        if BYTES_PER_VALUE[lower] < BYTES_PER_VALUE[precision]:
            yield f"precision {lower}", parallelism, lower
