"""Terms of a run's latency, in units of the hardware's peaks, with usual weights.

A decode token costs, layer by layer, reading the weights of a rank (bytes / bandwidth), starting
kernels, and, beyond one rank, two all-reduces; then the head, and what is done once per token and
per stage. A weight of 1.1 on reading means that 91 % of the bandwidth is reached. What was measured
moves the weights; where it says nothing they stay what is usual. Times here are in milliseconds.

All-reduce: two per layer, of one 16-bit vector of the hidden size. At that size it is waiting, not
bandwidth, that costs; how much is known per number of ranks only, so that each of 2, 4, 8 and 16
has weights of its own, those in between lie between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator
from penstock.core.model import BYTES_PER_VALUE, ModelSpec
from penstock.core.units import GIB

PRECISIONS: dict[str, int] = {"fp32": 0, "fp16": 0, "bf16": 0, "fp8": 1, "int8": 1, "int4": 2,
                              "fp4": 2, "int4_gptq": 3}
"""Number formats of weights by the kernels that read them: 16 bits, 8, 4, and 4 in groups."""

_NUM_KINDS = 4
_RANKS = (2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a time: its name, and the weight that it usually has."""

    name: str
    usual: float


@dataclass(frozen=True, slots=True)
class Subject:
    """A model on an accelerator, as far as terms need it. Sizes are in units of the terms."""

    model: ModelSpec
    accelerator: Accelerator

    @property
    def layer_params(self) -> float:
        """Weights of one layer, averaged over layers."""
        return (self.model.num_params - self.model.embedding_params) / self.model.num_layers

    def layers_params(self, num_layers: int, *, first: bool = False) -> float:
        """Weights of so many layers, the last ones or the first: of a mixture whose first layers
        are dense, those are other ones."""
        model, lead = self.model, self.model.leading_dense_layers
        if not lead:
            return num_layers * self.layer_params
        dense = replace(model, num_layers=1, num_dense_layers=1)
        dense_params = dense.num_params - dense.embedding_params
        num_dense = min(lead, num_layers) if first else max(0, num_layers - model.num_moe_layers)
        with_experts = (self.layer_params * model.num_layers
                        - lead * dense_params) / model.num_moe_layers
        return num_dense * dense_params + (num_layers - num_dense) * with_experts

    def read_params(self, batch: int = 1) -> float:
        """Weights of one layer that a step of so many tokens reads, averaged over layers: all of a
        dense one; of a mixture the experts that at least one token is sent to, if each token's are
        drawn evenly."""
        model = self.model
        if not model.num_experts:
            return self.layer_params
        idle = 1.0 - model.experts_per_token / model.num_experts
        share = (idle - idle**batch) / idle if idle else 0.0
        return self.token_params + share * (self.layer_params - self.token_params)

    @property
    def token_params(self) -> float:
        """Weights of one layer that multiply a token, averaged over layers."""
        model = self.model
        return (model.active_params - model.vocab_size * model.hidden_size) / model.num_layers

    def read_ms(self, num_bytes: float) -> float:
        """Reading at the accelerator's full bandwidth."""
        return 1e3 * num_bytes / self.accelerator.bandwidth_bytes_per_s

    def compute_ms(self, operations: float) -> float:
        """Computing at its full rate in 16 bits: low-precision weights are widened first."""
        return 1e3 * operations / self.accelerator.flops("fp16")

    @property
    def prompt_tokens_per_s(self) -> float:
        """Prompt tokens that one layer takes in a second at its full rate in 16 bits."""
        return self.accelerator.flops("fp16") / (2.0 * self.token_params)

    @property
    def layer_kv_bytes(self) -> float:
        """Keys and values of one token in one layer, 16 bits."""
        return self.model.kv_bytes_per_token("fp16") / self.model.num_layers


DECODE = (
    *(Term(f"reading weights, {kind}", 1.1) for kind in ("16 bit", "8 bit", "4 bit", "gptq")),
    *(Term(f"kernels, {kind}", 0.12) for kind in ("16 bit", "8 bit", "4 bit", "gptq")),
    Term("attending to 100 tokens of prompt", 0.0025),
    Term("head", 1.2), Term("each token", 1.0), Term("each stage more", 0.05),
    Term("layers in one stage, one rank", 0.02), Term("layers in one stage, more ranks", 0.02),
    *(Term(f"all-reduce over {ranks}, by size", usual)
      for ranks, usual in zip(_RANKS, (0.05, 0.12, 0.4, 0.8), strict=True)),
    *(Term(f"all-reduce over {ranks}", 0.02) for ranks in _RANKS),
)
"""Terms of one more output token of a single request."""


def decode_terms(subject: Subject, configuration: Configuration,
                 prompt_tokens: float) -> list[float]:
    """The amounts of the terms in ``DECODE``: milliseconds at weight 1, or layers.

    Attention of a single request is as long as its context, however many ranks share its heads:
    they work side by side.
    """
    model, spread = subject.model, configuration.parallelism
    kind, layers, tensor = kind_of(configuration.precision), model.num_layers, spread.tensor
    width = width_of(configuration.precision)
    reading = layers * subject.read_ms(subject.read_params() * width) / tensor
    head = subject.read_ms(2.0 * model.vocab_size * model.hidden_size) / tensor
    one_stage = layers if spread.pipeline == 1 else 0
    size = model.hidden_size / 8192.0
    between = rank_shares(tensor)
    return [*_one_of(kind, reading), *_one_of(kind, float(layers)),
            layers * prompt_tokens / 100.0, head, 1.0,
            spread.pipeline - 1.0, one_stage * (tensor == 1), one_stage * (tensor > 1),
            *(layers * size * share for share in between), *(layers * share for share in between)]


ANCHOR = (Term("layers as in cuts", 1.03), Term("the rest as in cuts", 1.0),
          Term("layers", 0.1), Term("two ranks", 5.0), Term("stages, one rank", 0.2),
          Term("four ranks", 5.0), Term("eight ranks and more", 5.0))
"""Terms of a whole answer as long as the cuts' longest."""


def anchor_terms(subject: Subject, configuration: Configuration, layer_s: float,
                 rest_s: float) -> list[float]:
    """The amounts of the terms in ``ANCHOR`` for a line through cuts with the same ranks."""
    spread = configuration.parallelism
    layers, tensor = subject.model.num_layers, spread.tensor
    return [1e3 * layers * layer_s, 1e3 * rest_s, float(layers), float(tensor in (2, 3)),
            (spread.pipeline - 1.0) * (tensor == 1), float(tensor in range(4, 8)),
            float(tensor >= 8)]


PROMPT = (Term("computing 100 tokens of prompt", 1.4), Term("attention among the prompt", 2.0))
"""Terms of a prompt, apart from the effect of its length on each output token."""


def prompt_terms(subject: Subject, configuration: Configuration,
                 prompt_tokens: float) -> list[float]:
    """The amounts of the terms in ``PROMPT``, milliseconds at weight 1."""
    model, tensor = subject.model, configuration.parallelism.tensor
    pairs = 2.0 * prompt_tokens**2 * model.num_heads * model.head_dim
    return [model.num_layers * subject.compute_ms(work) / tensor
            for work in (2.0 * subject.token_params * prompt_tokens, pairs)]


BATCH = (
    Term("reading 100 tokens of cache", 0.5), Term("reading the answer's cache", 0.5),
    *(Term(f"computing, {kind}", 0.3) for kind in ("16 bit", "8 bit", "4 bit", "gptq")),
    *(Term(f"more rows, {kind}", 2e-4) for kind in ("16 bit", "8 bit", "4 bit", "gptq")),
    Term("computing 100 tokens of prompt", 0.3), Term("each token of each sequence", 0.02),
    Term("each stage more", 0.002), Term("reading experts of the others", 1.1),
    *(Term(f"all-reduce of tokens over {ranks}", usual)
      for ranks, usual in zip(_RANKS, (1e-3, 5e-3, 0.01, 0.02), strict=True)),
    *(Term(f"all-reduce of prompts over {ranks}", usual)
      for ranks, usual in zip(_RANKS, (0.01, 0.01, 0.1, 0.1), strict=True)),
)
"""Terms of each further sequence in a batch. The first sequence pays for reading the weights,
except for experts that only the others are sent to."""

_FULL_ROWS = 15
"""So many more rows make a matrix product of few rows as slow as it gets for that reason."""


def batch_terms(subject: Subject, configuration: Configuration, output_tokens: int,
                batch: int) -> list[float]:
    """The amounts of the terms in ``BATCH`` for a batch of that many: milliseconds, or counts."""
    model, spread = subject.model, configuration.parallelism
    kind, layers, tensor = kind_of(configuration.precision), model.num_layers, spread.tensor
    more, tokens = batch - 1, output_tokens * (batch - 1)
    kv_bytes = subject.layer_kv_bytes * width_of(configuration.kv_precision) / 2.0
    cache = layers * subject.read_ms(kv_bytes) / tensor
    compute = layers * subject.compute_ms(2.0 * subject.token_params) / tensor
    experts = (subject.read_params(batch) - subject.read_params()) * width_of(
        configuration.precision)
    rows = float(output_tokens * min(more, _FULL_ROWS) * layers)
    sent = layers * model.hidden_size / 4096.0
    between = rank_shares(tensor)
    return [100.0 * tokens * cache, tokens * output_tokens * cache,
            *_one_of(kind, tokens * compute), *_one_of(kind, rows), 100.0 * more * compute,
            float(tokens), (spread.pipeline - 1.0) * tokens * model.hidden_size / 4096.0,
            output_tokens * layers * subject.read_ms(experts) / tensor,
            *(tokens * sent * share for share in between),
            *(more * sent * share for share in between)]


MEMORY = (
    *(Term(f"weights, {kind}", 1.0) for kind in ("16 bit", "8 bit", "4 bit", "gptq")),
    Term("cache of 1,024 tokens", 1.0), Term("activations", 1.0), Term("layers", 1.0),
)
"""Bytes of the layers that a cut leaves out, in GiB."""


def memory_terms(subject: Subject, configuration: Configuration, num_layers: int, *,
                 first: bool = False) -> list[float]:
    """The amounts of the terms in ``MEMORY`` for so many layers, the last or the first ones, all
    accelerators together."""
    kind = kind_of(configuration.precision)
    params = subject.layers_params(num_layers, first=first)
    weights = params * width_of(configuration.precision) / GIB
    kv_bytes = subject.layer_kv_bytes * width_of(configuration.kv_precision) / 2.0
    copies = configuration.parallelism.tensor * subject.model.hidden_size / 4096.0
    return [*_one_of(kind, weights), num_layers * 1024 * kv_bytes / GIB,
            1e-3 * num_layers * copies, 1e-3 * num_layers]


BATCH_MEMORY = (Term("cache of 100 tokens", 1.0), Term("cache of the answer", 1.0),
                Term("activations", 1.0), Term("activations by stages", 1.0),
                Term("each sequence", 1.0))
"""Bytes of each further sequence, in GiB."""


def batch_memory_terms(subject: Subject, configuration: Configuration, output_tokens: int,
                       batch: int) -> list[float]:
    """The amounts of the terms in ``BATCH_MEMORY``, all accelerators together."""
    model, spread, more = subject.model, configuration.parallelism, batch - 1
    kv_bytes = (model.num_layers * subject.layer_kv_bytes
                * width_of(configuration.kv_precision) / 2.0)
    hidden = more * model.hidden_size / 4096.0 * 0.1
    return [100.0 * more * kv_bytes / GIB, output_tokens * more * kv_bytes / GIB,
            hidden * spread.tensor, hidden * spread.num_accelerators * (spread.pipeline > 1),
            0.1 * more]


def kind_of(precision: str) -> int:
    """Return the kind of kernels that read weights of a precision.

    Raises InputError for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: {precision!r} is unknown{nearest(precision, PRECISIONS)}")
    return PRECISIONS[precision]


def width_of(precision: str) -> float:
    """Bytes of one value; a method after an underscore changes nothing about them. Raises
    InputError for a precision that is unknown."""
    width = BYTES_PER_VALUE.get(precision.partition("_")[0])
    if width is None:
        raise InputError(f"precision: {precision!r} is unknown{nearest(precision, PRECISIONS)}")
    return width


def rank_shares(tensor: int) -> list[float]:
    """How much of 2, 4, 8 and 16 ranks a number of ranks has, by its logarithm; all 0 for one."""
    if tensor == 1:
        return [0.0] * len(_RANKS)
    place = min(log2(tensor), log2(_RANKS[-1]))
    return [max(0.0, 1.0 - abs(place - log2(ranks))) for ranks in _RANKS]


def _one_of(kind: int, value: float) -> Sequence[float]:
    return [value if i == kind else 0.0 for i in range(_NUM_KINDS)]
