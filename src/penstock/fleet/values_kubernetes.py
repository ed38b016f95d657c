"""Workload of a group of replicas on a Kubernetes cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

WorkloadKind = Literal["Deployment", "LeaderWorkerSet"]
Acting = Literal["scale", "publish", "advise"]


@dataclass(frozen=True, slots=True)
class Adopted:
    """An existing workload, by its ``name`` or by the labels that it has. Its engines listen on
    ``port``."""

    kind: WorkloadKind = "Deployment"
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    port: int = 8000


@dataclass(frozen=True, slots=True)
class Created:
    """A workload that Penstock creates from the group's variant.

    ``model`` is the engine's argument for the model: a repository or a folder in the image.
    ``pods`` is the number of pods of a replica; with more than one, the workload is a
    LeaderWorkerSet. ``secrets`` are names of Secrets, whose entries become environment variables.
    ``template`` is laid over the pod template.
    """

    image: str
    model: str
    port: int = 8000
    pods: int = 1
    resource: str = "nvidia.com/gpu"
    arguments: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> WorkloadKind:
        """Kind of the workload."""
        return "Deployment" if self.pods == 1 else "LeaderWorkerSet"


class SetRole(NamedTuple):
    """A role of a DisaggregatedSet: the key of the group after which the set is named, and the
    role's name."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """How a group runs on a cluster.

    ``act`` says who changes the number of replicas. scale: Penstock, by the workload's scale
    subresource; publish: another autoscaler, which reads Penstock's number; advise: nobody. Either
    ``adopt`` or ``create`` is stated. ``name`` is the group's in the names of its objects, None
    where that is its number. ``set_role`` is its place in a DisaggregatedSet, None where it has a
    workload of its own.
    """

    act: Acting = "scale"
    adopt: Adopted | None = None
    create: Created | None = None
    name: str | None = None
    set_role: SetRole | None = None

    def key(self, number: int) -> str:
        """Return the group's part of the names of its objects, where it has a number."""
        return self.name or str(number)

    @property
    def port(self) -> int:
        """Port of the engines."""
        found = self.adopt or self.create
        assert found is not None, "the file states one of the two"
        return found.port


@dataclass(frozen=True, slots=True)
class UsualKubernetes:
    """How groups of a ``model`` on an ``accelerator``, None for any, run on a cluster where they
    state nothing of their own."""

    model: str | None
    accelerator: str | None
    options: KubernetesOptions
