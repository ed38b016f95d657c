"""Values of a bundle: accelerators, performance, service classes, servers, capacity, options.

Times are in ms, arrival rates in requests per minute and costs in US cents per hour, as in
Inferno's files (llm-inferno/optimizer and optimizer-light).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from penstock.perf.queueing.parameters import DecodePrefillTimes, IterationTimes, check_non_negative


def single(value: float) -> float:
    """A number rounded to a 32-bit float: upstream's precision, on which its ties depend."""
    return float(np.float32(value))


Generation = Literal["v1", "v2"]
Policy = Literal["None", "PriorityExhaustive", "PriorityRoundRobin", "RoundRobin"]
POLICIES: tuple[Policy, ...] = ("None", "PriorityExhaustive", "PriorityRoundRobin", "RoundRobin")

LOWEST_PRIORITY = 100
DEFAULT_CLASS = "Free"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A unit that is allocated whole: ``multiplicity`` devices of the pool ``type``."""

    name: str
    type: str
    multiplicity: int
    cost_cents_per_hour: float


@dataclass(frozen=True, slots=True)
class Profile:
    """A model on an accelerator: ``acc_count`` units per replica, and the batch that fits when a
    request is ``at_tokens`` long."""

    model: str
    accelerator: str
    acc_count: int
    max_batch_size: int
    at_tokens: int
    times: DecodePrefillTimes | IterationTimes


@dataclass(frozen=True, slots=True)
class Targets:
    """Mean latencies to keep, in ms, and tokens per second to deliver; ``None`` is no target."""

    ttft_ms: float | None = None
    itl_ms: float | None = None
    tokens_per_s: float | None = None

    def __post_init__(self) -> None:
        check_non_negative(self)


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """A class of requests; priority 1 goes first, 100 last. ``stated_priority`` is what the file
    says, where it says something."""

    name: str
    priority: int
    targets: Mapping[str, Targets]
    stated_priority: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Measured traffic of a server. A negative rate marks an unusable measurement."""

    arrival_per_min: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    throughput_per_min: float = 0.0

    @property
    def is_zero(self) -> bool:
        """Whether there is nothing to serve."""
        return self.arrival_per_min == 0.0 or self.output_tokens == 0


@dataclass(frozen=True, slots=True)
class Allocation:
    """Allocation of a server. Solvers minimize ``value``, the transition penalty.
    ``max_per_min`` is the throughput of one replica at its targets."""

    accelerator: str = ""
    num_replicas: int = 0
    max_batch: int = 0
    cost_cents_per_hour: float = 0.0
    value: float = 0.0
    itl_ms: float = 0.0
    ttft_ms: float = 0.0
    rho: float = 0.0
    max_per_min: float = 0.0

    def saturated(self, load: Load) -> bool:
        """Whether more arrives than the replicas can serve within their targets."""
        served = np.float32(self.num_replicas) * np.float32(self.max_per_min)
        return not load.is_zero and bool(np.float32(load.arrival_per_min) > served)


@dataclass(frozen=True, slots=True)
class Server:
    """One (service class, model) pair and its deployment."""

    name: str
    service_class: str
    model: str
    load: Load
    current: Allocation = field(default_factory=Allocation)
    keep_accelerator: bool = False
    min_num_replicas: int = 0
    max_batch_size: int = 0
    max_queue_size: int = 0


@dataclass(frozen=True, slots=True)
class OptimizerOptions:
    """The bundle's own choice of solver; ``stated_policy`` is the policy as the file has it."""

    unlimited: bool = False
    heterogeneous: bool = False
    milp_solver: bool = False
    delayed_best_effort: bool = False
    saturation_policy: Policy = "None"
    stated_policy: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """A whole bundle, by name in the order of the files.

    ``capacity`` is devices by pool, None when the bundle states none; a pool without an entry is
    empty. A reference may name something that is not there: then there is no candidate.
    """

    generation: Generation
    accelerators: Mapping[str, Accelerator]
    profiles: Mapping[tuple[str, str], Profile]
    service_classes: Mapping[str, ServiceClass]
    servers: Mapping[str, Server]
    capacity: Mapping[str, int] | None
    options: OptimizerOptions

    def priority(self, server: Server) -> int:
        """Priority of the server's class; the lowest when the class is unknown."""
        found = self.service_classes.get(server.service_class)
        return found.priority if found else LOWEST_PRIORITY

    def units(self, allocation: Allocation, server: Server) -> tuple[str, int]:
        """The pool that a server's allocation draws on and how many devices one replica takes."""
        accelerator = self.accelerators[allocation.accelerator]
        profile = self.profiles[server.model, allocation.accelerator]
        return accelerator.type, profile.acc_count * accelerator.multiplicity
