"""A resolved fleet: the fleet file with every name replaced by its value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.attest.values import Rules
from penstock.core.attestation import Confidentiality
from penstock.core.disclosure import USUAL, Disclosure
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.money import Price
from penstock.core.request import AUTO
from penstock.core.slo import ServiceClass
from penstock.fleet.values_attestation import (
    NO_EVIDENCE,
    EvidenceSource,
    PoolEvidence,
    Window,
    in_simulation,
)
from penstock.fleet.values_gateway import NO_GATEWAY_OPTIONS, GatewayOptions
from penstock.fleet.values_multiplexing import DevicePool
from penstock.perf.memory import ONE_ACCELERATOR
from penstock.policy.schedule.options import PRESETS, SchedulerOptions
from penstock.workload.lengths import LengthDistribution

StepTimeSpec = str | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A named implementation with its settings."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AcceleratorPool:
    """Accelerators of one kind; ``count`` is ``None`` where as many as needed may be rented.
    ``attestation`` is how all of them show that they run in confidential mode, ``simulated`` when a
    simulation takes them to be attested."""

    accelerator: Accelerator
    count: int | None
    price_per_hour: float
    attestation: PoolEvidence | None = None
    simulated: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model and the precisions that its weights may be served in.

    ``config`` is the Hugging Face config.json that it was read from, where there is one; ``price``
    is None where its tokens cost nothing.
    """

    spec: ModelSpec
    precisions: tuple[str, ...] = ("bf16",)
    config: str | None = None
    price: Price | None = None
    quality: float = 1.0


@dataclass(frozen=True, slots=True)
class ReplicaGroup:
    """``count`` equal replicas. ``service_classes`` is ``None`` where they serve every class.

    ``step_time`` is what ``registry.step_times.make_step_time`` takes, files as absolute paths;
    ``schedule`` is ``None`` where the fleet's own scheduling policy applies. ``endpoints`` has the
    base URL of every replica, without a slash at its end, where they are real engines that can be
    asked; ``engine`` is the kind of software that answers there and ``served_as`` its name for the
    model, None where that is the model's own. ``attestation`` is how they show that they run in
    confidential mode.
    """

    model: ModelSpec
    accelerator: Accelerator
    count: int = 1
    parallelism: Parallelism = ONE_ACCELERATOR
    precision: str = "bf16"
    kv_precision: str = "bf16"
    service_classes: tuple[str, ...] | None = None
    step_time: StepTimeSpec = None
    schedule: SchedulerOptions | None = None
    endpoints: tuple[str, ...] = ()
    engine: str = "auto"
    served_as: str | None = None
    attestation: EvidenceSource = NO_EVIDENCE

    @property
    def confidentiality(self) -> Confidentiality:
        """State of each simulated replica with regard to confidential requests."""
        return in_simulation(self.attestation.simulated, mode_on=self.accelerator.confidential)

    @property
    def num_accelerators(self) -> int:
        """Accelerators that all replicas of the group occupy."""
        return self.count * self.parallelism.num_accelerators


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A recorded trace: its rows in order or shuffled, and whether its own times are kept.

    ``scale`` multiplies the rate of the trace's own times, where it is given; ``format`` is
    ``auto`` or one that ``registry.sources.TRACES`` knows.
    """

    path: str
    format: str = "auto"
    own_times: bool = True
    scale: float | None = None
    shuffle: bool = False


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """Requests to come, before any file is read or number drawn.

    ``lengths`` is a trace file, the name of a shipped table, or a distribution. ``arrivals`` is
    ``None`` where a trace file keeps its own times, pressed to ``rate_per_s`` if that is given.
    Shares sum to 1; where ``mix`` is empty, the trace file says each request's class.
    """

    name: str
    model: str
    mix: Mapping[str, float]
    lengths: TraceFile | LengthDistribution | str
    arrivals: Choice | None = None
    rate_per_s: float | None = None
    tenants: Mapping[str, float] = field(default_factory=dict)
    num_requests: int | None = None
    duration_s: float | None = None
    start_s: float = 0.0
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Sizing:
    """Kinds of replica to size the fleet with; each group's count is the fewest to try.

    ``stated`` says that the file asks for it; otherwise the groups are one default per model, and
    ``lacks`` says why a model has none.
    """

    groups: tuple[ReplicaGroup, ...] = ()
    max_replicas: int = 64
    stated: bool = False
    lacks: str | None = None

    def kinds(self) -> tuple[ReplicaGroup, ...]:
        """The groups. Raises InputError where a model with traffic has none."""
        if self.lacks is not None:
            raise InputError(self.lacks)
        return self.groups


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Choices and limits of a plan.

    ``tensor`` and ``step_tokens`` are empty where accelerators and the scheduling policy decide.
    Costs are money: per hour, and once per replica that is started or stopped.
    """

    pooling: Literal["model", "class"] = "model"
    mixed: bool = True
    tensor: tuple[int, ...] = ()
    pipeline: tuple[int, ...] = (1,)
    kv_precisions: tuple[str, ...] = ("bf16",)
    step_tokens: tuple[int, ...] = ()
    keep_accelerators: bool = False
    max_cost_per_hour: float | None = None
    max_power_w: float | None = None
    start_cost: float = 0.0
    stop_cost: float = 0.0
    num_seeds: int = 2
    min_replicas: int = 1


@dataclass(frozen=True, slots=True)
class Policies:
    """Policies for the next step, the replica, admission and the number of replicas; and the share
    of requests that explores: they go to any eligible replica, to learn from."""

    schedule: SchedulerOptions = PRESETS["penstock"]
    route: Choice = Choice("least_loaded")
    admit: Choice = Choice("all")
    scale: Choice = Choice("none")
    explore: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How every replica's engine is set up.

    ``max_num_seqs`` overrides the scheduling policies' own; ``kv_tokens`` is the size of one
    replica's KV cache where it is known rather than computed from the memory that is left.
    """

    block_tokens: int = 16
    memory_fraction: float = 0.9
    max_num_seqs: int | None = None
    prefix_caching: bool = False
    kv_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How long and how random a run is.

    ``num_requests`` and ``duration_s`` cap all traffic together. Requests that arrive before
    ``warmup_s`` are served but not counted; after the last arrival a run goes on for at most
    ``drain_s``. ``step_time_noise`` is the relative standard deviation of a step's duration.
    ``beliefs`` says what policies know of step times: the mean of what each simulated device takes
    (``exact``), or only the model, from which each device deviates (``model``).
    """

    seed: int = 0
    num_requests: int | None = None
    duration_s: float | None = None
    warmup_s: float = 0.0
    drain_s: float | None = None
    step_time_noise: float = 0.0
    beliefs: Literal["exact", "model"] = "exact"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that a fleet file says. ``replicas`` is empty where the fleet is to be sized;
    ``multiplexing`` has the devices that models take turns on."""

    name: str
    accelerators: tuple[AcceleratorPool, ...]
    models: tuple[ModelChoice, ...]
    service_classes: tuple[ServiceClass, ...]
    traffic: tuple[TrafficSpec, ...]
    replicas: tuple[ReplicaGroup, ...] = ()
    sizing: Sizing = Sizing()
    plan: PlanOptions = PlanOptions()
    policies: Policies = Policies()
    engine: EngineOptions = EngineOptions()
    run: RunOptions = RunOptions()
    catalog: str | None = None
    gateway: GatewayOptions = NO_GATEWAY_OPTIONS
    attestation: Rules | None = None
    disclosure: Disclosure = USUAL
    multiplexing: tuple[DevicePool, ...] = ()

    def pool(self, accelerator: str) -> AcceleratorPool:
        """The pool of that name."""
        return next(p for p in self.accelerators if p.accelerator.name == accelerator)

    def model(self, name: str) -> ModelSpec:
        """The model of that name."""
        return next(m.spec for m in self.models if m.spec.name == name)

    def longest_context_tokens(self, model: str) -> int:
        """The longest context of a model, AUTO standing for any."""
        return max(m.spec.max_context_tokens for m in self.models if model in (m.spec.name, AUTO))

    def service_class(self, name: str) -> ServiceClass:
        """The service class of that name."""
        return next(c for c in self.service_classes if c.name == name)

    def schedule_of(self, group: ReplicaGroup) -> SchedulerOptions:
        """The scheduling policy that a group's replicas follow."""
        return group.schedule or self.policies.schedule
