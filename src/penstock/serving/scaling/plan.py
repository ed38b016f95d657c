"""The plan by which a gateway scales its fleet."""

from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.serving.deployments.startable import NAMES, is_started
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
    """Raise InputError where nobody could carry out orders for a group of replicas, or where a
    group cannot be observed."""
    if fleet.scaling.observe is not None:
        _check_observed(fleet)
    for number, group in enumerate(fleet.replicas):
        if is_started(group) or advise or fleet.scaling.webhook is not None:
            continue
        raise InputError(f"replicas[{number}]: policies.scale is {fleet.policies.scale.name}, and "
                         "penstock cannot start these replicas; expected an engine that can be "
                         f"started ({NAMES}, without endpoints), "
                         "scaling.webhook, or --advise")


def _check_observed(fleet: Fleet) -> None:
    """Raise InputError for groups that the engines' series in Prometheus do not tell apart."""
    first: dict[str, int] = {}
    for number, group in enumerate(fleet.replicas):
        if is_started(group):
            raise InputError(f"replicas[{number}].engine: {group.engine} is started and observed "
                             "by penstock itself; expected no scaling.observe, or an engine that "
                             "others start")
        name = group.served_name
        if (other := first.setdefault(name, number)) != number:
            raise InputError(f"replicas[{number}].served_as: {name} is the name of the model of "
                             f"replicas[{other}], too; expected another name, by which "
                             "scaling.observe tells the groups apart")
