"""Workloads of groups that a Fleet no longer has: they serve until other replicas do, and go."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.actions import Action, Delete
from penstock.serving.kubernetes.index import Index, named_workload
from penstock.serving.kubernetes.manifests import label_value
from penstock.serving.kubernetes.names import (
    ACCELERATOR_LABEL,
    FLEET_LABEL,
    MODEL_LABEL,
    WIDTH_LABEL,
)
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
        return self.num_held > 0

    @property
    def num_held(self) -> int:
        """Number of replicas that hold machines, or will."""
        return max(self.workload.replicas, len(self.pods))

    @property
    def ready(self) -> int:
        """Number of pods that serve."""
        return sum(1 for one in self.pods if one.is_ready and not one.is_ending)

    @property
    def accelerator(self) -> str:
        """Label of the accelerator, empty where an older Penstock wrote none."""
        return self.workload.labels.get(ACCELERATOR_LABEL, "")

    @property
    def width(self) -> int:
        """Number of accelerators of a replica."""
        return int(self.workload.labels.get(WIDTH_LABEL, 1))


def retired(fleet: FleetObject, values: Fleet, states: Sequence[GroupState], index: Index
            ) -> list[Retired]:
    """Return the workloads of former groups, which the Fleet owns and no group means."""
    kept = {state.workload.ref for state in states if state.workload is not None} | {
        named_workload(fleet.ref, number, group.kubernetes)
        for number, group in enumerate(values.replicas) if group.kubernetes is not None}
    return [Retired(one, index.pods(one.selector), index.autoscaler(one.ref) is not None)
            for one in index.labelled({FLEET_LABEL: fleet.ref.name})
            if one.owner == fleet.uid and one.ref not in kept]


@dataclass(frozen=True, slots=True)
class Switch:
    """A change from former groups to the present ones, whose wanted replicas are ``targets``.

    Accelerators that the file limits are shared: new replicas start as far as there is room, and
    where there is none, former replicas give way to them one after another.
    """

    values: Fleet
    states: Sequence[GroupState]
    gone: Sequence[Retired]
    targets: Mapping[int, int]

    def allowed(self) -> dict[int, int]:
        """Return the targets as far as former groups leave room for them."""
        if not any(one.serves for one in self.gone):
            return dict(self.targets)
        free, found = self._free(), dict(self.targets)
        for state in self.states:
            name, width = self._needs(state)
            wanted, present = self._wanted(state), _present(state)
            if wanted > present:
                more = max(0, int(min(wanted - present, free.get(name, inf) // width)))
                found[state.number] = present + more
                free[name] = free.get(name, inf) - more * width
        return found

    def steps(self, index: Index, work: Mapping[str, int]) -> Iterator[Action]:
        """Yield the steps by which former groups end.

        A workload keeps its replicas until the model's present groups have all of theirs ready.
        Then its pods end, each after its last answers, and the workload is deleted once they are
        gone.
        """
        for one in self.gone:
            heirs = self._heirs(one)
            if not all(self._is_ready(state) for state in heirs):
                if not one.is_scaled:
                    yield from scaled_to(one, one.workload.replicas - self._give_way(one, heirs),
                                         work)
            elif one.serves and not one.is_scaled:
                yield from scaled_to(one, 0, work)
            else:
                yield Delete(one.workload.ref)
                group = Ref("ReplicaGroup", one.workload.ref.namespace, one.workload.ref.name)
                if group in index.groups:
                    yield Delete(group)

    def _give_way(self, one: Retired, heirs: Sequence[GroupState]) -> int:
        """Return how many replicas of a former group end so that a new one can start: none while
        there is room, while anything starts or ends, and where too few would serve."""
        waits = [state for state in heirs if self._wanted(state) > _present(state)
                 and self._needs(state)[0] == one.accelerator]
        moves = any(state.starting or state.draining or state.ready < _present(state)
                    for state in heirs) or any(
            len(former.pods) > former.workload.replicas for former in self.gone)
        free = self._free().get(one.accelerator, inf)
        if not waits or moves:
            return 0
        lacks = min(self._needs(state)[1] for state in waits) - free
        number = ceil(lacks / one.width) if 0 < lacks < inf else 0
        model = one.workload.labels.get(MODEL_LABEL)
        serve = sum(state.ready for state in heirs) + sum(
            former.ready for former in self.gone
            if former.workload.labels.get(MODEL_LABEL) == model)
        enough = serve - number >= self.values.plan.min_replicas
        return number if number <= one.workload.replicas and enough else 0

    def _free(self) -> dict[str, float]:
        """Return the accelerators that nothing holds, by their label, where the file limits
        them."""
        free = {label_value(pool.accelerator.name): float(pool.count)
                for pool in self.values.accelerators if pool.count is not None}
        held = [(one.accelerator, one.num_held * one.width) for one in self.gone] + [
            (name, max(_present(state), len(state.pods)) * width) for state in self.states
            for name, width in [self._needs(state)]]
        for name, number in held:
            if name in free:
                free[name] -= number
        return free

    def _needs(self, state: GroupState) -> tuple[str, int]:
        """Return the label and the number of the accelerators of a group's replica."""
        group = self.values.replicas[state.number]
        return label_value(group.accelerator.name), group.parallelism.num_accelerators

    def _wanted(self, state: GroupState) -> int:
        if state.workload is not None:
            return state.wanted(self.targets)
        return self.targets.get(state.number, self.values.replicas[state.number].count)

    def _heirs(self, one: Retired) -> list[GroupState]:
        model = one.workload.labels.get(MODEL_LABEL)
        return [state for state in self.states if label_value(
            self.values.replicas[state.number].served_name) == model]

    def _is_ready(self, state: GroupState) -> bool:
        return state.workload is not None and state.problem is None \
            and state.ready >= self._wanted(state)


def _present(state: GroupState) -> int:
    return 0 if state.workload is None else state.workload.replicas


def scaled_to(one: Retired, replicas: int, work: Mapping[str, int]) -> Iterator[Action]:
    """Yield the steps to fewer replicas of a former group, none where it has them."""
    if replicas < one.workload.replicas:
        yield from scaled(one.workload, one.pods, replicas, work)
