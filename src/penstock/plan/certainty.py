"""How certain a plan is: the probability that its replicas suffice, and intervals of its figures.

Step times have an interval. The replicas of a demand are simulated with step times at several
standard deviations. The largest deviation at which all objectives hold gives the probability that
the replicas suffice; so do fewer replicas and more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from penstock.fleet.replica_factory import step_time
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.perf.step_time.deviation import deviation
from penstock.plan.bisection import edge, largest_part
from penstock.plan.carried import changed_part, sustains
from penstock.plan.demands import Demand
from penstock.plan.headroom import MOST, meets_grown, most_growth
from penstock.plan.judge import Verdict, chance, distinct, holds, judge, to_simulate
from penstock.plan.plan import FleetPlan
from penstock.plan.propose import Choice, Counts, groups_of, whole_fleet
from penstock.plan.slower import probability_of, sigmas_of
from penstock.workload.mixing import scale_rate

EDGE = 1.645
"""Standard deviations at the ends of a 90 % interval."""

_STEPS = 3
_LEAST_GROWTH = -0.5
_SURE = 0.95
_TINY = 1e-3
_MOST_MORE = 2
_MOST_FEWER = 2


@dataclass(frozen=True, slots=True)
class Certainty:
    """Intervals of a demand's figures.

    ``suffices`` has numbers of replicas, each with the probability that so many keep every
    objective; 0.05 means at most so much, and 0.95 at least. The plan's own number is
    ``num_replicas``. The other pairs are 90 % intervals, low end first: growth of the rate, and
    money per hour of the replicas that are needed, of which the high end is None where nothing that
    was tried suffices. A burst has no headroom. ``slow`` and ``fast`` are the outcomes at the ends
    of the interval of step times.
    """

    num_replicas: int
    suffices: tuple[tuple[int, float], ...]
    headroom: tuple[float, float] | None
    cost_per_hour: tuple[float, float | None]
    slow: Verdict
    fast: Verdict

    @property
    def holds(self) -> float:
        """Probability that the plan's replicas keep every objective."""
        return dict(self.suffices)[self.num_replicas]


Each = Callable[[Callable[[Choice], Certainty], Sequence[Choice]], Iterable[Certainty]]
"""Applies a function to each choice, as ``map`` does, in order."""


def certainties(plan: FleetPlan, each: Each = map) -> dict[str, Certainty]:
    """Return how certain each demand's replicas are, for demands that are served in full."""
    served = [choice for choice in plan.choices if plan.checked.serves(choice.demand.name)]
    return {choice.demand.name: found for choice, found in zip(
        served, each(partial(_certainty, plan), served), strict=True)}


def _certainty(plan: FleetPlan, choice: Choice) -> Certainty:
    return _Worlds(plan, choice).certainty()


class _Worlds:
    """Simulations of one demand with step times off their model, each once.

    The ends of the interval are simulated with every seed. Between them only the seed that is worst
    with slow steps is, with the slightly faster arrivals that a plan must stand.
    """

    def __init__(self, plan: FleetPlan, choice: Choice) -> None:
        self._fleet: Fleet = plan.before
        self._choice = choice
        self._at_plan = sigmas_of(plan.before.plan.confidence)
        self._counts = plan.checked.counts[choice.demand.name]
        self._growth = plan.headroom.get(choice.demand.name)
        self._known: dict[tuple[Counts, float], bool] = {}
        self._slow = [self._outcome(number, EDGE)
                      for number in range(len(to_simulate(
                          self._fleet, groups_of(choice, self._counts), choice.demand.workloads)))]
        self._worst = min(range(len(self._slow)), key=lambda number: min(
            outcome.worst_share for outcome in self._slow[number].classes))

    def certainty(self) -> Certainty:
        """The probabilities and intervals of the demand's replicas."""
        number = _total(self._counts)
        own = self._reach(self._counts, self._at_plan)
        found = {number: own, **dict(self._more(own)), **dict(self._fewer())}
        suffices = tuple((count, probability_of(found[count])) for count in sorted(found))
        return Certainty(number, suffices, self._headroom(), self._cost(dict(suffices)),
                         self._slow[self._worst], self._outcome(self._worst, -EDGE))

    def _outcome(self, number: int, sigmas: float) -> Verdict:
        """The verdict on the plan's replicas with one seed."""
        return judge(self._fleet, self._alone(number), groups_of(self._choice, self._counts),
                     seed=self._fleet.run.seed + number, sigmas=sigmas)

    def _alone(self, number: int, growth: float = 0.0) -> Demand:
        """The demand with the requests of one seed, which arrive faster by ``growth``."""
        workload = self._choice.demand.workloads[number]
        return replace(self._choice.demand, workloads=(
            scale_rate(workload, 1.0 + growth) if growth else workload,))

    def _more(self, own: float) -> Iterator[tuple[int, float]]:
        """Numbers above the plan's with the largest deviation at which they hold."""
        reach = own
        for extra in range(1, _MOST_MORE + 1):
            counts = self._changed(extra)
            if reach >= EDGE or not self._room(counts):
                return
            reach = self._reach(counts, reach)
            yield _total(counts), reach

    def _fewer(self) -> Iterator[tuple[int, float]]:
        """Numbers below the plan's, down to the first that all but surely misses."""
        reach = self._at_plan
        for less in range(1, _MOST_FEWER + 1):
            counts = self._changed(-less)
            if reach <= -EDGE or not counts:
                return
            reach = self._reach(counts, -EDGE, reach) if self._holds(counts, -EDGE) else -EDGE
            yield _total(counts), reach

    def _reach(self, counts: Counts, low: float, high: float = EDGE) -> float:
        """The largest deviation up to ``high`` at which the counts hold; they hold at ``low``."""
        if high <= low or self._holds(counts, high):
            return high
        return edge(lambda sigmas: self._holds(counts, sigmas), low, high, _STEPS)

    def _holds(self, counts: Counts, sigmas: float) -> bool:
        if not self._sustained(counts, sigmas):
            return False
        key = (counts, sigmas)
        if key not in self._known:
            workloads = self._choice.demand.workloads
            drawn = len(distinct(workloads)) > 1
            self._known[key] = holds(
                self._fleet, self._alone(self._worst, chance(workloads[self._worst]) * drawn),
                groups_of(self._choice, counts), seed=self._fleet.run.seed + self._worst,
                sigmas=sigmas)
        return self._known[key]

    def _sustained(self, counts: Counts, sigmas: float) -> bool:
        """Whether lasting traffic saturates no part of the replicas with these step times."""
        return sustains(self._fleet, self._choice, counts,
                        lambda group: self._slowdown(group, sigmas))

    def _slowdown(self, group: ReplicaGroup, sigmas: float) -> float:
        """Step times at a deviation over those that the plan believed."""
        model = step_time(group)
        return deviation(model, sigmas) / deviation(model, self._at_plan)

    def _headroom(self) -> tuple[float, float] | None:
        """The growth at both ends of the interval of step times."""
        now = self._growth
        if now is None:
            return None
        most = most_growth(self._fleet, self._choice, self._counts)
        factor = max(self._slowdown(group, -EDGE)
                     for group in groups_of(self._choice, self._counts))
        fastest = max(now, min(MOST, (1.0 + most) / factor - 1.0))
        fast = largest_part(partial(self._meets_grown, -EDGE), now, fastest, _STEPS)
        if self._at_plan >= EDGE:
            return now, fast
        slowly = partial(self._meets_grown, EDGE)
        # The number of replicas was judged with slightly faster arrivals.
        if self._holds(self._counts, EDGE) or slowly(0.0):
            return largest_part(slowly, 0.0, now, _STEPS), fast
        return largest_part(slowly, _LEAST_GROWTH, 0.0, _STEPS), fast

    def _meets_grown(self, sigmas: float, growth: float) -> bool:
        return meets_grown(self._fleet, self._alone(self._worst),
                           groups_of(self._choice, self._counts), growth,
                           seed=self._fleet.run.seed + self._worst, sigmas=sigmas)

    def _cost(self, suffices: dict[int, float]) -> tuple[float, float | None]:
        """The costs of the fewest replicas that suffice at both ends of the interval."""
        fewest = next(number for number, share in suffices.items() if share > 1.0 - _SURE + _TINY)
        enough = next((number for number, share in suffices.items() if share >= _SURE - _TINY),
                      None)
        return self._cost_of(fewest), None if enough is None else self._cost_of(enough)

    def _cost_of(self, number: int) -> float:
        counts = self._changed(number - _total(self._counts))
        return sum(count * self._choice.candidate(variant).variant.cost_per_hour
                   for variant, count in counts)

    def _changed(self, extra: int) -> Counts:
        """The plan's replicas with so many more, or fewer, of the variant that carries most; where
        replicas have roles, more of the part with the least to spare, or fewer of that with the
        most. Nothing where none are left."""
        counts = self._counts
        if not self._choice.is_split(counts):
            main = max(counts, key=lambda item:
                       item[1] * self._choice.candidate(item[0]).rate_per_s)[0]
            return _with_more(counts, main, extra)
        for _ in range(abs(extra)):
            counts = changed_part(self._fleet, self._choice, counts, 1 if extra > 0 else -1)
        return counts

    def _room(self, counts: Counts) -> bool:
        """Whether there are enough accelerators for so many replicas."""
        used = whole_fleet(self._choice, counts).accelerators
        return all((available := self._fleet.pool(name).count) is None or number <= available
                   for name, number in used.items())


def _with_more(counts: Counts, variant: str, extra: int) -> Counts:
    changed = ((name, count + extra if name == variant else count) for name, count in counts)
    return tuple((name, count) for name, count in changed if count > 0)


def _total(counts: Counts) -> int:
    return sum(count for _, count in counts)
