"""Replicas that a Fleet no longer wants: they serve until those that it wants do, and go."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import NamedTuple

from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.actions import Action, Delete
from penstock.serving.kubernetes.index import Index, named_set, named_workload
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
        return sum(1 for one in self.pods if one.serves)

    @property
    def model(self) -> str:
        """Label of the model."""
        return self.workload.labels.get(MODEL_LABEL, "")

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
    groups = [(number, group.kubernetes) for number, group in enumerate(values.replicas)
              if group.kubernetes is not None]
    kept = {state.workload.ref for state in states if state.workload is not None} | {
        named_workload(fleet.ref, *one) for one in groups} | {
        named_set(fleet.ref, options) for _, options in groups}
    return [Retired(one, index.pods(one.selector), index.autoscaler(one.ref) is not None)
            for one in index.labelled({FLEET_LABEL: fleet.ref.name})
            if one.owner == fleet.uid and one.ref not in kept]


class _Former(NamedTuple):
    """Replicas that the fleet no longer wants: all of a retired workload, or those of a group
    beyond its wanted number. ``end`` is how many may end."""

    ref: Ref
    model: str
    accelerator: str
    width: int
    end: int


@dataclass(frozen=True, slots=True)
class Switch:
    """A change from former replicas to those that are wanted now, ``targets`` by group.

    Former replicas serve until the model's groups have all of theirs ready. Accelerators that the
    file limits are shared: new replicas start as far as there is room, and where there is none,
    former ones give way to them one after another. Where a policy scales, the policy decides when
    its groups shrink.
    """

    values: Fleet
    states: Sequence[GroupState]
    gone: Sequence[Retired]
    targets: Mapping[int, int]

    def allowed(self) -> dict[int, int]:
        """Return the targets for the present step."""
        found, free, lacking = dict(self.targets), self._free(), self._lacking()
        shrinking = {one.ref: one for one in self._surplus()}
        if not shrinking and not any(one.serves for one in self.gone):
            return found
        giving = self._giving()
        for state in self.states:
            name, width = self._needs(state)
            wanted, present = self._wanted(state), state.present
            if wanted > present:
                more = max(0, int(min(wanted - present, free.get(name, inf) // width)))
                found[state.number] = present + more
                free[name] = free.get(name, inf) - more * width
            elif state.workload is not None and state.workload.ref in shrinking \
                    and any(one is not state for one in lacking.get(self._model(state), ())):
                found[state.number] = present - giving.get(state.workload.ref, 0)
        return found

    def steps(self, index: Index, work: Mapping[str, int]) -> Iterator[Action]:
        """Yield the steps by which former groups end: their pods, each after its last answers, and
        the workload once they are gone."""
        giving, lacking = self._giving(), self._lacking()
        for one in self.gone:
            ref, present = one.workload.ref, one.workload.replicas
            if one.model in lacking:
                if giving.get(ref):
                    yield from scaled(one.workload, one.pods, present - giving[ref], work)
            elif one.serves and not one.is_scaled:
                if present:
                    yield from scaled(one.workload, one.pods, 0, work)
            else:
                yield Delete(ref)
                group = Ref("ReplicaGroup", ref.namespace, ref.name)
                if group in index.groups:
                    yield Delete(group)

    def _giving(self) -> dict[Ref, int]:
        """Return how many replicas of a workload end so that a new one can start: none while there
        is room, while anything starts or ends, and where too few would serve."""
        free, waits = self._free(), self._waits()
        still = self._still_models() if waits else {}
        for one in (*self._retiring(), *self._surplus()):
            width = waits.get((one.model, one.accelerator))
            if width is None or one.model not in still:
                continue
            lacks = width - free.get(one.accelerator, inf)
            number = ceil(lacks / one.width) if 0 < lacks < inf else 0
            if 0 < number <= one.end and \
                    still[one.model] - number >= self.values.plan.min_replicas:
                return {one.ref: number}
        return {}

    def _waits(self) -> dict[tuple[str, str], int]:
        """Return the accelerators of the narrowest replica that is to start, by the labels of model
        and accelerator."""
        found: dict[tuple[str, str], int] = {}
        for state in self.states:
            if self._wanted(state) > state.present:
                name, width = self._needs(state)
                key = (self._model(state), name)
                found[key] = min(width, found.get(key, width))
        return found

    def _still_models(self) -> dict[str, int]:
        """Return the number of replicas that serve, by the label of each model of which no replica
        starts or ends."""
        found: dict[str, int] = {}
        moving = {one.model for one in self.gone if len(one.pods) > one.workload.replicas}
        for state in self.states:
            model = self._model(state)
            found[model] = found.get(model, 0) + state.ready
            if state.starting or state.draining or state.ready < state.present:
                moving.add(model)
        for one in self.gone:
            found[one.model] = found.get(one.model, 0) + one.ready
        return {model: ready for model, ready in found.items() if model not in moving}

    def _retiring(self) -> Iterator[_Former]:
        for one in self.gone:
            if not one.is_scaled:
                yield _Former(one.workload.ref, one.model, one.accelerator, one.width,
                              one.workload.replicas)

    def _surplus(self) -> Iterator[_Former]:
        for state in () if self.values.scales else self.states:
            more = state.present - self._wanted(state)
            if state.workload is not None and more > 0 and state.options.act == "scale":
                yield _Former(state.workload.ref, self._model(state), *self._needs(state), more)

    def _free(self) -> dict[str, float]:
        """Return the accelerators that nothing holds, by their label, where the file limits
        them."""
        free = {label_value(pool.accelerator.name): float(pool.count)
                for pool in self.values.accelerators if pool.count is not None}
        held = [(one.accelerator, one.num_held * one.width) for one in self.gone] + [
            (name, max(state.present, len(state.pods)) * width) for state in self.states
            for name, width in [self._needs(state)]]
        for name, number in held:
            if name in free:
                free[name] -= number
        return free

    def _needs(self, state: GroupState) -> tuple[str, int]:
        """Return the label and the number of the accelerators of a group's replica."""
        group = self.values.replicas[state.number]
        return label_value(group.accelerator.name), group.parallelism.num_accelerators

    def _model(self, state: GroupState) -> str:
        return label_value(self.values.replicas[state.number].served_name)

    def _wanted(self, state: GroupState) -> int:
        if state.workload is not None:
            return state.wanted(self.targets)
        return self.targets.get(state.number, self.values.replicas[state.number].count)

    def _lacking(self) -> dict[str, list[GroupState]]:
        """Return the groups that lack ready replicas, by the label of their model."""
        found: dict[str, list[GroupState]] = {}
        for state in self.states:
            if state.workload is None or state.problem is not None \
                    or state.ready < self._wanted(state):
                found.setdefault(self._model(state), []).append(state)
        return found
