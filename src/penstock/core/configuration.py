"""Configuration of a model: its parallelism and its number formats."""

from dataclasses import dataclass

from penstock.core.hardware import Parallelism


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration of a model. ``precision`` is the weights' number format with its method
    where that matters (``int4``, ``int4_gptq``), ``kv_precision`` that of keys and values."""

    parallelism: Parallelism
    precision: str
    kv_precision: str

    @property
    def name(self) -> str:
        """Readable name: ``tp2 pp4 int4 kv int8``."""
        spread = self.parallelism
        return f"tp{spread.tensor} pp{spread.pipeline} {self.precision} kv {self.kv_precision}"
