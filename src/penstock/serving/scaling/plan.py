"""The plan by which a gateway scales its fleet."""

from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.serving.deployments.startable import is_started
from penstock.serving.deployments.started import Started


@dataclass(frozen=True, slots=True)
class ScalingPlan:
    """How a fleet is scaled: the fleet of the file, the replicas that Penstock starts, and the
    file of the record. With ``advise`` nothing is ordered."""

    fleet: Fleet
    started: Started
    record: Path
    advise: bool = False


def check_scaling(fleet: Fleet, *, advise: bool) -> None:
    """Raise InputError where nobody could carry out orders for a group of replicas."""
    for number, group in enumerate(fleet.replicas):
        if is_started(group) or advise or fleet.scaling.webhook is not None:
            continue
        raise InputError(f"replicas[{number}]: policies.scale is {fleet.policies.scale.name}, and "
                         "penstock cannot start these replicas; expected an engine that can be "
                         "started (emulated, llamacpp or vllm, without endpoints), "
                         "scaling.webhook, or --advise")
