"""The section `kubernetes` of a group: its problems, and conversion to values and back."""

from collections.abc import Iterator
from typing import Any

from penstock.fleet.document import FleetDocument, ReplicaSection
from penstock.fleet.document_kubernetes import KubernetesSection
from penstock.fleet.problems import Problem
from penstock.fleet.values_kubernetes import Adopted, Created, KubernetesOptions


def kubernetes_problems(document: FleetDocument) -> Iterator[Problem]:
    """Yield groups whose workload is stated in two ways or in none, and workloads of two groups."""
    first: dict[tuple[str, str], int] = {}
    for i, section in enumerate(document.replicas or ()):
        if section.kubernetes is None:
            continue
        place = ("replicas", i, "kubernetes")
        for text in _one_problem(section):
            yield Problem(place, text)
        adopt = section.kubernetes.adopt
        if adopt is not None and adopt.name is not None:
            other = first.setdefault((adopt.kind, adopt.name), i)
            if other != i:
                yield Problem((*place, "adopt", "name"), f"{adopt.name} is the workload of "
                              f"replicas[{other}], too; expected one workload for each group")


def _one_problem(section: ReplicaSection) -> Iterator[str]:
    assert section.kubernetes is not None
    adopt, create = section.kubernetes.adopt, section.kubernetes.create
    if (adopt is None) == (create is None):
        yield f"expected adopt or create, found {'neither' if adopt is None else 'both'}"
    if adopt is not None and (adopt.name is None) == (not adopt.labels):
        yield f"adopt: expected name or labels, found {'both' if adopt.name else 'neither'}"
    if section.endpoints:
        yield "has no place beside endpoints: the cluster says where the replicas are"
    if create is None or section.parallelism is None:
        return
    spread = section.parallelism
    if (spread.tensor * spread.pipeline) % create.pods:
        yield (f"create: {create.pods} pods cannot share {spread.tensor * spread.pipeline} "
               "accelerators evenly")


def resolve_kubernetes(section: KubernetesSection | None) -> KubernetesOptions | None:
    """Return the values of a group's section."""
    if section is None:
        return None
    adopt, create = section.adopt, section.create
    return KubernetesOptions(
        section.act,
        None if adopt is None else Adopted(adopt.kind, adopt.name, adopt.labels or {},
                                              adopt.port),
        None if create is None else Created(
            create.image, create.model, create.port, create.pods, create.resource,
            tuple(create.arguments), create.node_selector, tuple(create.secrets),
            create.template))


def kubernetes_section(options: KubernetesOptions | None) -> dict[str, Any] | None:
    """Return a group's section as its file states it."""
    if options is None:
        return None
    found: dict[str, Any] = {"act": options.act}
    if options.adopt is not None:
        adopt = options.adopt
        found["adopt"] = {"kind": adopt.kind, "name": adopt.name,
                          "labels": dict(adopt.labels) or None, "port": adopt.port}
    if options.create is not None:
        create = options.create
        found["create"] = {
            "image": create.image, "model": create.model, "port": create.port,
            "pods": create.pods, "resource": create.resource, "arguments": [*create.arguments],
            "node_selector": dict(create.node_selector), "secrets": [*create.secrets],
            "template": dict(create.template)}
    return found
