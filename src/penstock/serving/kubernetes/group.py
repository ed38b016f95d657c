"""A group of replicas on a cluster, as the scaling loop observes and orders it."""

from collections.abc import Callable, Mapping, Sequence

from penstock.policy.scale.values import State
from penstock.serving.kubernetes.objects import Pod
from penstock.serving.kubernetes.reconcile import GroupState
from penstock.serving.scaling.groups import Ages, LiveReplica, Numbers
from penstock.serving.scaling.observed import DOWN_S


class ClusterGroup:
    """Replicas that are pods of one workload. The cluster says which there are, and Prometheus what
    they do. An order is carried out by the controller, which ``ordered`` wakes.

    Before the first order the target is the workload's number, whoever set it. ``model`` is the
    engines' name for the model. A replica of several pods counts by its leader's.
    """

    num_places = None

    def __init__(self, model: str, clock: Callable[[], float], ordered: Callable[[], None]) -> None:
        self.model = model
        self.may_begin_empty = True
        self.down_s: dict[str, float] = {}
        self.wanted: int | None = None
        self._clock = clock
        self._ordered = ordered
        self.is_known = False  # whether the cluster has its workload
        self._replicas = 0
        self._pods: Sequence[Pod] = ()
        self._numbers = Numbers()
        self._ages = Ages(clock)

    @property
    def target(self) -> int:
        """Number of replicas ordered last."""
        return self._replicas if self.wanted is None else self.wanted

    @property
    def inherited(self) -> int:
        """Number of replicas of the workload: an earlier controller may have ordered them."""
        return self._replicas

    @property
    def num_held(self) -> int:
        """Number of replicas that hold machines, or will: the workload's, and those that end."""
        return self._replicas + sum(1 for one in self._pods if one.is_ending)

    @property
    def names(self) -> Mapping[int, str]:
        """Names of the pods by their number."""
        return self._numbers.names()

    def follow(self, state: GroupState) -> None:
        """Take the workload and the pods as the cluster shows them now."""
        self.is_known = state.workload is not None
        self._replicas = state.present
        self._pods = state.pods
        for number in self._numbers.keep({one.name for one in state.pods}):
            self._ages.forget(number)

    def number(self, name: str) -> int:
        """Return the number of a pod by its name: no other pod ever has it."""
        return self._numbers.of(name)

    def see(self, names: Sequence[str], down: Sequence[str]) -> None:
        """Take the names of the pods that Prometheus scrapes. A ready pod that it does not scrape
        may serve requests that nobody counts."""
        hidden = {one.name for one in self._pods if one.is_ready and one.name not in names}
        self.down_s = {name: self.down_s.get(name, self._clock()) for name in sorted(hidden)}

    def may_hide(self) -> bool:
        """Whether a pod without series may serve requests nevertheless."""
        return any(self._clock() - since_s < DOWN_S for since_s in self.down_s.values())

    def replicas(self) -> list[LiveReplica]:
        """Return the pods, and the ordered replicas that have no pod yet."""
        found = []
        for one in self._pods:
            state: State = ("draining" if one.is_ending else "ready" if one.is_ready
                            else "starting" if one.is_placed else "waiting")
            number = self.number(one.name)
            found.append(LiveReplica(number, state, self._ages.since_s(number, state)))
        num_present = sum(1 for one in found if one.state != "draining")
        return [*found, *(LiveReplica(-1 - i, "waiting", self._clock())
                          for i in range(self.target - num_present))]

    def adopt(self, numbers: range) -> None:
        """Do nothing: endpoints do not matter."""

    def order(self, target: int) -> None:
        """Order a number of replicas."""
        if target != self.wanted:
            self.wanted = target
            self._ordered()

    async def tend(self) -> None:
        """Do nothing: the controller acts."""
