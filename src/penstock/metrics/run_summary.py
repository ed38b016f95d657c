"""The summary of a run: its figures and all that ``summary.json`` says, one field per key.

Undefined figures are None, never NaN. docs/reference/metrics.md defines each figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from penstock.core.slo import Slo
from penstock.metrics.pool_summary import Pool
from penstock.metrics.record import Form, Former, document, read_record
from penstock.metrics.reuse_summary import PrefixReuse
from penstock.metrics.scaling_summary import Scaling
from penstock.metrics.transfer_summary import Transfers


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Percentiles of a quantity by nearest rank."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None

    def at(self, name: str) -> float | None:
        """A percentile by its name, such as ``p99``."""
        value: float | None = getattr(self, name)
        return value


@dataclass(frozen=True, kw_only=True)
class Lateness(Percentiles):
    """How late a load generator sent requests, seconds."""

    max: float


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Percentiles of each latency: of first tokens over requests that got one, else of finished
    requests."""

    ttft_s: Percentiles
    queue_s: Percentiles
    tpot_s: Percentiles
    itl_mean_s: Percentiles
    itl_p99_s: Percentiles
    itl_max_s: Percentiles
    e2e_s: Percentiles

    def of(self, name: str) -> Percentiles:
        """The percentiles of a latency by its name."""
        found: Percentiles = getattr(self, name)
        return found


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Dollars of a run, or of a class's share of it."""

    per_hour: float | None = None
    total: float | None = None
    per_million_tokens: float | None = None
    per_million_output_tokens: float | None = None
    per_finished_request: float | None = None
    per_met_request: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The rate that no schedule exceeds, and the share of it that arrivals take."""

    throughput_bound_per_s: float | None = None
    bound_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """The objective of a service class, and its rank among others."""

    priority: int = 1
    weight: float = 1.0
    slo: Slo


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of requests: counts, attainment, rates, latencies and cost."""

    received: int
    finished: int
    rejected: int
    shed: int
    unfinished: int
    met: int
    attainment: float | None
    attainment_low: float | None
    attainment_high: float | None
    goodput_requests_per_s: float | None
    goodput_tokens_per_s: float | None
    received_requests_per_s: float | None = None
    output_tokens_per_s: float | None
    prompt_tokens: int
    output_tokens: int
    num_late_tokens: int
    num_preemptions: int
    num_relegations: int
    latency: Latencies
    busy: Annotated[float | None, Former("utilisation")] = None
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """The outcome of tasks, each the requests of one session. ``began`` counts tasks with at least
    one request, and ``met`` those that finished within their class's ``task_s``, if stated."""

    began: int
    finished: int
    met: int
    attainment: float | None
    attainment_low: float | None
    attainment_high: float | None
    requests: int
    time_s: Percentiles
    time_mean_s: float | None
    interactivity_tokens_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class AdapterOutcome:
    """The outcome of the requests for one adapter (LoRA), or for several."""

    received: int
    finished: int
    met: int
    attainment: float | None
    attainment_low: float | None
    attainment_high: float | None
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_s: Percentiles


@dataclass(frozen=True, kw_only=True)
class AdapterLoads:
    """Adapters read from disk and copied to devices, and the time for which steps waited."""

    from_disk: int
    to_device: int
    waited_s: float


@dataclass(frozen=True, kw_only=True)
class AdapterSummary:
    """The ``num_adapters`` adapters that requests named: the most used, the ``others`` together,
    and the requests for models themselves. ``loads`` are those of simulated replicas."""

    num_adapters: int
    adapters: Mapping[str, AdapterOutcome]
    others: Annotated[AdapterOutcome | None, Form.OPTIONAL] = None
    base: Annotated[AdapterOutcome | None, Form.OPTIONAL] = None
    loads: Annotated[AdapterLoads | None, Form.OPTIONAL] = None


@dataclass(frozen=True, kw_only=True)
class ClassSummary(Outcome, Target):
    """The outcome of a service class held against its objective. ``missed`` counts requests by the
    target that they missed."""

    missed: Annotated[Mapping[str, int] | None, Form.OPTIONAL] = None
    late_token_share: Annotated[Percentiles | None, Form.OPTIONAL] = None
    tasks: Annotated[TaskSummary | None, Form.OPTIONAL] = None
    meets_slo: bool | None


@dataclass(frozen=True, kw_only=True)
class OverallSummary(Outcome):
    """The outcome of all requests."""

    meets_slo: bool | None
    tasks: Annotated[TaskSummary | None, Form.OPTIONAL] = None
    bound: Annotated[Bound | None, Form.FLAT] = None


@dataclass(frozen=True, kw_only=True)
class ReplicaUse:
    """Requests and computing time of a replica."""

    replica: int
    requests: int
    busy_s: float
    busy: Annotated[float | None, Former("utilisation")] = None


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Requests that did not finish for one reason."""

    reason: str
    num_requests: int
    service_class: Annotated[str | None, Form.OPTIONAL] = None
    status: Annotated[str | None, Form.OPTIONAL] = None
    example: Annotated[str | None, Form.OPTIONAL] = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A size or rate that was tried. ``missed`` has the classes that missed their objective."""

    value: float
    attainment: Mapping[str, float | None]
    meets_slo: bool | None
    missed: Annotated[Mapping[str, Mapping[str, int]] | None, Form.OPTIONAL] = None


@dataclass(frozen=True, kw_only=True)
class Fewest:
    """The fewest replicas of a group that were tried, and the reason for no fewer."""

    classes: tuple[str, ...] | None
    fewest: int
    reason: str
    rate_per_s: float | None
    replica_rate_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """A search for a size: the quantity that it varied, its trials and its choice."""

    variable: str = "num_replicas"
    chosen: float | None = None
    tried: tuple[Trial, ...]
    limits: tuple[Fewest, ...] = ()
    note: Annotated[str | None, Form.OPTIONAL] = None


@dataclass(frozen=True, kw_only=True)
class ClassCertainty:
    """90 % intervals of a class's figures, low end first."""

    attainment: tuple[float | None, ...]
    ttft_p99_s: tuple[float | None, ...]
    tpot_p99_s: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """Probability that every class meets its objective, as far as step times are uncertain; 0.95
    means at least, 0.05 at most so much."""

    meets_probability: float
    classes: Mapping[str, ClassCertainty]


@dataclass(frozen=True, kw_only=True)
class PaddedOutcome:
    """The outcome of confidential requests of a class, padded so that it identifies none."""

    received_at_most: int | None
    finished_at_most: int | None
    rejected_at_most: int | None
    shed_at_most: int | None
    unfinished_at_most: int | None
    prompt_tokens_at_most: int | None
    output_tokens_at_most: int | None
    attainment_at_least: float | None
    latency_at_most: Latencies


@dataclass(frozen=True, kw_only=True)
class Confidential:
    """All that a run states about confidential requests."""

    least_count: int
    cost_per_hour: float | None
    classes: Mapping[str, PaddedOutcome]
    models: Annotated[Mapping[str, int] | None, Form.OPTIONAL] = None


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Requests that failed in one way."""

    before_first_token: int
    after_first_token: int


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Requests that were sent to a live endpoint, by their end."""

    sent: int
    finished: int
    failed: Mapping[str, Failures]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Deviation from a plan as a share of it."""

    mean: float | None
    largest: float | None


@dataclass(frozen=True, kw_only=True)
class Generator:
    """How well a load generator kept to its plan."""

    lateness_s: Lateness
    not_streamed: int
    without_usage: int
    prompt_tokens_off: Spread
    output_tokens_off: Spread


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A run on a live endpoint: ends of requests, punctuality, and how requests were put."""

    outcomes: Sent
    generator: Generator
    load: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which run this is."""

    name: str | None = None
    version: str | None = None
    engine: str | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps that replicas took."""

    num_steps: int | None = None
    prefix_hit_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class EnergyUse:
    """Energy of a fixed fleet's accelerators. ``energy_kwh`` is None where the power of any of them
    is unknown, ``carbon_kg`` also where the carbon intensity is. ``power_coverage`` is the share of
    the GPU-hours whose power is known."""

    energy_kwh: float | None
    carbon_kg: float | None
    power_coverage: float | None


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run, simulated or measured. ``fleet`` is the resolved fleet, ``plan`` the document that
    docs/reference/plan-json.md describes."""

    origin: Annotated[Origin | None, Form.FLAT] = None
    arrival_window_s: float | None = None
    window_s: float
    overall: OverallSummary
    classes: Mapping[str, ClassSummary]
    replicas: tuple[ReplicaUse, ...] = ()
    refusals: Annotated[tuple[Refusal, ...] | None, Form.OPTIONAL] = None
    unsent: Annotated[int | None, Form.OPTIONAL] = None
    believed_step_times: Annotated[Mapping[str, float] | None, Form.OPTIONAL] = None
    end_s: Annotated[float | None, Form.OPTIONAL] = None
    steps: Annotated[Steps | None, Form.FLAT] = None
    transfers: Annotated[Transfers | None, Form.OPTIONAL] = None
    prefix_reuse: Annotated[PrefixReuse | None, Form.OPTIONAL] = None
    adapters: Annotated[AdapterSummary | None, Form.OPTIONAL] = None
    scaling: Annotated[Scaling | None, Form.OPTIONAL] = None
    energy: Annotated[EnergyUse | None, Form.OPTIONAL] = None
    multiplexing: Annotated[tuple[Pool, ...] | None, Form.OPTIONAL, Former("residency")] = None
    confidential: Annotated[Confidential | None, Form.OPTIONAL] = None
    measured: Annotated[Measured | None, Form.FLAT] = None
    fleet: Annotated[Mapping[str, Any] | None, Form.OPTIONAL] = None
    sizing: Annotated[Sizing | None, Form.OPTIONAL] = None
    certainty: Annotated[Certainty | None, Form.OPTIONAL] = None
    plan: Annotated[Mapping[str, Any] | None, Form.OPTIONAL] = None

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "RunSummary":
        """The summary of a document, of an earlier version, too. Raises InputError."""
        return read_record(cls, found)

    def document(self) -> dict[str, Any]:
        """The summary as ``summary.json`` has it."""
        found: dict[str, Any] = document(self)
        return found

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Devices that models share; empty without any."""
        return self.multiplexing or ()
