"""Workloads of a fleet's groups for a cluster without Penstock's controller."""

from dataclasses import replace
from typing import Any

from penstock.catalog.catalog import Catalog
from penstock.core.errors import InputError
from penstock.engines.launch.group import Group, launch_of
from penstock.engines.launch.kinds import KINDS, engine_of_group
from penstock.engines.launch.statements import Statements
from penstock.fleet.kubernetes import num_machines
from penstock.fleet.values import Fleet
from penstock.fleet.values_kubernetes import Created, KubernetesOptions
from penstock.serving.kubernetes.disaggregated import disaggregated_set, sets_of
from penstock.serving.kubernetes.manifests import created_workload, label_value
from penstock.serving.kubernetes.objects import FleetObject, Ref


def applied_workloads(fleet: Fleet, catalog: Catalog, said: Statements, namespace: str, *,
                      with_sets: bool = False) -> list[dict[str, Any]]:
    """Return the Deployment or LeaderWorkerSet of each group with replicas, and, ``with_sets``, one
    DisaggregatedSet for the groups with roles of a model.

    A group without a section `kubernetes` has the image that the engine's project publishes for the
    version. Raises InputError for a group that adopts a workload, for accelerators without a known
    image, and as ``created_workload``.
    """
    groups = [number for number, group in enumerate(fleet.replicas) if group.count]
    for number in groups:
        fleet = _created(fleet, number, catalog, said)
    owner = FleetObject(Ref("Fleet", namespace, label_value(fleet.name).lower()), "", 0, {}, {})
    found = []
    sets = sets_of(fleet) if with_sets else []
    for numbers in sets:
        document = disaggregated_set(owner, fleet, numbers)
        for number, role in zip(numbers, document["spec"]["roles"], strict=True):
            role["spec"] = {"replicas": fleet.replicas[number].count, **role["spec"]}
        found.append(document)
    for number in groups:
        if any(number in numbers for numbers in sets):
            continue
        document = created_workload(owner, fleet, number)
        document["spec"] = {"replicas": fleet.replicas[number].count, **document["spec"]}
        found.append(document)
    for document in found:
        del document["metadata"]["ownerReferences"]
    return found


def _created(fleet: Fleet, number: int, catalog: Catalog, said: Statements) -> Fleet:
    """Return the fleet with a workload for the group, where the file has none."""
    group, name = fleet.replicas[number], engine_of_group(fleet, number)
    if group.kubernetes is not None and group.kubernetes.create is not None:
        return fleet
    if group.kubernetes is not None:
        raise InputError(f"replicas[{number}].kubernetes: adopts a workload, so there is none to "
                         "create; expected create, or the section left out")
    if group.accelerator.vendor != "nvidia":
        raise InputError(f"replicas[{number}]: penstock knows no image of {name} for "
                         f"{group.accelerator.vendor}; expected kubernetes.create.image")
    launch = launch_of(Group(fleet, number, catalog, said), {})
    KINDS[name].command_line(launch)  # which refuses weights that the catalog's repository lacks
    created = Created(KINDS[name].image.format(version=launch.version), str(launch.model.value),
                      pods=num_machines(group))
    made = replace(group, kubernetes=KubernetesOptions(create=created))
    groups = (*fleet.replicas[:number], made, *fleet.replicas[number + 1:])
    return replace(fleet, replicas=groups)
