"""The objects of a cluster, kept up to date by lists and watches."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.serving.kubernetes import objects
from penstock.serving.kubernetes.api import (
    DEPLOYMENT,
    FLEET,
    HPA,
    LEADER_WORKER_SET,
    POD,
    REPLICA_GROUP,
    SCALED_OBJECT,
    WATCHED,
    Cluster,
    ClusterError,
    Kind,
)
from penstock.serving.kubernetes.objects import Autoscaler, Document, FleetObject, Ref
from penstock.serving.kubernetes.reconcile import Observed

_READERS: Mapping[Kind, Callable[[Document], Any]] = {
    FLEET: objects.fleet, REPLICA_GROUP: objects.replica_group, DEPLOYMENT: objects.workload,
    LEADER_WORKER_SET: objects.workload, POD: objects.pod, HPA: objects.autoscaler,
    SCALED_OBJECT: objects.autoscaler}
_RETRY_S, _ABSENT_S = 2.0, 60.0


class Store:
    """Objects of some kinds. ``changed`` is called for every change."""

    def __init__(self, cluster: Cluster, changed: Callable[[], None],
                 note: Callable[[str], None], kinds: Sequence[Kind] = WATCHED) -> None:
        self.unknown = set(kinds)
        self._kinds = kinds
        self._cluster = cluster
        self._changed = changed
        self._note = note
        self._objects: dict[Kind, dict[Ref, Any]] = {kind: {} for kind in WATCHED}

    @property
    def is_whole(self) -> bool:
        """Whether every kind has been listed once: nothing may be decided before."""
        return not self.unknown

    def fleets(self) -> list[FleetObject]:
        """Return all Fleets."""
        return [*self._objects[FLEET].values()]

    def observed(self, namespace: str, work: Mapping[str, int]) -> Observed:
        """Return the objects of a namespace."""
        def here(*kinds: Kind) -> list[Any]:
            return [one for kind in kinds for ref, one in self._objects[kind].items()
                    if ref.namespace == namespace]

        found: list[Autoscaler] = here(HPA, SCALED_OBJECT)
        return Observed(here(DEPLOYMENT, LEADER_WORKER_SET), here(POD), here(REPLICA_GROUP), found,
                        work)

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
                if error.status == 404 and kind.optional:
                    self.unknown.discard(kind)
                    wait_s = _ABSENT_S
                elif error.status == 410:
                    wait_s = 0.0
                elif told != (told := str(error)):
                    self._note(f"{kind.plural}: {error}")
            await asyncio.sleep(wait_s)

    async def _once(self, kind: Kind) -> None:
        """List a kind, and take what happens until the connection ends."""
        listed, version = await self._cluster.list(kind)
        self._objects[kind] = {objects.ref_of(one): _READERS[kind](one) for one in listed}
        self.unknown.discard(kind)
        self._changed()
        async for happened, one in self._cluster.watch(kind, version):
            ref = objects.ref_of(one)
            if happened == "DELETED":
                self._objects[kind].pop(ref, None)
            else:
                self._objects[kind][ref] = _READERS[kind](one)
            self._changed()
