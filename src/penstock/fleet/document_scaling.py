"""The section `scaling` of the fleet file: how replicas start and stop."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from penstock.fleet.document_energy import CarbonSection
from penstock.fleet.document_starts import StartSection
from penstock.fleet.fields import (
    FILE_TAG,
    NAME_TAG,
    SETTINGS_TAG,
    AsName,
    Endpoint,
    FilePath,
    Name,
    Named,
    NotNegative,
    Positive,
    Section,
    ShareOrZero,
    described,
)

Label = Annotated[str, Field(max_length=128, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Selector = Annotated[str, Field(max_length=1024, pattern=r"^[a-zA-Z_:][\w:]*(\{[^{}\n]*\})?$")]


class ScalerFileSection(Section):
    """An autoscaler's own file, which states the scale policy, its settings and bounds."""

    file: FilePath = described(
        "Path of an autoscaler's own file, relative to the fleet file: the policy, its settings "
        "and bounds. Bounds hold within those of the replicas.", "./hpa.yaml", default=...)


def _branch(value: Any) -> str:
    if isinstance(value, str):
        return NAME_TAG
    of_file = isinstance(value, ScalerFileSection) or (
        isinstance(value, dict) and "file" in value and "name" not in value)
    return FILE_TAG if of_file else SETTINGS_TAG


ScaleChoice = Annotated[
    AsName | Annotated[Named, Tag(SETTINGS_TAG)] | Annotated[ScalerFileSection, Tag(FILE_TAG)],
    Discriminator(_branch)]


class SpotSection(Section):
    """Spot instances: their owner takes them back (in simulation), and they cost less."""

    reclaims_per_hour: NotNegative = described(
        "How often an hour the owner takes a replica back, in the mean.", 0.05, default=...)
    notice_s: NotNegative = described(
        "Time from the owner's notice to the end of the replica, seconds.", 120, default=...)
    price_per_hour: NotNegative | None = described(
        "Price of one accelerator; left out, that of `accelerators`.", 1.2)


class BlackoutSection(Section):
    """Time for which the scaler gets no metrics."""

    from_s: NotNegative = described("When metrics go missing, seconds.", 3600, default=...)
    for_s: Positive = described("For how long, seconds.", 120, default=...)


class FaultsSection(Section):
    """Faults of simulated replicas, seeded like all randomness."""

    failed_start_share: ShareOrZero = described(
        "Share of starts that fail when they should end. They begin again at once.", 0.1,
        default=0.0)
    failures_per_hour: NotNegative = described(
        "How often an hour a replica that serves fails, in the mean. Requests without a token are "
        "sent again, the others are lost.", 0.01, default=0.0)
    blackouts: list[BlackoutSection] = described(
        "Times without metrics.", [{"from_s": 3600, "for_s": 120}], default=())
    controller_restarts_s: list[NotNegative] = described(
        "Times at which a scaler without history takes over, seconds.", [1800], default=())


class BudgetSection(Section):
    """Most that all replicas whose accelerators are held may cost and draw together."""

    cost_per_hour: Positive | None = described("Most that they cost in an hour.", 50)
    power_w: Positive | None = described(
        "Most that their accelerators draw at full load, by the catalog, watts.", 20_000)


class ObserveSection(Section):
    """Prometheus as the source of demand and of the engines' states."""

    prometheus: Endpoint = described(
        "URL of the Prometheus server, whose HTTP API is asked before each decision. "
        "PENSTOCK_PROMETHEUS_TOKEN is sent as a bearer token.", "http://127.0.0.1:9090",
        default=...)
    namespace: Name | None = described(
        "Only series with this label count; left out, series of any namespace.", "llm")
    namespace_label: Label = described(
        "Label that has the namespace.", "kubernetes_namespace", default="namespace")
    model_label: Label = described(
        "Label that has the engine's name for the model: `served_as`, else the model's name.",
        "model", default="model_name")
    replica_label: Label = described(
        "Label that tells replicas apart; series without that label are told apart by `instance`.",
        "pod", default="pod")
    arrivals: Selector | None = described(
        "Counter of the requests that arrive at the gateway or router, as a PromQL selector; left "
        "out, arrivals are what engines finish plus the growth of what they hold.",
        'gateway_requests_total{route="llm"}')
    stale_s: Positive = described(
        "Age from which a series counts as missing, seconds; two scrape intervals at least.", 30,
        default=60.0)


class ScalingSection(Section):
    """How replicas start and stop, where `policies.scale` changes their number."""

    start_s: Positive | None = described(
        "Time from the order of a replica until it serves, seconds: provisioning, image, weights "
        "and warm-up, as you measure it. Replicas may state their own.", 120)
    start_spread: NotNegative = described(
        "Relative standard deviation of the start time (lognormal).", 0.2, default=0.0)
    hold_s: Positive = described(
        "Longest time for which a request waits at the gateway while no replica of its model "
        "serves, seconds.", 600, default=600.0)
    hold_until: Literal["hold_s", "hopeless"] = described(
        "Until when a request without a replica waits. hold_s: for `hold_s`. hopeless: also no "
        "longer than a replica that begins then could meet its TTFT or end-to-end objective, by "
        "the believed time of the prompt.", "hopeless", default="hold_s")
    start: StartSection | None = described(
        "The parts of a start, in the place of `start_s`. Replicas may state their own.",
        {"provision_s": 60, "image_s": 25, "weights": {"source": "disk", "gb_per_s": 2},
         "warm_up_s": 15})
    budget: BudgetSection | None = described(
        "What replicas that start, serve or drain may cost and draw together; left out, no limit.",
        {"cost_per_hour": 50})
    calibrate: bool = described(
        "Whether step times are learned from the engines' counters while they serve. They correct "
        "what the scaler believes of the rate of a replica and of the duration of a step.", True,
        default=False)
    objective: Literal["cost", "energy", "carbon"] = described(
        "By which the scaler `penstock` weighs replicas of several kinds: their price, their power "
        "or its carbon.", "energy", default="cost")
    carbon: CarbonSection | None = described(
        "Carbon intensity of the electricity; left out, carbon is not told.",
        {"gco2_per_kwh": 300}, {"file": "carbon.csv", "repeat_s": 86400})
    webhook: Endpoint | None = described(
        "URL to which `penstock serve` posts the wanted number of replicas that it does not start "
        "itself, as JSON. PENSTOCK_SCALING_TOKEN is sent as a bearer token.",
        "http://127.0.0.1:9000/scale")
    observe: ObserveSection | None = described(
        "Prometheus as the source of demand and of the engines' states, where other software "
        "routes the requests.", {"prometheus": "http://127.0.0.1:9090"})
    faults: FaultsSection | None = described(
        "Faults of simulated replicas.", {"failures_per_hour": 0.01})
    settings: dict[Name, dict[Name, Any]] | None = described(
        "Settings of scale policies by name, where `policies.scale` or `compare --scale` name a "
        "policy alone.", {"hpa": {"metric": "num_running", "target": 20}})
