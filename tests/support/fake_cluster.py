"""A cluster in memory: objects with versions, watches, Deployments that become pods."""

import asyncio
import itertools

from penstock.serving.endpoint_picker.pods import POOL_KINDS
from penstock.serving.kubernetes.actions import (
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
from penstock.serving.kubernetes.api import WATCHED, ClusterError
from penstock.serving.kubernetes.names import CREATOR
from support import cluster_objects as cluster


def merged(base, patch):
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict) or not isinstance(base, dict):
        return patch
    found = dict(base)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


class FakeCluster:
    """Answers as ``api.Cluster`` does. ``absent`` are kinds that this cluster does not know;
    ``failing`` is the error of every call."""

    namespace = None
    own_namespace = "ns"

    def __init__(self, absent=()):
        self.objects = {}
        self.events = []
        self.actions = []
        self.absent = {kind.name for kind in absent}
        self.failing = None
        self._versions = itertools.count(1)
        self._watches = []
        self._names = itertools.count()

    # -- the API ----------------------------------------------------------------------------------

    async def list(self, kind, labels=None):
        self._check(kind.name)
        wanted = (labels or {}).items()
        found = [one for (name, _, _), one in self.objects.items() if name == kind.name
                 and wanted <= (one["metadata"].get("labels") or {}).items()]
        return found, str(next(self._versions))

    async def watch(self, kind, version):
        self._check(kind.name)
        queue = asyncio.Queue()
        # What happened between the list and the watch is not lost.
        for (name, _, _), one in self.objects.items():
            if name == kind.name and int(one["metadata"]["resourceVersion"]) > int(version):
                queue.put_nowait(("MODIFIED", one))
        self._watches.append((kind.name, queue))
        try:
            while (happened := await queue.get()) is not None:
                yield happened
        finally:
            self._watches.remove((kind.name, queue))

    async def get(self, kind, namespace, name):
        self._check(kind.name)
        return self.objects.get((kind.name, namespace, name))

    async def create(self, kind, document):
        self._check(kind.name)
        metadata = document["metadata"]
        if (kind.name, metadata["namespace"], metadata["name"]) in self.objects:
            raise ClusterError("it exists", 409)
        self.put(kind.name, document)

    async def replace(self, kind, document):
        self._check(kind.name)
        metadata = document["metadata"]
        known = self.objects.get((kind.name, metadata["namespace"], metadata["name"]))
        if known is None or known["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise ClusterError("somebody has changed it", 409)
        self.put(kind.name, document)

    async def act(self, action):
        if self.failing is not None:
            raise self.failing
        self.actions.append(action)
        match action:
            case Apply(document, manager):
                self._apply(document, manager)
            case Release(ref):
                self._release(ref)
            case Create(document):
                self.put_new(document)
            case Delete(ref):
                self.collect(ref)
            case Scale(ref, replicas, before):
                known = self.objects.get(tuple(ref), {"spec": {}})["spec"].get("replicas", 1)
                if before not in (None, known):
                    raise ClusterError("somebody has scaled it", 409)
                self.patch(ref, {"spec": {"replicas": replicas},
                                 "metadata": {"managedFields": self._scaled(ref)}})
            case Annotate(ref, key, value):
                self.patch(ref, {"metadata": {"annotations": {key: value}}})
            case Label(ref, labels, replicas):
                spec = {} if replicas is None else {"spec": {"replicas": replicas}}
                self.patch(ref, {"metadata": {"labels": {**labels}}, **spec})
            case SetStatus(ref, status):
                self.patch(ref, {"status": status}, generation=False)
            case Tell():
                self.events.append(action)

    # -- the world --------------------------------------------------------------------------------

    def put(self, kind, document):
        """Write an object, and tell those who watch."""
        metadata = document["metadata"]
        key = (kind, metadata["namespace"], metadata["name"])
        known = self.objects.get(key)
        generation = metadata.get("generation", 1)
        if known is not None:
            generation = known["metadata"]["generation"] + (known.get("spec")
                                                            != document.get("spec"))
        whole = {**cluster.metadata(metadata["name"]), **metadata, "generation": generation,
                 "resourceVersion": str(next(self._versions))}
        self.objects[key] = {**document, "kind": kind, "metadata": whole}
        self._tell(kind, "MODIFIED" if known else "ADDED", self.objects[key])

    def put_new(self, document):
        metadata = document["metadata"]
        if (document["kind"], metadata["namespace"], metadata["name"]) in self.objects:
            raise ClusterError("it exists", 409)
        self.put(document["kind"], document)

    def collect(self, ref):
        """Delete an object, which may be gone already, and a Deployment's pods with it."""
        one = self.objects.get(tuple(ref))
        if one is None:
            return
        self.delete(ref.kind, ref.name, ref.namespace)
        if ref.kind == "Deployment":
            labels = one["spec"]["selector"]["matchLabels"]
            for name, pod in self.of("Pod").items():
                if pod["metadata"]["labels"] == labels:
                    self.delete("Pod", name)

    def patch(self, ref, patch, *, generation=True):
        key = tuple(ref)
        if key not in self.objects:
            raise ClusterError("there is none", 404)
        self.put(ref.kind, merged(self.objects[key], patch))

    def delete(self, kind, name, namespace="ns"):
        self._tell(kind, "DELETED", self.objects.pop((kind, namespace, name)))

    def of(self, kind):
        """All objects of a kind, by name."""
        return {name: one for (known, _, name), one in self.objects.items() if known == kind}

    def play(self, *, ready=True):
        """Let every Deployment have its pods. The cheapest pods end first."""
        for name, one in self.of("Deployment").items():
            labels = one["spec"]["selector"]["matchLabels"]
            pods = [pod for pod in self.of("Pod").values() if pod["metadata"]["labels"] == labels]
            wanted = one["spec"].setdefault("replicas", 1)
            for _ in range(wanted - len(pods)):
                self.put("Pod", cluster.pod(f"{name}-{next(self._names)}", labels, ready=ready))
            cost = {pod["metadata"]["name"]: int((pod["metadata"].get("annotations") or {}).get(
                "controller.kubernetes.io/pod-deletion-cost", 0)) for pod in pods}
            for pod in sorted(cost, key=cost.get)[:max(0, len(pods) - wanted)]:
                self.delete("Pod", pod)
            if ready:
                for pod in self.of("Pod").values():
                    if pod["status"]["conditions"][0]["status"] != "True":
                        self.put("Pod", cluster.pod(pod["metadata"]["name"], labels))

    def hang_up(self):
        """End every watch, as API servers do now and then."""
        for _, queue in self._watches:
            queue.put_nowait(None)

    def _apply(self, document, manager):
        metadata = document["metadata"]
        key = (document["kind"], metadata["namespace"], metadata["name"])
        known = self.objects.get(key, {})
        replicas = known.get("spec", {}).get("replicas")
        if manager == CREATOR and replicas not in (None, document["spec"]["replicas"]) and not any(
                one["manager"] == CREATOR and "f:replicas" in one["fieldsV1"]["f:spec"]
                for one in known["metadata"].get("managedFields", ())):
            raise ClusterError("somebody else owns the replicas", 409)
        self.put(document["kind"], merged(known, {**document, "metadata": {
            **metadata, "managedFields": cluster.managed(known, document, manager)}}))

    def _release(self, ref):
        if tuple(ref) not in self.objects:
            raise ClusterError("there is none", 404)
        self.patch(ref, {"metadata": {
            "managedFields": cluster.released(self.objects[tuple(ref)])}})

    def _scaled(self, ref):
        """Managed fields once the scale subresource has taken the replicas."""
        known = self.objects.get(tuple(ref), {}).get("metadata", {}).get("managedFields", ())
        return [{**one, "fieldsV1": {"f:spec": {key: value for key, value
                                                in one["fieldsV1"]["f:spec"].items()
                                                if key != "f:replicas"}}} for one in known]

    def _tell(self, kind, happened, document):
        for name, queue in self._watches:
            if name == kind:
                queue.put_nowait((happened, document))

    def _check(self, kind):
        if self.failing is not None:
            raise self.failing
        if kind in self.absent:
            raise ClusterError("404 page not found", 404)
        assert kind in {one.name for one in (*WATCHED, *POOL_KINDS)} | {"Lease", "ConfigMap"}, kind
