"""Steps from what a cluster has to what a fleet asks for: a pure function."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from penstock.fleet.values import Fleet
from penstock.fleet.values_kubernetes import KubernetesOptions
from penstock.serving.kubernetes.actions import (
    Action,
    Annotate,
    Apply,
    Create,
    Release,
    Scale,
    SetStatus,
    Tell,
)
from penstock.serving.kubernetes.disaggregated import scaled_sets
from penstock.serving.kubernetes.index import Index
from penstock.serving.kubernetes.manifests import created_workload, replica_group
from penstock.serving.kubernetes.names import CREATOR, DELETION_COST, workload_name
from penstock.serving.kubernetes.objects import (
    Autoscaler,
    FleetObject,
    Pod,
    Ref,
    ReplicaGroupObject,
    Workload,
    ref_of,
)

NOTHING_TAKEN: Mapping[Ref, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Observed:
    """Objects of a namespace, as they were seen last. ``work`` is the number of requests at each
    pod, by name, as far as it is known."""

    index: Index
    work: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group of a fleet on the cluster: its workload, None where there is none, its pods, and the
    problem that keeps Penstock from acting, None without. ``autoscaler`` changes the workload, and
    the group ``follows`` the one that changes its ReplicaGroup."""

    number: int
    options: KubernetesOptions
    ref: Ref
    workload: Workload | None
    pods: tuple[Pod, ...]
    autoscaler: Autoscaler | None = None
    problem: tuple[str, str] | None = None
    follows: Autoscaler | None = None

    def wanted(self, targets: Mapping[int, int]) -> int:
        """Return the replicas that are wanted: by Penstock where it scales the group, else by who
        set the number of the workload."""
        return targets.get(self.number, self.present) if self.options.act == "scale" \
            else self.present

    @property
    def present(self) -> int:
        """Number of replicas that the workload shall have now."""
        return 0 if self.workload is None else self.workload.replicas

    @property
    def starting(self) -> int:
        """Number of pods that are not ready yet."""
        return sum(1 for one in self.pods if not one.is_ready and not one.is_ending)

    @property
    def ready(self) -> int:
        """Number of pods that serve."""
        return sum(1 for one in self.pods if one.serves)

    @property
    def draining(self) -> int:
        """Number of pods that end."""
        return sum(1 for one in self.pods if one.is_ending)


def group_states(fleet: FleetObject, values: Fleet, seen: Observed,
                 taken: Mapping[Ref, str] = NOTHING_TAKEN) -> list[GroupState]:
    """Return the state of each group that has a workload on the cluster. A workload is of one group
    alone: the first of the file, and none whose workload is ``taken`` by another Fleet."""
    owners, found = dict(taken), []
    for number, group in enumerate(values.replicas):
        if group.kubernetes is None:
            continue
        state = _state(fleet, number, group.kubernetes, seen.index)
        if state.workload is not None:
            ref = state.workload.ref
            if ref in owners:
                state = replace(state, workload=None, pods=(), problem=(
                    "SharedWorkload", f"replicas[{number}]: {ref.kind} {ref.name} is the workload "
                    f"of {owners[ref]}, too"))
            else:
                owners[ref] = f"replicas[{number}]"
        found.append(state)
    return found


def _state(fleet: FleetObject, number: int, options: KubernetesOptions, index: Index
           ) -> GroupState:
    ref = Ref("ReplicaGroup", fleet.ref.namespace,
              workload_name(fleet.ref.name, options.key(number)))
    fits = index.workloads(fleet, number, options)
    if len(fits) > 1:
        names = ", ".join(sorted(one.ref.name for one in fits)[:3])
        return GroupState(number, options, ref, None, (), problem=(
            "AmbiguousWorkload", f"replicas[{number}]: several workloads have the labels: {names}"))
    if not fits:
        missing = None if options.create is not None else (
            "WorkloadNotFound", f"replicas[{number}]: there is no {_wanted(options)}")
        return GroupState(number, options, ref, None, (), problem=missing)
    one = fits[0]
    direct = index.autoscaler(one.ref)
    problem = None
    if direct is not None and options.act == "scale":
        problem = ("AnotherOwner", f"replicas[{number}]: {direct.ref.kind} {direct.ref.name} "
                   f"changes the replicas of {one.ref.kind} {one.ref.name}, too; expected "
                   "kubernetes.act publish, or that it is deleted")
    return GroupState(number, options, ref, one, index.pods(one.selector), direct, problem,
                      index.autoscaler(ref))


def _wanted(options: KubernetesOptions) -> str:
    adopt = options.adopt
    assert adopt is not None, "the caller has looked"
    named = adopt.name or "with " + ", ".join(f"{key}={value}"
                                              for key, value in adopt.labels.items())
    return f"{adopt.kind} {named}"


def reconcile(fleet: FleetObject, values: Fleet, states: Sequence[GroupState], seen: Observed,
              targets: Mapping[int, int]) -> list[Action]:
    """Return the steps for the objects of a fleet. ``targets`` has the wanted replicas by group, as
    far as they are decided. Raises InputError for an engine without a command line."""
    found: list[Action] = []
    if fleet.is_ending:
        return found  # what Penstock created has the Fleet as owner, and goes with it
    found += [Apply(document) for document in scaled_sets(fleet, values)]
    for state in states:
        found += _group_steps(fleet, values, state, seen.index.groups.get(state.ref), seen.work,
                              targets.get(state.number))
    return found


def _group_steps(fleet: FleetObject, values: Fleet, state: GroupState,
                 group: ReplicaGroupObject | None, work: Mapping[str, int], target: int | None
                 ) -> Iterator[Action]:
    options = state.options
    if group is None:
        document = replica_group(fleet, values, state.number)
        if options.act == "publish":
            # A scale without replicas is 0 to an HPA, which then rests.
            first = state.workload.replicas if state.workload else values.replicas[
                state.number].count
            document["spec"]["replicas"] = first
        yield Create(document)
    has_own = options.create is not None and options.set_role is None
    if has_own and (state.problem is None or state.workload is not None):
        yield from _created(fleet, values, state, target)
    if state.workload is None or state.problem is not None:
        return
    wanted = target if options.act == "scale" else None
    if options.act == "publish" and group is not None and state.follows is not None \
            and state.autoscaler is None:
        wanted = group.replicas
    if wanted is not None and wanted != state.workload.replicas:
        yield from scaled(state.workload, state.pods, wanted, work)


def _created(fleet: FleetObject, values: Fleet, state: GroupState, target: int | None
             ) -> Iterator[Action]:
    """Yield the steps for a workload of Penstock's own. A new workload begins with the target, else
    with the file's number; its creator then keeps this number alone, until somebody scales."""
    document = created_workload(fleet, values, state.number)
    if state.workload is None:
        first = values.replicas[state.number].count if target is None else target
        yield Apply({**document, "spec": {**document["spec"], "replicas": first}}, CREATOR)
        return
    yield Apply(document)
    if state.workload.is_new:
        yield Release(state.workload.ref)


def scaled(workload: Workload, pods: Sequence[Pod], wanted: int, work: Mapping[str, int]
           ) -> Iterator[Action]:
    """Yield the steps to a number of replicas. Before replicas are taken away, every pod says what
    its end would cost: the requests that it has. A pod whose requests are unknown costs most."""
    if wanted < workload.replicas:
        most = max(work.values(), default=0) + 1
        for pod in pods:
            cost = work.get(pod.name, most)
            if cost != pod.deletion_cost and not pod.is_ending:
                yield Annotate(Ref("Pod", pod.namespace, pod.name), DELETION_COST, str(cost))
    yield Scale(workload.ref, wanted, workload.replicas)


def group_status(state: GroupState, group: ReplicaGroupObject | None, target: int | None
                 ) -> Iterator[Action]:
    """Yield the status of a ReplicaGroup, where it has changed. HPAs read it."""
    if group is None:
        return
    status = {"replicas": 0 if state.workload is None else len(state.pods) - state.draining,
              "readyReplicas": state.ready, "observedGeneration": group.generation,
              "workload": "" if state.workload is None else
              f"{state.workload.ref.kind}/{state.workload.ref.name}",
              "selector": "" if state.workload is None else ",".join(
                  f"{key}={value}" for key, value in sorted(state.workload.selector.items()))}
    if target is not None:
        status["desiredReplicas"] = target
    if status != dict(group.status or {}):
        yield SetStatus(group.ref, status)


def told(fleet: FleetObject, actions: Sequence[Action], reason: str) -> Iterator[Tell]:
    """Yield an Event of the Fleet for every change of replicas."""
    for action in actions:
        change = change_of(action)
        if change is not None:
            ref, before, after = change
            yield Tell(fleet.ref, fleet.uid, "Normal", "Scaled",
                       f"{ref.kind} {ref.name}: {before} to {after} replicas: {reason}",
                       f"{ref.kind}/{ref.name}")


def change_of(action: Action) -> tuple[Ref, int, int] | None:
    """Return the workload, the former and the new replicas of a step that changes a number."""
    match action:
        case Scale(ref, replicas, before):
            return ref, before or 0, replicas
        case Apply(document, manager) if manager == CREATOR:
            return ref_of(document), 0, document["spec"]["replicas"]
    return None
