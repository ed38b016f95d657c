"""Pods of a cluster as the endpoints of a pool: those of the groups' workloads, or those that an
InferencePool selects."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from penstock.core.errors import InputError
from penstock.engines.beside import beside
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.client.state import EngineFacts
from penstock.engines.http import url_of
from penstock.fleet.scaling import slotted
from penstock.fleet.values import Fleet
from penstock.serving.background import background
from penstock.serving.endpoint_picker.pool_rules import NO_RULES, PoolRules, rules_of
from penstock.serving.kubernetes.api import (
    DEPLOYMENT,
    INFERENCE_OBJECTIVES,
    INFERENCE_POOL,
    LEADER_WORKER_SET,
    MODEL_REWRITES,
    POD,
    Cluster,
    Kind,
)
from penstock.serving.kubernetes.objects import FleetObject, InferencePool, Pod, Ref, Thing
from penstock.serving.kubernetes.reconcile import group_states
from penstock.serving.kubernetes.store import Store

KINDS = (DEPLOYMENT, LEADER_WORKER_SET, POD)
POOL_KINDS = (POD, INFERENCE_POOL, *INFERENCE_OBJECTIVES, *MODEL_REWRITES)
_NOWHERE = "http://0.0.0.0:1"

Found = Iterable[tuple[int, Mapping[str, str]]]
"""URLs of the ready endpoints by their names, for each group that has any."""


class PodEndpoints:
    """The endpoints that ``found`` finds. Each has one of its group's places, which the router
    knows, for as long as it is ready; endpoints beyond the places get no requests, and ``note`` is
    told. ``rules`` are those of the pool."""

    def __init__(self, fleet: Fleet, found: Callable[[], Found], note: Callable[[str], None],
                 rules: Callable[[], PoolRules] = lambda: NO_RULES) -> None:
        self.fleet = _everywhere(fleet)
        """The fleet with a replica for every place, and an endpoint, so that its models are on
        offer while no pod is ready."""
        self.rules = rules
        self._found = found
        self._note = note
        self._places = _places(self.fleet)
        self._taken: list[dict[str, int]] = [{} for _ in fleet.replicas]
        self._left_out: set[str] = set()

    def __call__(self) -> list[EngineFacts]:
        """Return the endpoints of now."""
        return [facts for number, ready in self._found() for facts in self._placed(number, ready)]

    def _placed(self, number: int, ready: Mapping[str, str]) -> list[EngineFacts]:
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
                           "places; expected a larger count or max_replicas")
        return [replace(places[place], url=ready[name]) for name, place in taken.items()]


class PoolObjects:
    """An InferencePool of a store, and what refers to the pool. ``note`` is told once where there
    is no such pool."""

    def __init__(self, ref: Ref, store: Store, note: Callable[[str], None]) -> None:
        self._ref = ref
        self._store = store
        self._note = note
        self._rules: PoolRules | None = None
        self._is_missing = False

    def changed(self, thing: Thing) -> None:
        """Take note of a change in the store."""
        if not isinstance(thing, Pod):
            self._rules = None

    def rules(self) -> PoolRules:
        """Return the rules of now."""
        if self._rules is None:
            self._rules = rules_of(self._ref.name, self._all(INFERENCE_OBJECTIVES),
                                   self._all(MODEL_REWRITES))
        return self._rules

    def found(self) -> Found:
        """Return the ready endpoints of the pool, for the one group of the fleet: each port of a
        pod is an endpoint."""
        pool: InferencePool | None = next(
            (one for one in self._all((INFERENCE_POOL,)) if one.ref == self._ref), None)
        if (pool is None) != self._is_missing and self._store.is_whole:
            self._is_missing = pool is None
            what = "there is none, so there are no endpoints" if pool is None else "is there now"
            self._note(f"InferencePool {self._ref.namespace}/{self._ref.name}: {what}")
        if pool is None:
            return []
        index = self._store.observed(self._ref.namespace, {}).index
        return [(0, {f"{pod.name}:{port}": url_of(pod.address, port)
                     for pod in index.pods(pool.selector) if _is_ready(pod)
                     for port in pool.ports})]

    async def tell_absent(self) -> None:
        """Tell once which kinds of object the cluster lacks."""
        await self._store.whole.wait()
        for variants in ((INFERENCE_POOL,), INFERENCE_OBJECTIVES, MODEL_REWRITES):
            if self._store.absent.issuperset(variants):
                groups = " and ".join(one.api_version for one in variants)
                self._note(f"{variants[0].name}: the cluster has no such kind of object in "
                           f"{groups}, so there are none")

    def _all(self, kinds: Iterable[Kind]) -> Iterator[Any]:
        return (one for kind in kinds for one in self._store.things(kind, self._ref.namespace))


def workload_pods(fleet: Fleet, namespace: str, store: Store) -> Callable[[], Found]:
    """Return the function that finds the ready pods of a fleet's groups."""
    known = FleetObject(Ref("Fleet", namespace, fleet.name), "", 0, {}, {})

    def found() -> Found:
        for state in group_states(known, fleet, store.observed(namespace, {})):
            yield state.number, {pod.name: url_of(pod.address, state.options.port)
                                 for pod in state.pods if _is_ready(pod)}

    return found


def _is_ready(pod: Pod) -> bool:
    return pod.serves and bool(pod.address)


def _everywhere(fleet: Fleet) -> Fleet:
    slots = slotted(fleet)
    return replace(slots, replicas=tuple(
        replace(group, endpoints=(_NOWHERE,) * group.count) for group in slots.replicas))


def _places(fleet: Fleet) -> list[list[EngineFacts]]:
    """Return the facts of the engines of each group, one for each place."""
    facts = iter(facts_of(fleet))
    return [[next(facts) for _ in range(group.count)] for group in fleet.replicas]


def check_pods(fleet: Fleet) -> None:
    """Raise InputError for a group that has no workload on a cluster."""
    for number, group in enumerate(fleet.replicas):
        if group.kubernetes is None:
            raise InputError(f"replicas[{number}].kubernetes: is left out; expected adopt or "
                             "create, whose pods are the endpoints")


def pool_ref(text: str, fleet: Fleet, namespace: str | None) -> Ref:
    """Return the reference of a pool that is named as ``NAME`` or ``NAMESPACE/NAME``. Raises
    InputError, also for a fleet with several groups: a pool's pods are all alike."""
    parts = text.split("/")
    if len(parts) > 2 or not all(parts):
        raise InputError(f"--pool {text[:80]}: expected NAMESPACE/NAME")
    if len(parts) == 2 and namespace not in (None, parts[0]):
        raise InputError(f"--pool {text[:80]}: expected the namespace of --namespace, "
                         f"{str(namespace)[:60]}, or no --namespace")
    if len(fleet.replicas) != 1:
        raise InputError(f"replicas: found {len(fleet.replicas)} entries; expected one, since the "
                         "pods of an InferencePool are all alike")
    return Ref(INFERENCE_POOL.name, parts[0] if len(parts) == 2 else namespace or "", parts[-1])


@asynccontextmanager
async def pod_endpoints(fleet: Fleet, cluster: Cluster, note: Callable[[str], None],
                        pool: Ref | None = None) -> AsyncIterator[PodEndpoints]:
    """Yield the endpoints of a fleet on a cluster, or of a pool there, which are followed until the
    context ends."""
    namespace = cluster.namespace or cluster.own_namespace
    try:
        if pool is None:
            store = Store(cluster, lambda _: None, note, KINDS)
            async with background([store.run], note):
                yield PodEndpoints(fleet, workload_pods(fleet, namespace, store), note)
            return
        store = Store(cluster, lambda thing: objects.changed(thing), note, POOL_KINDS)
        objects = PoolObjects(pool._replace(namespace=pool.namespace or namespace), store, note)
        async with background([store.run], note), beside(objects.tell_absent()):
            yield PodEndpoints(fleet, objects.found, note, objects.rules)
    finally:
        await cluster.close()
