"""Workloads of groups that a Fleet no longer has: they serve until other replicas do, and go."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.actions import Action, Delete
from penstock.serving.kubernetes.index import Index, named_workload
from penstock.serving.kubernetes.manifests import labels
from penstock.serving.kubernetes.names import FLEET_LABEL, MODEL_LABEL
from penstock.serving.kubernetes.objects import FleetObject, Pod, Ref, Workload
from penstock.serving.kubernetes.reconcile import GroupState, scaled


@dataclass(frozen=True, slots=True)
class Retired:
    """A workload that Penstock created for a group which the Fleet no longer has. ``is_scaled``
    says that an autoscaler changes its replicas."""

    workload: Workload
    pods: tuple[Pod, ...]
    is_scaled: bool = False

    @property
    def serves(self) -> bool:
        """Whether it may serve requests."""
        return self.workload.replicas > 0 or bool(self.pods)


def retired(fleet: FleetObject, values: Fleet, states: Sequence[GroupState], index: Index
            ) -> list[Retired]:
    """Return the workloads of former groups, which the Fleet owns and no group means."""
    kept = {state.workload.ref for state in states if state.workload is not None} | {
        named_workload(fleet.ref, number, group.kubernetes)
        for number, group in enumerate(values.replicas) if group.kubernetes is not None}
    return [Retired(one, index.pods(one.selector), index.autoscaler(one.ref) is not None)
            for one in index.labelled({FLEET_LABEL: fleet.ref.name})
            if one.owner == fleet.uid and one.ref not in kept]


def retire(fleet: FleetObject, values: Fleet, states: Sequence[GroupState], index: Index,
           gone: Sequence[Retired], targets: Mapping[int, int], work: Mapping[str, int]
           ) -> Iterator[Action]:
    """Yield the steps by which former groups end.

    A workload keeps its replicas until the model's present groups have all of theirs ready. Then
    its pods end, each after its last answers, and the workload is deleted once they are gone.
    """
    for one in gone:
        model = one.workload.labels.get(MODEL_LABEL)
        heirs = [state for state in states
                 if labels(fleet, values, state.number)[MODEL_LABEL] == model]
        if not all(_is_ready(state, targets) for state in heirs):
            continue
        if one.serves and not one.is_scaled:
            if one.workload.replicas:
                yield from scaled(one.workload, one.pods, 0, work)
            continue
        yield Delete(one.workload.ref)
        group = Ref("ReplicaGroup", one.workload.ref.namespace, one.workload.ref.name)
        if group in index.groups:
            yield Delete(group)


def _is_ready(state: GroupState, targets: Mapping[int, int]) -> bool:
    return state.workload is not None and state.problem is None \
        and state.ready >= state.wanted(targets)
