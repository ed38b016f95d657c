"""Values of adapters (LoRA)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Evict: TypeAlias = Literal["demand", "lru"]

STEP_OVERHEAD_S = 0.002
"""Punica adds about 2 ms to a step of decodes, whatever the adapters are (arXiv 2310.18547)."""

DISK_GB_PER_S = 5.0
"""The rate of reading from disk that `multiplexing` assumes for weights."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A fine-tuned variant of a model. ``path`` is None where engines have it from their start,
    ``rank`` None where it is not known, ``service_class`` None where its model's default
    applies."""

    name: str
    path: str | None = None
    served_as: str | None = None
    rank: int | None = None
    service_class: str | None = None

    @property
    def served_name(self) -> str:
        """The engines' name for it."""
        return self.served_as or self.name


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """Room of a replica for adapters: ``max_loras`` in one batch, ``max_cpu_loras`` loaded (None:
    as many as in one batch), each of at most ``max_rank``. In simulations a step with any adapter
    takes ``step_overhead_s`` longer, and adapters come from disk and over the accelerators' links
    at these rates; ``copy_gb_per_s`` is None where the catalog's rate of the link counts. Of the
    loaded ones without requests makes way, by ``evict``, the one that the fewest requests would
    wait for, or the least recently used."""

    max_loras: int = 1
    max_cpu_loras: int | None = None
    max_rank: int = 16
    step_overhead_s: float = STEP_OVERHEAD_S
    disk_gb_per_s: float = DISK_GB_PER_S
    copy_gb_per_s: float | None = None
    evict: Evict = "demand"

    @property
    def most_loaded(self) -> int:
        """The most adapters that are loaded."""
        return max(self.max_loras, self.max_cpu_loras or 0)

    def takes(self, adapter: Adapter) -> bool:
        """Whether an adapter's rank is not too high."""
        return adapter.rank is None or adapter.rank <= self.max_rank


@dataclass(frozen=True, slots=True)
class TrafficAdapters:
    """Adapters that requests name: by ``weights``, or by Zipf's law with the exponent ``zipf`` over
    all adapters of the model. ``base_share`` is the share of requests for the model itself."""

    weights: Mapping[str, float] | None = None
    zipf: float = 0.0
    base_share: float = 0.0
