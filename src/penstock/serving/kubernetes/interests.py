"""The objects that a Fleet depends on: only their changes concern it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.index import named_workload
from penstock.serving.kubernetes.names import workload_name
from penstock.serving.kubernetes.objects import (
    Autoscaler,
    FleetObject,
    InferenceObjective,
    InferencePool,
    ModelRewrite,
    Pod,
    Ref,
    ReplicaGroupObject,
    Thing,
    Workload,
)
from penstock.serving.kubernetes.reconcile import GroupState
from penstock.serving.kubernetes.retire import Retired


@dataclass(frozen=True, slots=True)
class Interests:
    """Objects of a namespace: those ``named`` by kind and name, workloads with certain ``labels``,
    and pods that one of the ``selectors`` selects."""

    named: frozenset[tuple[str, str]]
    labels: tuple[tuple[str, Mapping[str, str]], ...]
    selectors: tuple[Mapping[str, str], ...]

    def include(self, thing: Thing) -> bool:
        """Whether an object is among them."""
        match thing:
            case Pod():
                return any(thing.matches(one) for one in self.selectors)
            case Autoscaler():
                return (thing.target_kind, thing.target_name) in self.named
            case Workload(ref, _, labels):
                return (ref.kind, ref.name) in self.named or any(
                    ref.kind == kind and wanted.items() <= labels.items()
                    for kind, wanted in self.labels)
            case FleetObject(ref) | ReplicaGroupObject(ref):
                return (ref.kind, ref.name) in self.named
            case InferencePool() | InferenceObjective() | ModelRewrite():
                return False  # those of endpoint pickers


def interests(fleet: Ref, values: Fleet, states: Sequence[GroupState],
              gone: Sequence[Retired] = ()) -> Interests:
    """Return what a Fleet depends on, whose groups were in these states, with the workloads of
    former groups. What other Fleets take is not among it: that is looked at from time to time."""
    named, labels = {("Fleet", fleet.name)}, []
    for number, group in enumerate(values.replicas):
        options = group.kubernetes
        if options is None:
            continue
        named.add(("ReplicaGroup", workload_name(fleet.name, options.key(number))))
        if options.adopt is not None and options.adopt.name is None:
            labels.append((options.adopt.kind, options.adopt.labels))
        else:
            ref = named_workload(fleet, number, options)
            named.add((ref.kind, ref.name))
    found = [*(state.workload for state in states if state.workload is not None),
             *(one.workload for one in gone)]
    return Interests(frozenset(named | {(one.ref.kind, one.ref.name) for one in found}),
                     tuple(labels), tuple(one.selector for one in found))
