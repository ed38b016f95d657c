"""The section `scaling` of the fleet file: how replicas start and stop."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

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
    webhook: Endpoint | None = described(
        "URL to which `penstock serve` posts the wanted number of replicas that it does not start "
        "itself, as JSON. PENSTOCK_SCALING_TOKEN is sent as a bearer token.",
        "http://127.0.0.1:9000/scale")
    settings: dict[Name, dict[Name, Any]] | None = described(
        "Settings of scale policies by name, where `policies.scale` or `compare --scale` name a "
        "policy alone.", {"hpa": {"metric": "num_running", "target": 20}})
