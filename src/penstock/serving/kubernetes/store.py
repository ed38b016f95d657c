"""The objects of a cluster, kept up to date by lists and watches."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.api import (
    DEPLOYMENT,
    FLEET,
    HPA,
    INFERENCE_OBJECTIVES,
    INFERENCE_POOL,
    LEADER_WORKER_SET,
    MODEL_REWRITES,
    POD,
    REPLICA_GROUP,
    ROLE_SCALERS,
    ROLE_SETS,
    SCALED_OBJECT,
    WATCHED,
    Cluster,
    ClusterError,
    Kind,
)
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.objects import Document, FleetObject, Ref, Thing
from penstock.serving.kubernetes.reconcile import Observed

_READERS: Mapping[Kind, Callable[[Document], Thing]] = {
    FLEET: objects.fleet, REPLICA_GROUP: objects.replica_group, DEPLOYMENT: objects.workload,
    LEADER_WORKER_SET: objects.workload, ROLE_SETS: objects.workload,
    ROLE_SCALERS: objects.workload, POD: objects.pod, HPA: objects.autoscaler,
    SCALED_OBJECT: objects.autoscaler, INFERENCE_POOL: objects.inference_pool,
    **dict.fromkeys(INFERENCE_OBJECTIVES, objects.inference_objective),
    **dict.fromkeys(MODEL_REWRITES, objects.model_rewrite)}
_RETRY_S, _ABSENT_S = 2.0, 60.0
_STALE_S = 0.2
"""Wait before a list after a watch whose version is too old, so that no such answer is met by lists
without end."""


class Store:
    """Objects of some kinds. ``changed`` is called with what an object was before a change, and
    with what it is then."""

    def __init__(self, cluster: Cluster, changed: Callable[[Thing], None],
                 note: Callable[[str], None], kinds: Sequence[Kind] = WATCHED) -> None:
        self.unknown = set(kinds)
        self.absent: set[Kind] = set()
        """The optional kinds that the cluster lacks."""
        self.whole = asyncio.Event()
        self._kinds = kinds
        self._cluster = cluster
        self._changed = changed
        self._note = note
        self._objects: dict[Kind, dict[Ref, Thing]] = {kind: {} for kind in kinds}
        self._namespaces: dict[str, Index] = {}

    @property
    def is_whole(self) -> bool:
        """Whether every kind has been listed once: nothing may be decided before."""
        return not self.unknown

    @property
    def has_sets(self) -> bool:
        """Whether the cluster has DisaggregatedSets, whose roles have scales."""
        return not self.absent & {ROLE_SETS, ROLE_SCALERS}

    def fleets(self) -> list[FleetObject]:
        """Return all Fleets."""
        return [fleet for there in self._namespaces.values() for fleet in there.fleets.values()]

    def fleet(self, ref: Ref) -> FleetObject | None:
        """Return a Fleet, None where there is none."""
        return self._index(ref.namespace).fleets.get(ref)

    def observed(self, namespace: str, work: Mapping[str, int]) -> Observed:
        """Return the objects of a namespace."""
        return Observed(self._index(namespace), work)

    def things(self, kind: Kind, namespace: str) -> list[Any]:
        """Return the objects of a kind in a namespace."""
        return [one for ref, one in self._objects[kind].items() if ref.namespace == namespace]

    async def run(self) -> None:
        """Follow all kinds, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for kind in self._kinds:
                tasks.create_task(self._follow(kind))

    async def _follow(self, kind: Kind) -> None:
        told = ""
        while True:
            wait_s = _RETRY_S
            try:
                await self._once(kind)
                told = ""
            except ClusterError as error:
                wait_s = max(_RETRY_S, error.retry_after_s)
                if error.status == 404 and kind.optional:
                    self.absent.add(kind)
                    self._know(kind)
                    wait_s = _ABSENT_S
                elif error.status == 410:
                    wait_s = _STALE_S
                elif told != (told := str(error)):
                    self._note(f"{kind.plural}: {error}")
            await asyncio.sleep(wait_s)

    async def _once(self, kind: Kind) -> None:
        """List a kind, and take what happens until the connection ends."""
        listed, version = await self._cluster.list(kind)
        self.absent.discard(kind)
        known = self._objects[kind]
        there = {objects.ref_of(one): _READERS[kind](one) for one in listed}
        for ref in [ref for ref in known if ref not in there]:
            self._drop(kind, ref)
        for ref, thing in there.items():
            self._put(kind, ref, thing)
        self._know(kind)
        async for happened, one in self._cluster.watch(kind, version):
            ref = objects.ref_of(one)
            if happened == "DELETED":
                self._drop(kind, ref)
            else:
                self._put(kind, ref, _READERS[kind](one))

    def _know(self, kind: Kind) -> None:
        self.unknown.discard(kind)
        if self.is_whole:
            self.whole.set()

    def _index(self, namespace: str) -> Index:
        return self._namespaces.setdefault(namespace, Index())

    def _put(self, kind: Kind, ref: Ref, thing: Thing) -> None:
        before = self._objects[kind].get(ref)
        if thing == before:
            return  # something has changed that no decision needs
        self._objects[kind][ref] = thing
        self._index(ref.namespace).put(thing, before)
        if before is not None:
            self._changed(before)
        self._changed(thing)

    def _drop(self, kind: Kind, ref: Ref) -> None:
        before = self._objects[kind].pop(ref, None)
        if before is not None:
            self._index(ref.namespace).drop(before)
            self._changed(before)
