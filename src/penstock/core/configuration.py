"""How a model is run: its spread over accelerators and its number formats."""

from dataclasses import dataclass

from penstock.core.hardware import Parallelism


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run a model. ``precision`` is the weights' number format with its method where
    that matters (``int4``, ``int4_gptq``), ``kv_precision`` that of keys and values."""

    parallelism: Parallelism
    precision: str
    kv_precision: str

    @property
    def name(self) -> str:
        """For people and tables: ``tp2 pp4 int4 kv int8``."""
        spread = self.parallelism
        return f"tp{spread.tensor} pp{spread.pipeline} {self.precision} kv {self.kv_precision}"
