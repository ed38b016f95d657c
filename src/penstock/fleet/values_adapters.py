"""Values of adapters (LoRA)."""

from dataclasses import dataclass


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
    as many as in one batch), each of at most ``max_rank``."""

    max_loras: int = 1
    max_cpu_loras: int | None = None
    max_rank: int = 16

    @property
    def most_loaded(self) -> int:
        """The most adapters that are loaded."""
        return max(self.max_loras, self.max_cpu_loras or 0)
