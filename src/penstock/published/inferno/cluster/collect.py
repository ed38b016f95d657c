"""The collector: servers of Inferno as the cluster and Prometheus show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.core.errors import InputError
from penstock.published.inferno.cluster.labels import (
    NAME,
    SELECTOR,
    Managed,
    managed,
    place,
    unknown_labels,
)
from penstock.published.inferno.cluster.series import (
    Backend,
    Figures,
    Key,
    Measured,
    Series,
    measured,
)
from penstock.serving.kubernetes.api import DEPLOYMENT, POD, Cluster
from penstock.serving.kubernetes.objects import Document, Pod, Ref, pod, ref_of
from penstock.serving.scaling.prometheus import PrometheusError

Origin = Literal["prometheus", "labels"]


@dataclass(frozen=True, slots=True)
class Observed:
    """A server as it was observed, and where its load comes from."""

    managed: Managed
    measured: Measured
    origin: Origin


@dataclass(frozen=True, slots=True)
class Held:
    """A Deployment for which nothing can be decided, and why. Its replicas stay."""

    ref: Ref
    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collected:
    """All servers of a cycle, the pods that may be theirs, Deployments that are left alone, and
    remarks for the operator."""

    servers: Sequence[Observed]
    pods: Sequence[Pod] = ()
    held: Sequence[Held] = ()
    remarks: Sequence[str] = ()

    def pods_of(self, one: Managed) -> list[Pod]:
        """Return the pods of a server that do not end."""
        return [each for each in self.pods if each.namespace == one.ref.namespace
                and each.matches(one.selector) and not each.is_ending]


async def managed_documents(cluster: Cluster) -> list[Document]:
    """Return the Deployments that Inferno manages, in the order of their names. Raises
    ClusterError."""
    documents, _ = await cluster.list(DEPLOYMENT, SELECTOR)
    return sorted(documents, key=ref_of)


async def all_pods(cluster: Cluster) -> list[Pod]:
    """Return the pods of the cluster, or of its namespace. Raises ClusterError."""
    return [pod(one) for one in (await cluster.list(POD))[0]]


async def collect(cluster: Cluster, series: Series | None, backend: Backend) -> Collected:
    """Observe all servers once. Raises ClusterError."""
    documents, pods = await managed_documents(cluster), await all_pods(cluster)
    figures, remarks = await _figures(series)
    servers: list[Observed] = []
    held: list[Held] = []
    taken: dict[str, Ref] = {}
    for document in documents:
        remarks += unknown_labels(document)
        try:
            one = managed(document)
            _check_own_name(one, taken)
            found = _observed(one, figures, keys_of(one, pods, backend))
            servers.append(found)
            taken[one.name] = one.ref
        except InputError as error:
            held.append(Held(ref_of(document), document["metadata"].get("uid", ""), str(error)))
    return Collected(servers, pods, held, remarks)


async def _figures(series: Series | None) -> tuple[Figures | None, list[str]]:
    if series is None:
        return None, []
    try:
        return await series.read(), []
    except PrometheusError as error:
        return None, [f"Prometheus {error}; labels state the loads"]


def keys_of(one: Managed, pods: Sequence[Pod], backend: Backend) -> list[Key]:
    """Return the keys of a server's series: its job, or its pods."""
    if backend == "serversim":
        return [(one.ref.name,)]
    return [(each.namespace, each.name) for each in pods
            if each.namespace == one.ref.namespace and each.matches(one.selector)]


def _check_own_name(one: Managed, taken: dict[str, Ref]) -> None:
    if one.name in taken:
        raise InputError(f"{place(one.ref)}: label {NAME}: {one.name!r} is the name of "
                         f"{place(taken[one.name])}, too; expected a name of its own")


def _observed(one: Managed, figures: Figures | None, keys: Sequence[Key]) -> Observed:
    """Return a server with the load of Prometheus, or else with that of its labels."""
    found = None if figures is None else measured(figures, keys)
    if found is not None:
        return Observed(one, found, "prometheus")
    if one.load is None:
        raise InputError(f"{place(one.ref)}: its load is not known: no completed requests in "
                         "Prometheus, and no label inferno.server.load.rpm")
    return Observed(one, Measured(one.load), "labels")
