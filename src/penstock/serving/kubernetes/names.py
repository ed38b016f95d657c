"""Names that Penstock's objects have on a cluster."""

GROUP = "penstock.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
MANAGER = "penstock"
"""Field manager of what Penstock applies: its own fields, and no others."""

CREATOR = "penstock-create"
"""Field manager of a new workload, which afterwards owns the first number of replicas alone: a
number without an owner would go back to 1 when ``MANAGER`` applies a workload without it."""

FLEET_LABEL = f"{GROUP}/fleet"
GROUP_LABEL = f"{GROUP}/group"
MODEL_LABEL = f"{GROUP}/model"
ROLE_LABEL = f"{GROUP}/role"
ACCELERATOR_LABEL, WIDTH_LABEL = f"{GROUP}/accelerator", f"{GROUP}/accelerators-per-replica"
ROLE_SET, ROLE_SCALER = "DisaggregatedSet", "DisaggregatedSetRoleScaler"
"""Kinds of kubernetes-sigs/lws: the roles of a model, and the scale of each of them."""

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation of a pod: of pods that a ReplicaSet may delete, the least goes first."""


def workload_name(fleet: str, key: str) -> str:
    """Return the name of the workload, and of the ReplicaGroup, of a fleet's group."""
    return f"{fleet}-{key}"
