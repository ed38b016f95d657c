"""Accelerators and how a model is spread over them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from penstock.core.power import PowerCurve
from penstock.core.prices import HourlyPrice, price_on


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One accelerator by its vendor's data.

    ``peak_flops`` maps a precision (``fp32``, ``fp16``, ``bf16``, ``fp8``, ``int8``, ``fp4``) to
    dense operations per second, without sparsity. ``link_bytes_per_s`` is the one-way rate between
    accelerators of one node. ``price_per_hour`` is one of ``prices``, with its basis and date, and
    None where no list price is public. ``power_w`` is the power at full load; ``idle_w`` that of an
    idle accelerator with a model in memory and ``mid_w`` that at ``mid_utilization``, None where no
    source states them. ``sources`` has the source of each field's number.
    """

    name: str
    vendor: str
    memory_bytes: int
    bandwidth_bytes_per_s: float
    peak_flops: Mapping[str, float]
    power_w: float
    link_bytes_per_s: float
    pcie_bytes_per_s: float
    price_per_hour: float | None
    price_date: str = ""
    price_basis: str = ""
    prices: tuple[HourlyPrice, ...] = ()
    max_per_node: int = 8
    confidential: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
    idle_w: float | None = None
    mid_w: float | None = None
    mid_utilization: float | None = None

    @property
    def power(self) -> PowerCurve | None:
        """Return the power by utilization, None where the idle power is unknown."""
        return None if self.idle_w is None else PowerCurve.of(
            self.idle_w, self.power_w, self.mid_w, self.mid_utilization)

    def priced(self, basis: str) -> "Accelerator":
        """Return the accelerator at its price on a basis, as ``price_on`` chooses it."""
        price = price_on(basis, self.prices)
        if price is None:
            return self
        said = dict.fromkeys(("price_per_hour", "price_basis", "price_date"), price.source)
        return replace(self, price_per_hour=price.per_hour, price_date=price.date,
                       price_basis=price.basis, sources={**self.sources, **said})

    def flops(self, precision: str) -> float:
        """Peak rate at ``precision``, falling back to the widest type that the chip does run."""
        fallbacks = {"int4": ("int8", "fp16"), "fp4": ("fp8", "bf16"), "fp8": ("bf16", "fp16"),
                     "int8": ("bf16", "fp16"), "bf16": ("fp16", "fp32"), "fp16": ("bf16", "fp32")}
        for name in (precision, *fallbacks.get(precision, ()), "fp16", "fp32"):
            if name in self.peak_flops:
                return self.peak_flops[name]
        raise KeyError(f"{self.name} has no peak rate for {precision}")


@dataclass(frozen=True, slots=True)
class Parallelism:
    """How one replica is spread: tensor-parallel and pipeline-parallel degrees, and ``data`` ranks
    among which a mixture's attention is data-parallel.

    Each data rank holds all weights but the routed experts, and computes a share of the sequences.
    The experts are spread over all ranks: ``expert`` groups of ranks hold other experts each, and
    the ranks of a group split every expert of theirs.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int = 1

    @property
    def num_accelerators(self) -> int:
        """Number of accelerators of one replica."""
        return self.tensor * self.pipeline * self.data
