"""The section `scaling` of the fleet file: how replicas start and stop."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from penstock.fleet.document_energy import CarbonSection
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
    faults: FaultsSection | None = described(
        "Faults of simulated replicas.", {"failures_per_hour": 0.01})
    settings: dict[Name, dict[Name, Any]] | None = described(
        "Settings of scale policies by name, where `policies.scale` or `compare --scale` name a "
        "policy alone.", {"hpa": {"metric": "num_running", "target": 20}})
