"""The objects of a namespace, each found without a look at all of them."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from penstock.fleet.values_kubernetes import KubernetesOptions
from penstock.serving.kubernetes.names import ROLE_SCALER, ROLE_SET, workload_name
from penstock.serving.kubernetes.objects import (
    Autoscaler,
    FleetObject,
    Pod,
    Ref,
    ReplicaGroupObject,
    Thing,
    Workload,
)

T = TypeVar("T")


class Index:
    """Objects of a namespace, kept up to date by ``put`` and ``drop``."""

    def __init__(self, *things: Thing) -> None:
        self.fleets: dict[Ref, FleetObject] = {}
        self.groups: dict[Ref, ReplicaGroupObject] = {}
        self._workloads: dict[Ref, Workload] = {}
        self._by_label = _ByLabel[Workload]()
        self._pods = _ByLabel[Pod]()
        self._autoscalers: dict[tuple[str, str], dict[Ref, Autoscaler]] = {}
        for one in things:
            self.put(one)

    def put(self, thing: Thing, before: Thing | None = None) -> None:
        """Take an object, in the place of what it was before."""
        if before is not None:
            self.drop(before)
        match thing:
            case FleetObject():
                self.fleets[thing.ref] = thing
            case ReplicaGroupObject():
                self.groups[thing.ref] = thing
            case Workload():
                self._workloads[thing.ref] = thing
                self._by_label.put(thing.ref.kind + thing.ref.name, thing.labels, thing)
            case Pod():
                self._pods.put(thing.name, thing.labels, thing)
            case Autoscaler():
                target = (thing.target_kind, thing.target_name)
                self._autoscalers.setdefault(target, {})[thing.ref] = thing

    def drop(self, thing: Thing) -> None:
        """Forget an object."""
        match thing:
            case FleetObject():
                self.fleets.pop(thing.ref, None)
            case ReplicaGroupObject():
                self.groups.pop(thing.ref, None)
            case Workload():
                self._workloads.pop(thing.ref, None)
                self._by_label.drop(thing.ref.kind + thing.ref.name, thing.labels)
            case Pod():
                self._pods.drop(thing.name, thing.labels)
            case Autoscaler():
                self._autoscalers.get((thing.target_kind, thing.target_name), {}).pop(
                    thing.ref, None)

    def workloads(self, fleet: FleetObject, number: int, options: KubernetesOptions
                  ) -> list[Workload]:
        """Return the workloads that a group may mean."""
        adopt = options.adopt
        if adopt is not None and adopt.name is None:
            return [one for one in self._by_label.find(adopt.labels)
                    if one.ref.kind == adopt.kind]
        found = self._workloads.get(named_workload(fleet.ref, number, options))
        return [] if found is None else [found]

    def labelled(self, labels: Mapping[str, str]) -> list[Workload]:
        """Return the workloads that have labels, of which there must be one."""
        return self._by_label.find(labels)

    def pods(self, selector: Mapping[str, str]) -> tuple[Pod, ...]:
        """Return the pods that a selector selects."""
        return tuple(one for one in self._pods.find(selector) if one.matches(selector))

    def autoscaler(self, ref: Ref) -> Autoscaler | None:
        """Return the autoscaler of an object, None where there is none."""
        return next(iter(self._autoscalers.get((ref.kind, ref.name), {}).values()), None)


def named_workload(fleet: Ref, number: int, options: KubernetesOptions) -> Ref:
    """Return the workload of a group that adopts by name, or creates: of a role of a
    DisaggregatedSet, the object that has its scale."""
    adopt = options.adopt
    if adopt is not None:
        return Ref(adopt.kind, fleet.namespace, adopt.name or "")
    assert options.create is not None, "the file states one of the two"
    if options.set_role is not None:
        key, role = options.set_role
        return Ref(ROLE_SCALER, fleet.namespace, f"{workload_name(fleet.name, key)}-{role}")
    return Ref(options.create.kind, fleet.namespace, workload_name(fleet.name, options.key(number)))


def named_set(fleet: Ref, options: KubernetesOptions) -> Ref | None:
    """Return the DisaggregatedSet of a group, None where it has a workload of its own."""
    if options.set_role is None:
        return None
    return Ref(ROLE_SET, fleet.namespace, workload_name(fleet.name, options.set_role.key))


class _ByLabel(Generic[T]):
    """Things with labels."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, T]] = {}

    def put(self, name: str, labels: Mapping[str, str], thing: T) -> None:
        for label in labels.items():
            self._found.setdefault(label, {})[name] = thing

    def drop(self, name: str, labels: Mapping[str, str]) -> None:
        for label in labels.items():
            there = self._found.get(label, {})
            there.pop(name, None)
            if not there:
                self._found.pop(label, None)

    def find(self, labels: Mapping[str, str]) -> list[T]:
        """Return what has all labels, of which there must be one."""
        some = sorted((self._found.get(label, {}) for label in labels.items()), key=len)
        if not some:
            return []
        return [thing for name, thing in some[0].items()
                if all(name in others for others in some[1:])]
