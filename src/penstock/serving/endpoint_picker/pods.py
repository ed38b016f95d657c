"""Pods of a cluster as the endpoints of a pool."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from penstock.core.errors import InputError
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.state import EngineFacts
from penstock.engines.http import url_of
from penstock.fleet.scaling import slotted
from penstock.fleet.values import Fleet
from penstock.serving.gateway.background import background
from penstock.serving.kubernetes.api import DEPLOYMENT, LEADER_WORKER_SET, POD, Cluster
from penstock.serving.kubernetes.objects import FleetObject, Pod, Ref
from penstock.serving.kubernetes.reconcile import group_states
from penstock.serving.kubernetes.store import Store

KINDS = (DEPLOYMENT, LEADER_WORKER_SET, POD)
_NOWHERE = "http://0.0.0.0:1"


class PodEndpoints:
    """The ready pods of a fleet's groups. Each has one of its group's places, which the router
    knows, for as long as the pod is ready; pods beyond the places get no requests, and ``note`` is
    told."""

    def __init__(self, fleet: Fleet, namespace: str, store: Store,
                 note: Callable[[str], None]) -> None:
        self.fleet = slotted(fleet)
        self._groups = fleet
        self._object = FleetObject(Ref("Fleet", namespace, fleet.name), "", 0, {}, {})
        self._store = store
        self._note = note
        self._places = _places(self.fleet)
        self._taken: list[dict[str, int]] = [{} for _ in fleet.replicas]
        self._left_out: set[str] = set()

    def __call__(self) -> list[EngineFacts]:
        """Return the endpoints of now."""
        seen = self._store.observed(self._object.ref.namespace, {})
        found: list[EngineFacts] = []
        for state in group_states(self._object, self._groups, seen):
            ready = {pod.name: pod for pod in state.pods
                     if pod.is_ready and not pod.is_ending and pod.address}
            found += self._placed(state.number, ready, state.options.port)
        return found

    def _placed(self, number: int, ready: dict[str, Pod], port: int) -> list[EngineFacts]:
        places, taken = self._places[number], self._taken[number]
        for name in [name for name in taken if name not in ready]:
            del taken[name]
        free = [place for place in range(len(places)) if place not in taken.values()]
        for name in sorted(ready):
            if name in taken:
                continue
            if free:
                taken[name] = free.pop(0)
            elif name not in self._left_out:
                self._left_out.add(name)
                self._note(f"pod {name} gets no requests: replicas[{number}] has {len(places)} "
                           "places; expected a larger max_replicas")
        return [replace(places[place], url=url_of(ready[name].address, port))
                for name, place in taken.items()]


def _places(fleet: Fleet) -> list[list[EngineFacts]]:
    """Return the facts of the engines of each group, one for each place."""
    everywhere = replace(fleet, replicas=tuple(
        replace(group, endpoints=(_NOWHERE,) * group.count) for group in fleet.replicas))
    facts = iter(facts_of(everywhere))
    return [[next(facts) for _ in range(group.count)] for group in fleet.replicas]


def check_pods(fleet: Fleet) -> None:
    """Raise InputError for a group that has no workload on a cluster."""
    for number, group in enumerate(fleet.replicas):
        if group.kubernetes is None:
            raise InputError(f"replicas[{number}].kubernetes: is left out; expected adopt or "
                             "create, whose pods are the endpoints")


@asynccontextmanager
async def pod_endpoints(fleet: Fleet, cluster: Cluster, note: Callable[[str], None]
                        ) -> AsyncIterator[PodEndpoints]:
    """Yield the endpoints of a fleet on a cluster, which is followed until the context ends."""
    namespace = cluster.namespace or cluster.own_namespace
    store = Store(cluster, lambda _: None, note, KINDS)
    try:
        async with background([store.run], note):
            yield PodEndpoints(fleet, namespace, store, note)
    finally:
        await cluster.close()
