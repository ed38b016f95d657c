"""The fleets that the search of a plan simulates for a demand, each once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from penstock.fleet.values import Fleet
from penstock.plan.bisection import largest_count, largest_part
from penstock.plan.carried import sustains
from penstock.plan.demands import Demand
from penstock.plan.judge import Verdict, holds, judge, spaced
from penstock.plan.other_seed import AGAIN, LONGEST_S
from penstock.plan.propose import Choice, Counts, groups_of

_SHARE_STEPS = 5

LEAST_SHARE = 0.5**_SHARE_STEPS
"""The resolution of a search for the share that replicas carry, as a part of the first share."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Replicas that were simulated with a share of a demand, and the verdict."""

    round: int
    demand: str
    counts: Counts
    share: float
    verdict: Verdict


def _no_others(_demand: Demand) -> None:
    """Return no requests of another seed."""
    return


class Trials:
    """Simulates fleets and remembers each verdict. ``round`` is recorded with each trial.

    ``again`` returns a demand with its requests of another seed, None where there are no others.
    """

    def __init__(self, fleet: Fleet, seed: int, on_trial: Callable[[Trial], None] | None,
                 again: Callable[[Demand], Demand | None] = _no_others) -> None:
        self.round = 0
        self.done: list[Trial] = []
        self._fleet = fleet
        self._seed = seed
        self._on_trial = on_trial
        self._again = again
        self._looks_once: set[str] = set()
        self._lasting: set[tuple[str, Counts]] = set()
        self._known: dict[tuple[str, Counts, float], Verdict] = {}
        self._idle_meets: dict[tuple[str, str], bool] = {}

    def judge(self, choice: Choice, counts: Counts, share: float = 1.0) -> Verdict:
        """The verdict on these replicas with a share of the demand."""
        share = min(share, 1.0)  # a solver may round up
        key = (choice.demand.name, counts, round(share, 6))
        if key not in self._known:
            self._note(choice, counts, share, judge(
                self._fleet, choice.demand, groups_of(choice, counts), seed=self._seed,
                share=share, whole=False))
        return self._known[key]

    def lasts(self, choice: Choice, counts: Counts) -> bool:
        """Whether replicas that carry the requests of the plan's seeds do so for lasting traffic,
        and for that of another seed. If not, the demand counts as missed from now on."""
        key = choice.demand.name, counts
        if key in self._lasting:
            return True
        demand = None if choice.demand.name in self._looks_once else self._again(choice.demand)
        if self.sustains(choice, counts) and (demand is None or holds(
                self._fleet, demand, groups_of(choice, counts), seed=self._seed + AGAIN)):
            self._lasting.add(key)
            return True
        self._note(choice, counts, 1.0, replace(self.judge(choice, counts), meets=False,
                                                does_not_last=True))
        return False

    def end_second_looks(self, choice: Choice) -> None:
        """Have no more second looks at a demand, as no number of replicas carries its requests of
        the other seed: some may be late even on an idle replica. What was refuted holds again where
        lasting traffic does not saturate the replicas."""
        name = choice.demand.name
        self._looks_once.add(name)
        for (demand, counts, share), verdict in self._known.items():
            if demand == name and verdict.does_not_last and self.sustains(choice, counts):
                self._known[demand, counts, share] = replace(verdict, meets=True,
                                                             does_not_last=False)

    def sustains(self, choice: Choice, counts: Counts) -> bool:
        """Whether lasting traffic saturates no part of the replicas."""
        return sustains(self._fleet, choice, counts)

    def _note(self, choice: Choice, counts: Counts, share: float, verdict: Verdict) -> None:
        self._known[choice.demand.name, counts, round(share, 6)] = verdict
        trial = Trial(self.round, choice.demand.name, counts, share, verdict)
        self.done.append(trial)
        if self._on_trial is not None:
            self._on_trial(trial)

    def whole(self, choice: Choice, counts: Counts, share: float) -> Verdict:
        """The verdict with every request of its seeds, also where too many have missed."""
        found = self.judge(choice, counts, share)
        return found if found.meets else judge(
            self._fleet, choice.demand, groups_of(choice, counts), seed=self._seed, share=share)

    def missed(self, demand: str) -> list[Counts]:
        """Fleets that did not carry the whole of a demand."""
        return [counts for (name, counts, share), verdict in self._known.items()
                if name == demand and share == 1.0 and not verdict.meets]

    def held(self, demand: str) -> list[Counts]:
        """Fleets that carried the whole of a demand."""
        return [counts for (name, counts, share), verdict in self._known.items()
                if name == demand and share == 1.0 and verdict.meets]

    def most_held(self, demand: str, counts: Counts) -> float:
        """The largest share of a demand that these replicas carried, as far as that lasts."""
        return max((share for (name, fleet, share), verdict in self._known.items()
                    if verdict.meets and (name, fleet) == (demand, counts)), default=0.0)

    def meets_idle(self, choice: Choice, variant: str) -> bool:
        """Whether one replica meets the objectives if requests come one by one."""
        key = (choice.demand.name, variant)
        if key not in self._idle_meets:
            gap_s = 100.0 / choice.candidate(variant).rate_per_s
            slow = replace(choice.demand, workloads=tuple(
                spaced(w, min(gap_s, LONGEST_S / len(w))) for w in choice.demand.workloads))
            fleet = replace(self._fleet, run=replace(self._fleet.run, warmup_s=0.0))
            self._idle_meets[key] = judge(fleet, slow, groups_of(choice, ((variant, 1),)),
                                          seed=self._seed).meets
        return self._idle_meets[key]

    def carried(self, choice: Choice, counts: Counts, low: float, high: float) -> float:
        """The largest share from ``low`` to ``high`` that these replicas carry; ``low`` is taken to
        hold."""
        return largest_part(lambda share: self.judge(choice, counts, share).meets, low, high,
                            _SHARE_STEPS)

    def fewer(self, choice: Choice, counts: Counts) -> Counts:
        """The counts without the replicas of one variant that can be removed, the most expensive
        variant first; the same counts where none can be removed."""
        for variant, _ in sorted(counts, reverse=True, key=lambda item:
                                 choice.candidate(item[0]).variant.cost_per_hour):
            removed = self._removable(choice, counts, variant)
            if removed:
                return _without(counts, variant, removed)
        return counts

    def _removable(self, choice: Choice, counts: Counts, variant: str) -> int:
        """How many replicas of a variant can be removed: all, or as many as leave at least
        ``min_replicas``."""
        count = dict(counts)[variant]
        most = max(0, count - self._fleet.plan.min_replicas)

        def holds(removed: int) -> bool:
            return self.judge(choice, _without(counts, variant, removed)).meets

        if len(counts) > 1 and holds(count):
            return count
        return largest_count(lambda removed: removed <= most and holds(removed), most)


def _without(counts: Counts, variant: str, removed: int) -> Counts:
    left = ((v, n - removed if v == variant else n) for v, n in counts)
    return tuple((v, n) for v, n in left if n)
