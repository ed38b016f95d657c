"""The parts of a replica's start."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from penstock.core.units import GB
from penstock.perf.loading.model import LoadingModel

WeightsSource = Literal["remote", "disk", "host"]


@dataclass(frozen=True, slots=True)
class StartWeights:
    """How the weights of a replica reach its accelerators: at ``gb_per_s`` each, or as ``loading``
    says, which ``path`` holds."""

    source: WeightsSource
    gb_per_s: float | None = None
    path: str | None = None
    loading: LoadingModel | None = None

    def seconds(self, size_bytes: float) -> float:
        """Return the expected time until an accelerator has its share of the weights. A replica is
        a new process, so the load is the first of its run."""
        if self.loading is not None:
            cached_bytes = size_bytes if self.source == "host" else 0.0
            return self.loading.seconds(size_bytes, cached_bytes, first=True)
        assert self.gb_per_s is not None, "the file states a rate where it names no model"
        return size_bytes / (self.gb_per_s * GB)


class StartSpreads(NamedTuple):
    """Relative standard deviations of the parts of a start."""

    provision: float = 0.0
    image: float = 0.0
    weights: float = 0.0
    warm_up: float = 0.0


@dataclass(frozen=True, slots=True)
class StartParts:
    """The parts of a start, one after the other, and their spreads."""

    provision_s: float
    image_s: float
    weights: StartWeights
    warm_up_s: float
    spreads: StartSpreads
