"""The sections `kubernetes` of groups and of the fleet: their problems, and values and back."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from penstock.core.errors import nearest
from penstock.fleet.document import FleetDocument, ReplicaSection
from penstock.fleet.document_kubernetes import (
    CreateSection,
    KubernetesSection,
    UsualKubernetesSection,
)
from penstock.fleet.problems import Problem, quote
from penstock.fleet.values import AcceleratorPool, ModelChoice, ReplicaGroup
from penstock.fleet.values_kubernetes import (
    Adopted,
    Created,
    KubernetesOptions,
    UsualKubernetes,
)


def kubernetes_problems(document: FleetDocument) -> Iterator[Problem]:
    """Yield groups whose workload is stated in two ways or in none, workloads and names of two
    groups, and unknown names."""
    first: dict[tuple[str, ...], int] = {}
    for i, section in enumerate(document.replicas or ()):
        if section.kubernetes is None:
            continue
        place = ("replicas", i, "kubernetes")
        for text in _one_problem(section):
            yield Problem(place, text)
        adopt, name = section.kubernetes.adopt, section.kubernetes.name
        if adopt is not None and adopt.name is not None:
            other = first.setdefault((adopt.kind, adopt.name), i)
            if other != i:
                yield Problem((*place, "adopt", "name"), f"{adopt.name} is the workload of "
                              f"replicas[{other}], too; expected one workload for each group")
        # A group without a name has its number for one.
        other = first.setdefault((str(i) if name is None else name,), i)
        if other != i:
            yield Problem((*place, "name"), f"{name or i} names replicas[{other}], too; expected "
                          "a name for each group")
    for i, usual in enumerate(document.kubernetes or ()):
        for what, found, known in (("model", usual.model, document.models),
                                   ("accelerator", usual.accelerator, document.accelerators)):
            names = [one.name for one in known]
            if found is not None and found not in names:
                yield Problem(("kubernetes", i, what),
                              f"unknown {what} {quote(found)}{nearest(found, names)}")


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
    width = spread.tensor * spread.pipeline * spread.data
    if width % create.pods:
        yield f"create: {create.pods} pods cannot share {width} accelerators evenly"


def resolve_kubernetes(section: KubernetesSection | None) -> KubernetesOptions | None:
    """Return the values of a group's section."""
    if section is None:
        return None
    adopt = section.adopt
    return KubernetesOptions(
        section.act,
        None if adopt is None else Adopted(adopt.kind, adopt.name, adopt.labels or {},
                                              adopt.port),
        None if section.create is None else _created(section.create), section.name)


def _created(create: CreateSection) -> Created:
    return Created(create.image, create.model, create.port, create.pods, create.resource,
                   tuple(create.arguments), create.node_selector, tuple(create.secrets),
                   create.template)


def resolve_usual_kubernetes(sections: Sequence[UsualKubernetesSection] | None,
                             pools: Mapping[str, AcceleratorPool],
                             models: Mapping[str, ModelChoice]) -> tuple[UsualKubernetes, ...]:
    """Return the values of the fleet's section, with the catalog's names."""
    return tuple(UsualKubernetes(
        one.model and models[one.model].spec.name,
        one.accelerator and pools[one.accelerator].accelerator.name,
        KubernetesOptions(one.act, create=_created(one.create))) for one in sections or ())


def usual_kubernetes(usual: Sequence[UsualKubernetes], model: str, accelerator: str
                     ) -> KubernetesOptions | None:
    """Return how groups of a model run on an accelerator by the fleet's section, None where no
    entry fits."""
    return next((one.options for one in usual if one.model in (None, model)
                 and one.accelerator in (None, accelerator)), None)


def with_usual_kubernetes(groups: Sequence[ReplicaGroup], usual: Sequence[UsualKubernetes]
                          ) -> tuple[ReplicaGroup, ...]:
    """Return the groups, of which those that state nothing run as the fleet's section says.

    A group of that section is named by its kind of replica, so that another kind has a workload of
    its own. A replica wider than a machine has as many pods as machines.
    """
    found = []
    for group in groups:
        options = usual_kubernetes(usual, group.model.name, group.accelerator.name)
        if options is not None and group.kubernetes is None and not group.endpoints:
            assert options.create is not None, "the section always creates"
            group = replace(group, kubernetes=replace(
                options, name=kind_name(group),
                create=replace(options.create, pods=num_machines(group, options.create.pods))))
        found.append(group)
    return tuple(found)


def num_machines(group: ReplicaGroup, least: int = 1) -> int:
    """Return the fewest machines, and so pods, that share a replica's accelerators evenly."""
    width = group.parallelism.num_accelerators
    machines = max(least, ceil(width / group.accelerator.max_per_node))
    return next((pods for pods in range(machines, width) if width % pods == 0), width)


def kind_name(group: ReplicaGroup) -> str:
    """Return a name for a kind of replica, such as h100-80gb-tp2-fp8-1f9c3a, which fits a
    Kubernetes label. The last part tells apart what the first part leaves out."""
    spread, schedule = group.parallelism, group.schedule
    kind = (group.model.name, group.accelerator.name, spread.tensor, spread.pipeline, spread.data,
            spread.expert, group.precision, group.kv_precision, group.service_classes,
            None if schedule is None else (schedule.chunk_tokens, schedule.max_step_tokens))
    parts = [group.accelerator.name, *(f"{key}{value}" for key, value in (
        ("tp", spread.tensor), ("pp", spread.pipeline)) if value > 1), group.precision]
    shown = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")[:33].strip("-")
    return f"{shown}-{hashlib.sha256(repr(kind).encode()).hexdigest()[:6]}"


def kubernetes_section(options: KubernetesOptions | None) -> dict[str, Any] | None:
    """Return a group's section as its file states it."""
    if options is None:
        return None
    found: dict[str, Any] = {"act": options.act, "name": options.name}
    if options.adopt is not None:
        adopt = options.adopt
        found["adopt"] = {"kind": adopt.kind, "name": adopt.name,
                          "labels": dict(adopt.labels) or None, "port": adopt.port}
    if options.create is not None:
        found["create"] = _create_section(options.create)
    return found


def _create_section(create: Created) -> dict[str, Any]:
    return {"image": create.image, "model": create.model, "port": create.port,
            "pods": create.pods, "resource": create.resource, "arguments": [*create.arguments],
            "node_selector": dict(create.node_selector), "secrets": [*create.secrets],
            "template": dict(create.template)}


def usual_kubernetes_section(usual: Sequence[UsualKubernetes]) -> list[dict[str, Any]] | None:
    """Return the fleet's section as its file states it."""
    return [{"model": one.model, "accelerator": one.accelerator, "act": one.options.act,
             "create": _create_section(one.options.create)}
            for one in usual if one.options.create is not None] or None
