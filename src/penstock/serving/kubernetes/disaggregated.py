"""Replicas with roles of one model as a DisaggregatedSet.

Fields are those of kubernetes-sigs/lws at 060ab4d (``api/disaggregatedset/v1``).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.fleet.values_kubernetes import SetRole
from penstock.policy.route.roles import BOTH
from penstock.serving.kubernetes.manifests import leader_and_workers, metadata_of
from penstock.serving.kubernetes.names import ACCELERATOR_LABEL, GROUP_LABEL, WIDTH_LABEL
from penstock.serving.kubernetes.objects import FleetObject

API_VERSION = "disaggregatedset.x-k8s.io/v1"
_MOST_NAME = 47
"""Characters of a set's and a role's name together: the names of their Services have 16 more."""

_OF_GROUP = (GROUP_LABEL, ACCELERATOR_LABEL, WIDTH_LABEL)


def in_sets(values: Fleet) -> Fleet:
    """Return a fleet whose groups with roles are those of a DisaggregatedSet for each model."""
    groups = list(values.replicas)
    for numbers in sets_of(values):
        first = groups[numbers[0]].kubernetes
        assert first is not None, "sets_of has looked"
        for number, name in zip(numbers, role_names(values, numbers), strict=True):
            options = groups[number].kubernetes
            assert options is not None, "sets_of has looked"
            groups[number] = replace(groups[number], kubernetes=replace(
                options, set_role=SetRole(first.key(numbers[0]), name)))
    return replace(values, replicas=tuple(groups))


def scaled_sets(fleet: FleetObject, values: Fleet) -> Iterator[dict[str, Any]]:
    """Yield the DisaggregatedSets of a fleet ``in_sets``. Each role has a scale of its own, which
    the controller of the sets makes."""
    for numbers in sets_of(values):
        if all(_is_in_set(values, number) for number in numbers):
            document = disaggregated_set(fleet, values, numbers)
            for role in document["spec"]["roles"]:
                role["scaling"] = {"mode": "External"}
            yield document


def _is_in_set(values: Fleet, number: int) -> bool:
    options = values.replicas[number].kubernetes
    return options is not None and options.set_role is not None


def sets_of(values: Fleet) -> list[list[int]]:
    """Return the groups of each DisaggregatedSet: those of one model that have roles and whose
    workload Penstock creates."""
    found: dict[str, list[int]] = {}
    for number, group in enumerate(values.replicas):
        if group.role != BOTH and group.kubernetes is not None and group.kubernetes.create:
            found.setdefault(group.model.name, []).append(number)
    return [numbers for numbers in found.values()
            if len({values.replicas[number].role for number in numbers}) > 1]


def role_names(values: Fleet, numbers: Sequence[int]) -> list[str]:
    """Return a name for each group of a set: its role, and its part of other objects' names where
    several groups have the role."""
    roles = [values.replicas[number].role for number in numbers]
    times, found = Counter(roles), []
    for number, role in zip(numbers, roles, strict=True):
        options = values.replicas[number].kubernetes
        assert options is not None, "sets_of has looked"
        found.append(role if times[role] == 1 else f"{role}-{options.key(number)}")
    return found


def disaggregated_set(fleet: FleetObject, values: Fleet, numbers: Sequence[int]) -> dict[str, Any]:
    """Return the DisaggregatedSet of groups, without replicas. Its name is that of the first
    group's workload. Raises InputError for names that are too long, and as ``created_workload``.
    """
    metadata = metadata_of(fleet, values, numbers[0])
    metadata["labels"] = {key: value for key, value in metadata["labels"].items()
                          if key not in _OF_GROUP}
    roles = []
    for number, name in zip(numbers, role_names(values, numbers), strict=True):
        if len(metadata["name"]) + len(name) > _MOST_NAME:
            raise InputError(f"replicas[{number}].kubernetes.name: {metadata['name']} and {name} "
                             f"have more than {_MOST_NAME} characters, the most of a "
                             "DisaggregatedSet and its role; expected shorter names")
        roles.append({"name": name, "spec": {
            "leaderWorkerTemplate": leader_and_workers(fleet, values, number)}})
    return {"apiVersion": API_VERSION, "kind": "DisaggregatedSet", "metadata": metadata,
            "spec": {"roles": roles}}
