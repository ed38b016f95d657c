"""A resolved fleet: the fleet file with every name replaced by its value."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from penstock.attest.values import Rules
from penstock.core.attestation import Confidentiality
from penstock.core.disclosure import USUAL, Disclosure
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.intake import DIRECT, Intake
from penstock.core.model import ModelSpec
from penstock.core.money import Price
from penstock.core.power import CarbonIntensity, PowerCurve
from penstock.core.prices import OWNERSHIP, YOURS, HourlyPrice, Ownership
from penstock.core.request import AUTO
from penstock.core.slo import ServiceClass
from penstock.fleet.stock import STOCK, defaults_of, engine_adapter_wait_s, stock_schedule
from penstock.fleet.values_adapters import Adapter, LoraOptions, TrafficAdapters
from penstock.fleet.values_attestation import (
    NO_EVIDENCE,
    EvidenceSource,
    PoolEvidence,
    Window,
    in_simulation,
)
from penstock.fleet.values_disaggregation import DisaggregationOptions
from penstock.fleet.values_faults import NO_FAULTS, FaultOptions, Spot
from penstock.fleet.values_gateway import NO_GATEWAY_OPTIONS, GatewayOptions
from penstock.fleet.values_kubernetes import KubernetesOptions, UsualKubernetes
from penstock.fleet.values_kv import KvTier
from penstock.fleet.values_multiplexing import DevicePool
from penstock.fleet.values_observe import PrometheusOptions
from penstock.fleet.values_speculation import Speculation, drafted_seqs
from penstock.fleet.values_starts import StartParts
from penstock.fleet.values_traffic import Lengths
from penstock.perf.memory import ONE_ACCELERATOR
from penstock.policy.route.roles import BOTH, DECODE
from penstock.policy.scale.protocol import Budget
from penstock.policy.schedule.options import PRESETS, SchedulerOptions

StepTimeSpec = str | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A named implementation with its settings."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AcceleratorPool:
    """Accelerators of one kind. ``count`` is ``None`` where any number may be rented.
    ``price_per_hour`` counts, on ``price_basis``; ``listed`` is the price without ``ownership``,
    where one is known. ``power`` is the power that the file states, None where the catalog's
    counts. ``attestation`` is the source of evidence that all of them run in
    confidential mode; ``simulated`` are the times at which a simulation assumes them to be
    attested."""

    accelerator: Accelerator
    count: int | None
    price_per_hour: float
    attestation: PoolEvidence | None = None
    simulated: tuple[Window, ...] = ()
    price_basis: str = YOURS
    listed: HourlyPrice | None = None
    ownership: Ownership | None = None
    power: PowerCurve | None = None

    @property
    def power_curve(self) -> PowerCurve | None:
        """Return the power of one accelerator by utilization, None where it is unknown."""
        return self.power or self.accelerator.power

    @property
    def price_date(self) -> str:
        """Return the date of the price that counts, empty for a cost of ownership."""
        return "" if self.listed is None or self.price_basis == OWNERSHIP else self.listed.date


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model and the precisions that its weights may be served in.

    ``config`` is its Hugging Face config.json, if it was read from one. ``price`` is None where its
    tokens are free. Clients may also ask for its ``adapters``.
    """

    spec: ModelSpec
    precisions: tuple[str, ...] = ("bf16",)
    config: str | None = None
    price: Price | None = None
    quality: float = 1.0
    adapters: tuple[Adapter, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How every replica's engine is set up.

    ``name`` is the stock engine that simulations run, as ``fleet.stock`` describes it, in
    ``version``, None for the newest; without a name, replicas are ideal engines. ``max_num_seqs``
    overrides the scheduling policies' own; ``kv_tokens`` is the size of one replica's KV cache
    where it is known rather than computed from the memory that is left. ``rates`` is the absolute
    path of fitted rates in place of those that ship. ``step_time`` is of all replicas that state
    none of their own. ``kv_tiers`` are below the KV cache, the fastest first.
    """

    block_tokens: int = 16
    memory_fraction: float = 0.9
    max_num_seqs: int | None = None
    prefix_caching: bool = False
    kv_tokens: int | None = None
    name: str | None = None
    version: str | None = None
    rates: str | None = None
    step_time: StepTimeSpec = None
    kv_tiers: tuple[KvTier, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaGroup:
    """``count`` equal replicas. ``service_classes`` is ``None`` where they serve every class.

    ``step_time`` is the argument of ``registry.step_times.make_step_time``, with absolute paths of
    files. ``schedule`` is ``None`` where the fleet's scheduling policy applies. ``endpoints`` has
    the base URL of every replica, without a trailing slash, where they are real engines. ``engine``
    is the kind of their software, and ``served_as`` its name for the model, None where that is the
    model's own. ``attestation`` is the source of evidence that they run in confidential mode.
    ``intake`` is the path of requests to the scheduler. ``setup`` is the stock engine of the group,
    None where the fleet's engine applies. A scaler keeps the count between ``min_replicas`` and
    ``max_replicas``; a replica is ready ``start_s`` after its order, None where the fleet's time
    applies, or ``start`` has the parts of it. ``spot`` is None where nobody takes replicas back.
    ``kubernetes`` is None where they do not run on a cluster, ``speculation`` where they draft no
    tokens. ``role`` says whether they compute prompts, answers or both; those that compute prompts
    take none of fewer than ``min_prompt_tokens``, None for the fleet's. ``kv_events`` has the
    address of every replica's KV events, or one with ``*`` for the host, ``kv_replay`` those of
    their replay. ``lora`` is None where they take no adapters. ``bootstrap_ports`` has the port of
    every replica at which SGLang's engines meet, empty for the usual one.
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
    intake: Intake = DIRECT
    setup: EngineOptions | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    start_s: float | None = None
    spot: Spot | None = None
    start: StartParts | None = None
    kubernetes: KubernetesOptions | None = None
    speculation: Speculation | None = None
    role: str = BOTH
    kv_events: tuple[str, ...] = ()
    kv_replay: tuple[str, ...] = ()
    lora: LoraOptions | None = None
    bootstrap_ports: tuple[int, ...] = ()
    min_prompt_tokens: int | None = None

    @property
    def served_name(self) -> str:
        """The engine's name for the model."""
        return self.served_as or self.model.name

    @property
    def confidentiality(self) -> Confidentiality:
        """State of each simulated replica for confidential requests."""
        return in_simulation(self.attestation.simulated, mode_on=self.accelerator.confidential)

    @property
    def num_accelerators(self) -> int:
        """Number of accelerators of all replicas of the group."""
        return self.count * self.parallelism.num_accelerators

    @property
    def step_role(self) -> str:
        """Return the role that rates of stock engines are of, empty where steps are mixed."""
        if self.role == BOTH:
            return ""
        return self.role if self.speculation is None else f"{self.role} with drafts"


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """Future requests, before any file is read or random number drawn.

    ``lengths`` is a trace file, a set of clients, sessions of agents, the name of a shipped table,
    or a distribution. ``arrivals`` is ``None`` for clients, for agents and
    where a trace file keeps its own times, compressed to ``rate_per_s`` if that is stated;
    with ``sessions`` first turns keep them.
    Shares sum to 1. Where ``mix`` is empty, the trace file has each request's class. Without
    ``adapters``, requests name those that a trace's column of models names.
    """

    name: str
    model: str
    mix: Mapping[str, float]
    lengths: Lengths
    arrivals: Choice | None = None
    rate_per_s: float | None = None
    tenants: Mapping[str, float] = field(default_factory=dict)
    num_requests: int | None = None
    duration_s: float | None = None
    start_s: float = 0.0
    max_tokens: int | None = None
    adapters: TrafficAdapters | None = None


@dataclass(frozen=True, slots=True)
class Sizing:
    """Kinds of replica for sizing the fleet. Each group's count is the fewest to try.

    ``stated`` says that the file states the groups. Otherwise there is one default group per model,
    and ``lacks`` says why a model has none.
    """

    groups: tuple[ReplicaGroup, ...] = ()
    max_replicas: int = 64
    stated: bool = False
    lacks: str | None = None

    def kinds(self) -> tuple[ReplicaGroup, ...]:
        """Return the groups. Raises InputError where a model with traffic has none."""
        if self.lacks is not None:
            raise InputError(self.lacks)
        return self.groups


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Choices and limits of a plan.

    ``tensor`` and ``step_tokens`` are empty where accelerators and the scheduling policy decide.
    Costs are money: per hour, and once per replica that is started or stopped. Replicas suffice
    with probability ``confidence``, as far as step times are uncertain; 0.5 takes step times as
    they are expected.
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
    confidence: float = 0.5


@dataclass(frozen=True, slots=True)
class Policies:
    """Policies for the next step, the replica, admission and the number of replicas, and the share
    of requests for exploration, which go to a random eligible replica."""

    schedule: SchedulerOptions = PRESETS["penstock"]
    route: Choice = Choice("least_loaded")
    admit: Choice = Choice("all")
    scale: Choice = Choice("none")
    explore: float = 0.0


@dataclass(frozen=True, slots=True)
class ScalingOptions:
    """How replicas start: the time from the order until a replica serves and its relative standard
    deviation. A request waits at most ``hold_s`` for a replica, with ``hold_until`` hopeless no
    longer than its objective is within reach. ``webhook`` gets the wanted numbers of replicas that
    Penstock does not start. ``observe`` replaces the gateway's observations by those of a
    Prometheus server. ``faults`` happen in simulation. ``budget`` limits all replicas together,
    None without a limit. ``objective`` is what Penstock's scaler saves. ``carbon`` is None where
    the intensity is not known."""

    start_s: float | None = None
    start_spread: float = 0.0
    hold_s: float = 600.0
    hold_until: Literal["hold_s", "hopeless"] = "hold_s"
    calibrate: bool = False
    webhook: str | None = None
    observe: PrometheusOptions | None = None
    faults: FaultOptions = NO_FAULTS
    budget: Budget | None = None
    objective: Literal["cost", "energy", "carbon"] = "cost"
    carbon: CarbonIntensity | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How long and how random a run is.

    ``num_requests`` and ``duration_s`` cap all traffic together. Requests that arrive before
    ``warmup_s`` are served but not counted; after the last arrival a run goes on for at most
    ``drain_s``. ``step_time_noise`` is the relative standard deviation of a step's duration.
    ``beliefs`` says who errs about simulated step times. With ``exact`` nobody does: policies and
    devices have those of the step-time model. With ``uncertain`` the times of policies, with
    ``model`` those of devices are off by random factors from the model's interval.
    """

    seed: int = 0
    num_requests: int | None = None
    duration_s: float | None = None
    warmup_s: float = 0.0
    drain_s: float | None = None
    step_time_noise: float = 0.0
    beliefs: Literal["exact", "uncertain", "model"] = "uncertain"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The content of a fleet file. ``replicas`` is empty where the fleet is to be sized;
    ``multiplexing`` has the pools of devices that models share. ``price_basis`` is the basis of
    prices that the file chooses, None where it chooses none. ``kubernetes`` says how groups run
    that state nothing of their own. ``disaggregation`` is None where all replicas do everything."""

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
    price_basis: str | None = None
    scaling: ScalingOptions = ScalingOptions()
    kubernetes: tuple[UsualKubernetes, ...] = ()
    disaggregation: DisaggregationOptions | None = None

    @property
    def scales(self) -> bool:
        """Whether a policy changes the number of replicas."""
        return self.policies.scale.name != "none"

    @property
    def tells_energy(self) -> bool:
        """Whether runs tell their energy: with a scale policy, stated power, or carbon."""
        return self.scales or self.scaling.carbon is not None or any(
            pool.power is not None for pool in self.accelerators)

    def unscaled(self) -> "Fleet":
        """Return the fleet with the replicas of the start, and no policy for their number."""
        return replace(self, replicas=tuple(group for group in self.replicas if group.count),
                       policies=replace(self.policies, scale=Choice("none")))

    def pool(self, accelerator: str) -> AcceleratorPool:
        """Return the pool of that name."""
        return next(p for p in self.accelerators if p.accelerator.name == accelerator)

    def model(self, name: str) -> ModelSpec:
        """Return the model of that name."""
        return next(m.spec for m in self.models if m.spec.name == name)

    def longest_context_tokens(self, model: str) -> int:
        """Return the longest context of a model; AUTO means any model."""
        return max(m.spec.max_context_tokens for m in self.models if model in (m.spec.name, AUTO))

    def service_class(self, name: str) -> ServiceClass:
        """Return the service class of that name."""
        return next(c for c in self.service_classes if c.name == name)

    def schedule_of(self, group: ReplicaGroup) -> SchedulerOptions:
        """Return the scheduling policy of a group's replicas: for ``stock``, the engine's own."""
        found, engine = group.schedule or self.policies.schedule, self.engine_of(group)
        if found.policy != STOCK or engine.name is None:
            return found
        defaults = defaults_of(engine.name, engine.version, group.accelerator)
        most_seqs = engine.max_num_seqs or drafted_seqs(group.speculation, defaults.engine)
        return stock_schedule(
            defaults, None, most_seqs, moved_prompts=group.role == DECODE,
            adapter_wait_s=engine_adapter_wait_s(found, engine.name, engine.version))

    def engine_of(self, group: ReplicaGroup) -> EngineOptions:
        """Return the engine of a group's replicas: its own, or the fleet's."""
        return group.setup or self.engine
