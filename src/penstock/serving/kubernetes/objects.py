"""Objects of a cluster, as far as decisions need them.

Fields of the Gateway API inference extension are those of the CRDs of
kubernetes-sigs/gateway-api-inference-extension (InferencePool v1, InferenceObjective and
InferenceModelRewrite v1alpha2) and of llm-d/llm-d-router.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from penstock.serving.kubernetes.names import CREATOR, DELETION_COST, ROLE_SCALER, ROLE_SET

_SET_NAME, _SET_ROLE = "disaggregatedset.x-k8s.io/name", "disaggregatedset.x-k8s.io/role"

Document = Mapping[str, Any]
"""An object of the Kubernetes API as plain data."""


class Ref(NamedTuple):
    """Kind, namespace and name of an object."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment or LeaderWorkerSet: its wanted replicas, its own labels, and the labels that
    select its pods. ``owner`` is the uid of the object that controls it, empty without. While it
    ``is_new``, its creator owns all of it."""

    ref: Ref
    replicas: int
    labels: Mapping[str, str]
    selector: Mapping[str, str]
    owner: str = ""
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. ``address`` is its IP, empty before it has one. A pod that is not ``is_placed`` waits
    for a machine."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    address: str
    is_ready: bool
    is_ending: bool
    is_placed: bool
    deletion_cost: int | None = None

    @property
    def serves(self) -> bool:
        """Whether the pod takes requests."""
        return self.is_ready and not self.is_ending

    @property
    def holds_machine(self) -> bool:
        """Whether the pod has a machine, which costs."""
        return self.is_ready or self.is_ending or self.is_placed

    def matches(self, selector: Mapping[str, str]) -> bool:
        """Whether the pod has the labels of a selector, which must not be empty."""
        return bool(selector) and all(self.labels.get(key) == value
                                      for key, value in selector.items())


@dataclass(frozen=True, slots=True)
class ReplicaGroupObject:
    """Replicas that somebody set on the scale of a group, None before anybody did."""

    ref: Ref
    replicas: int | None
    generation: int = 0
    status: Document | None = None


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """An HPA or a ScaledObject, and the object whose replicas it changes."""

    ref: Ref
    target_kind: str
    target_name: str


@dataclass(frozen=True, slots=True)
class FleetObject:
    """A Fleet: its file, and the status that Penstock wrote last."""

    ref: Ref
    uid: str
    generation: int
    spec: Document
    status: Document
    is_ending: bool = False


@dataclass(frozen=True, slots=True)
class InferencePool:
    """A pool: the labels that select its pods, and the ports of each pod, each an endpoint."""

    ref: Ref
    selector: Mapping[str, str]
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InferenceObjective:
    """The priority of requests that name the objective: higher is more urgent, and negative may be
    shed."""

    ref: Ref
    pool: str
    priority: int


class Target(NamedTuple):
    """A model name and its share of the requests."""

    model: str
    weight: int


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """``targets`` in the place of any of ``models``, or of every model where there are none."""

    models: tuple[str, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class ModelRewrite:
    """The rules of a pool in their order. ``created`` is the time as the API writes it."""

    ref: Ref
    pool: str
    created: str
    rules: tuple[RewriteRule, ...]


Thing = (FleetObject | ReplicaGroupObject | Workload | Pod | Autoscaler | InferencePool
         | InferenceObjective | ModelRewrite)
"""An object that decisions need."""


def ref_of(document: Document) -> Ref:
    """Return the reference of an object."""
    metadata = document["metadata"]
    return Ref(document["kind"], metadata.get("namespace", ""), metadata["name"])


def fleet(document: Document) -> FleetObject:
    """Return a Fleet."""
    metadata = document["metadata"]
    return FleetObject(ref_of(document), metadata["uid"], metadata.get("generation", 0),
                       document.get("spec") or {}, document.get("status") or {},
                       "deletionTimestamp" in metadata)


def replica_group(document: Document) -> ReplicaGroupObject:
    """Return a ReplicaGroup."""
    return ReplicaGroupObject(ref_of(document), (document.get("spec") or {}).get("replicas"),
                              document["metadata"].get("generation", 0), document.get("status"))


def workload(document: Document) -> Workload:
    """Return a Deployment, a LeaderWorkerSet or a role of a DisaggregatedSet. A replica of several
    pods is its leader's. A DisaggregatedSet itself has no pods here: its roles have them."""
    ref, spec, own = ref_of(document), document["spec"], document["metadata"].get("labels") or {}
    if ref.kind == ROLE_SET:
        spec = {"replicas": 0, "selector": {}}
    if ref.kind == ROLE_SCALER:
        selector: Mapping[str, str] = {
            **{key: value for key, value in own.items() if key in (_SET_NAME, _SET_ROLE)},
            "leaderworkerset.sigs.k8s.io/worker-index": "0"}
    elif ref.kind == "LeaderWorkerSet":
        selector = {"leaderworkerset.sigs.k8s.io/name": ref.name,
                    "leaderworkerset.sigs.k8s.io/worker-index": "0"}
    else:
        selector = spec["selector"].get("matchLabels") or {}
    metadata = document["metadata"]
    owners = [one["uid"] for one in metadata.get("ownerReferences") or () if one.get("controller")]
    return Workload(ref, spec.get("replicas", 1), metadata.get("labels") or {}, selector,
                    owners[0] if owners else "", any(map(_is_whole, metadata.get(
                        "managedFields") or ())))


def _is_whole(managed: Document) -> bool:
    """Whether an entry of managed fields is the creator's, with more than the replicas."""
    fields = (managed.get("fieldsV1") or {}).get("f:spec") or {}
    return managed.get("manager") == CREATOR and {*fields} > {"f:replicas"}


def pod(document: Document) -> Pod:
    """Return a pod."""
    metadata, status = document["metadata"], document.get("status") or {}
    is_ready = any(one["type"] == "Ready" and one["status"] == "True"
                   for one in status.get("conditions") or ())
    placed = bool((document.get("spec") or {}).get("nodeName"))
    cost = (metadata.get("annotations") or {}).get(DELETION_COST, "")
    return Pod(metadata["name"], metadata.get("namespace", ""), metadata.get("labels") or {},
               status.get("podIP", ""), is_ready, "deletionTimestamp" in metadata,
               placed, int(cost) if cost.lstrip("-").isdecimal() else None)


def autoscaler(document: Document) -> Autoscaler:
    """Return an HPA or a ScaledObject. A ScaledObject's target is a Deployment unless it says
    otherwise."""
    target = document["spec"].get("scaleTargetRef") or {}
    return Autoscaler(ref_of(document), target.get("kind", "Deployment"), target.get("name", ""))


def inference_pool(document: Document) -> InferencePool:
    """Return an InferencePool."""
    spec = document.get("spec") or {}
    return InferencePool(ref_of(document), (spec.get("selector") or {}).get("matchLabels") or {},
                         tuple(one["number"] for one in spec.get("targetPorts") or ()))


def inference_objective(document: Document) -> InferenceObjective:
    """Return an InferenceObjective, whose priority is 0 where it states none."""
    spec = document.get("spec") or {}
    return InferenceObjective(ref_of(document), _pool(spec), spec.get("priority") or 0)


def model_rewrite(document: Document) -> ModelRewrite:
    """Return an InferenceModelRewrite."""
    spec = document.get("spec") or {}
    return ModelRewrite(ref_of(document), _pool(spec),
                        document["metadata"].get("creationTimestamp") or "",
                        tuple(map(_rule, spec.get("rules") or ())))


def time_text(at: datetime) -> str:
    """Return a time as the API writes it, such as 2026-11-24T10:00:00Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _pool(spec: Document) -> str:
    ref = spec.get("poolRef") or {}
    return str(ref.get("name", "")) if ref.get("kind", "InferencePool") == "InferencePool" else ""


def _rule(rule: Document) -> RewriteRule:
    matches: Iterable[Document] = rule.get("matches") or ()
    return RewriteRule(
        tuple(one["model"]["value"] for one in matches),
        tuple(Target(one["modelRewrite"], one.get("weight") or 1)
              for one in rule.get("targets") or ()))
