"""The cluster's API: lists that stay up to date, and the actions of Penstock."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, missing_extra
from penstock.serving.kubernetes.actions import (
    Action,
    Annotate,
    Apply,
    Create,
    Delete,
    Label,
    Release,
    Scale,
    SetStatus,
    Tell,
)
from penstock.serving.kubernetes.names import (
    CREATOR,
    GROUP,
    MANAGER,
    ROLE_SCALER,
    ROLE_SET,
    VERSION,
)
from penstock.serving.kubernetes.objects import Document, Ref, time_text


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: its API group, version and plural. Objects of ``optional`` kinds are those
    of software that a cluster may lack."""

    name: str
    group: str
    version: str
    plural: str
    optional: bool = False

    @property
    def api_version(self) -> str:
        """Group and version as an object states them."""
        return f"{self.group}/{self.version}" if self.group else self.version


FLEET = Kind("Fleet", GROUP, VERSION, "fleets")
REPLICA_GROUP = Kind("ReplicaGroup", GROUP, VERSION, "replicagroups")
DEPLOYMENT = Kind("Deployment", "apps", "v1", "deployments")
LEADER_WORKER_SET = Kind("LeaderWorkerSet", "leaderworkerset.x-k8s.io", "v1", "leaderworkersets",
                         optional=True)
ROLE_SETS = Kind(ROLE_SET, "disaggregatedset.x-k8s.io", "v1", "disaggregatedsets", optional=True)
ROLE_SCALERS = Kind(ROLE_SCALER, "disaggregatedset.x-k8s.io", "v1", "disaggregatedsetrolescalers",
                    optional=True)
POD = Kind("Pod", "", "v1", "pods")
HPA = Kind("HorizontalPodAutoscaler", "autoscaling", "v1", "horizontalpodautoscalers")
SCALED_OBJECT = Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects", optional=True)
INFERENCE_POOL = Kind("InferencePool", "inference.networking.k8s.io", "v1", "inferencepools",
                      optional=True)
_OBJECTIVES = ("v1alpha2", "inferenceobjectives", True)
_REWRITES = ("v1alpha2", "inferencemodelrewrites", True)
INFERENCE_OBJECTIVES = (
    Kind("InferenceObjective", "inference.networking.x-k8s.io", *_OBJECTIVES),
    Kind("InferenceObjective", "llm-d.ai", *_OBJECTIVES))
MODEL_REWRITES = (
    Kind("InferenceModelRewrite", "inference.networking.x-k8s.io", *_REWRITES),
    Kind("InferenceModelRewrite", "llm-d.ai", *_REWRITES))
"""Both have moved from the inference extension to llm-d, and clusters have either."""
EVENT = Kind("Event", "", "v1", "events")
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps")
LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases")
WATCHED = (FLEET, REPLICA_GROUP, DEPLOYMENT, LEADER_WORKER_SET, ROLE_SETS, ROLE_SCALERS, POD, HPA,
           SCALED_OBJECT)
_BY_NAME = {kind.name: kind for kind in (*WATCHED, EVENT, LEASE)}


MOST_WAIT_S = 300.0
"""Most time for which a server is left alone."""

WATCH_S = 20
"""Time after which the API server ends a watch, and is asked again."""

SILENCE_S = WATCH_S + 5.0
"""Time without a word after which a watch is begun again: its connection may be dead, and what
happens is not heard."""


class ClusterError(Exception):
    """The API server refused, or did not answer. ``status`` is the HTTP status, 0 without one, and
    ``retry_after_s`` the time for which the server wants to be left alone."""

    def __init__(self, message: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(" ".join(message.split())[:400])
        self.status = status
        self.retry_after_s = retry_after_s


class Cluster:
    """Client of a cluster's API, over ``client`` of lightkube. ``namespace`` is None for all."""

    def __init__(self, client: Any, namespace: str | None) -> None:
        self._client = client
        self.namespace = namespace
        self.own_namespace: str = client.namespace

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # -- reading ----------------------------------------------------------------------------------

    async def list(self, kind: Kind, labels: Mapping[str, str] | None = None
                   ) -> tuple[list[Document], str]:
        """Return all objects of a kind, or those with certain labels, and the version of the list.
        Raises ClusterError."""
        listed = self._client.list(_class_of(kind), namespace=self.namespace or "*",
                                   chunk_size=500, labels=labels and {**labels})
        with _told():
            found = [self._named(kind, one) async for one in listed]
            return found, listed.resourceVersion

    async def watch(self, kind: Kind, version: str) -> AsyncIterator[tuple[str, Document]]:
        """Yield what happens to objects of a kind after a version: ADDED, MODIFIED or DELETED, and
        the object. Raises ClusterError, with status 410 where the version is too old."""
        while True:
            happenings = aiter(self._client.watch(
                _class_of(kind), namespace=self.namespace or "*", resource_version=version,
                server_timeout=WATCH_S))
            try:
                while True:
                    with _told():
                        async with asyncio.timeout(SILENCE_S):
                            happened, one = await anext(happenings)
                        version = one["metadata"]["resourceVersion"]
                    yield happened, self._named(kind, one)
            except StopAsyncIteration:
                return
            except TimeoutError:
                continue

    async def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        """Return an object, None where there is none. Raises ClusterError."""
        try:
            with _told():
                return self._named(kind, await self._client.get(
                    _class_of(kind), name, namespace=namespace))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    # -- acting -----------------------------------------------------------------------------------

    async def create(self, kind: Kind, document: Document) -> None:
        """Create an object. Raises ClusterError, with status 409 where it exists."""
        with _told():
            await self._client.create(_class_of(kind)(document))

    async def replace(self, kind: Kind, document: Document) -> None:
        """Replace an object of the same version. Raises ClusterError, with status 409 where
        somebody else has changed it."""
        with _told():
            await self._client.replace(_class_of(kind)(document))

    async def act(self, action: Action) -> None:
        """Carry an action out. Raises ClusterError."""
        with _told():
            await self._act(action)

    async def _act(self, action: Action) -> None:
        client = self._client
        match action:
            case Apply(document, manager):
                await client.apply(_class_of(_BY_NAME[document["kind"]])(document),
                                   field_manager=manager, force=manager == MANAGER)
            case Release(ref):
                await self._release(ref)
            case Create(document):
                await client.create(_class_of(_BY_NAME[document["kind"]])(document))
            case Delete(ref):
                await self._delete(ref)
            case Scale():
                await self._scale(action)
            case Annotate(ref, key, value):
                await client.patch(_class_of(_BY_NAME[ref.kind]), ref.name,
                                   {"metadata": {"annotations": {key: value}}},
                                   namespace=ref.namespace, patch_type=_types().MERGE)
            case Label(ref, labels, replicas):
                patch: dict[str, Any] = {"metadata": {"labels": {**labels}}}
                if replicas is not None:
                    patch["spec"] = {"replicas": replicas}
                await client.patch(_class_of(_BY_NAME[ref.kind]), ref.name, patch,
                                   namespace=ref.namespace, patch_type=_types().MERGE)
            case SetStatus(ref, status):
                await client.patch(_class_of(_BY_NAME[ref.kind]).Status, ref.name,
                                   {"status": status}, namespace=ref.namespace,
                                   patch_type=_types().MERGE)
            case Tell():
                await self._tell(action)

    async def _release(self, ref: Ref) -> None:
        """Apply the replicas of this very version of a workload."""
        kind = _class_of(_BY_NAME[ref.kind])
        found = await self._client.get(kind, ref.name, namespace=ref.namespace)
        await self._client.apply(kind({
            "metadata": {"name": ref.name, "namespace": ref.namespace,
                         "resourceVersion": found["metadata"]["resourceVersion"]},
            "spec": {"replicas": found["spec"]["replicas"]}}), field_manager=CREATOR, force=False)

    async def _delete(self, ref: Ref) -> None:
        """Delete an object, which may be gone already."""
        try:
            await self._client.delete(_class_of(_BY_NAME[ref.kind]), ref.name,
                                      namespace=ref.namespace)
        except _api_error() as error:
            if error.status.code != 404:
                raise

    async def _scale(self, action: Scale) -> None:
        """Change a number of replicas that still is what was seen. A controller that is no longer
        the leader, and whose step a slow server carries out late, thus changes nothing."""
        ref, steps = action.ref, scale_steps(action)
        try:
            await self._client.patch(_class_of(_BY_NAME[ref.kind]).Scale, ref.name, steps,
                                     namespace=ref.namespace, patch_type=_types().JSON)
        except _api_error() as error:
            if error.status.code == 422 and action.before is not None:
                raise ClusterError(f"{ref.kind} {ref.name} no longer has {action.before} replicas",
                                   409) from None
            raise

    async def _tell(self, action: Tell) -> None:
        """Create an Event, or count one more of its kind."""
        kind, document = _class_of(EVENT), event(action, datetime.now(UTC))
        try:
            await self._client.create(kind(document))
        except _api_error() as error:
            if error.status.code != 409:
                raise
            metadata = document["metadata"]
            known = await self._client.get(kind, metadata["name"], namespace=metadata["namespace"])
            more = {"count": (known.get("count") or 1) + 1, "message": document["message"],
                    "lastTimestamp": document["lastTimestamp"]}
            await self._client.patch(kind, metadata["name"], more,
                                     namespace=metadata["namespace"], patch_type=_types().MERGE)

    @staticmethod
    def _named(kind: Kind, one: Any) -> Document:
        """Return an object with its kind, which entries of a list lack."""
        return {**one, "kind": kind.name}


def open_cluster(kubeconfig: Path | None, context: str | None, namespace: str | None) -> Cluster:
    """Return the client of a cluster: of a kubeconfig file, else of the pod that this runs in, else
    of the user's own kubeconfig. Raises InputError."""
    try:
        from lightkube import AsyncClient, KubeConfig
        from lightkube.core.exceptions import ConfigError
    except ImportError as error:
        raise missing_extra("penstock controller", "kubernetes", error) from error
    import yaml

    try:
        found = KubeConfig.from_env() if kubeconfig is None else KubeConfig.from_file(kubeconfig)
        single = found.get(context)
    except (ConfigError, yaml.YAMLError, AttributeError, KeyError, OSError, TypeError,
            ValueError) as error:
        place = "" if kubeconfig is None else f"{kubeconfig}: "
        raise InputError(f"--kubeconfig: {place}cannot be read ({str(error)[:200]}); expected a "
                         "kubeconfig file") from None
    if single is None or single.user is None:
        raise InputError(f"--context {context or 'of the kubeconfig'}: names no user; expected a "
                         "cluster and a user")
    return Cluster(AsyncClient(single, field_manager=MANAGER, trust_env=False), namespace)


def _class_of(kind: Kind) -> Any:
    """Return lightkube's class of a kind, of which it keeps one in a process."""
    from lightkube.generic_resource import create_namespaced_resource, get_generic_resource

    return get_generic_resource(kind.api_version, kind.name) or create_namespaced_resource(
        kind.group, kind.version, kind.name, kind.plural)


def scale_steps(action: Scale) -> list[dict[str, Any]]:
    """Return a change of replicas as a JSON patch. A scale leaves out 0."""
    change = [{"op": "add", "path": "/spec/replicas", "value": action.replicas}]
    if action.before is None:
        return change
    return [{"op": "test", "path": "/spec/replicas", "value": action.before or None}, *change]


def event(action: Tell, now: datetime) -> dict[str, Any]:
    """Return an Event, whose name is that of all Events of its kind, reason and subject."""
    at, ref = time_text(now), action.ref
    same = "/".join((action.uid, action.kind, action.reason, action.subject))
    name = f"{ref.name[:200]}.{hashlib.sha256(same.encode()).hexdigest()[:16]}"
    return {"metadata": {"name": name, "namespace": ref.namespace},
            "involvedObject": {"apiVersion": _BY_NAME[ref.kind].api_version, "kind": ref.kind,
                               "namespace": ref.namespace, "name": ref.name, "uid": action.uid},
            "reason": action.reason, "message": action.message[:1000], "type": action.kind,
            "source": {"component": MANAGER}, "firstTimestamp": at, "lastTimestamp": at,
            "count": 1}


def _types() -> Any:
    from lightkube.types import PatchType

    return PatchType


def _api_error() -> type[Any]:
    from lightkube import ApiError

    found: type[Any] = ApiError
    return found


@contextmanager
def _told() -> Iterator[None]:
    """Turn the client's errors into ClusterError."""
    import httpx2
    import msgspec
    from lightkube import ApiError

    try:
        yield
    except ApiError as error:
        raise ClusterError(str(error), int(error.status.code or 0), _wait_s(error)) from None
    except httpx2.HTTPStatusError as error:  # a path that the server does not know has no Status
        raise ClusterError(str(error).partition(" For more")[0],
                           error.response.status_code, _wait_s(error)) from None
    except httpx2.HTTPError as error:
        raise ClusterError(f"the API server does not answer ({type(error).__name__}: "
                           f"{error})") from None
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        # A line that was cut off, the page of a proxy, an answer without Content-Type.
        raise ClusterError("the API server's answer cannot be read "
                           f"({type(error).__name__}: {error})") from None


def _wait_s(error: Any) -> float:
    """Return the time of the header Retry-After, which API servers state in seconds."""
    answer = getattr(error, "response", None)
    text = "" if answer is None else answer.headers.get("Retry-After", "")
    return min(float(text), MOST_WAIT_S) if text.isdecimal() else 0.0
