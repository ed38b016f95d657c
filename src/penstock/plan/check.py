"""Proposes a plan, simulates it, corrects what was believed of the replicas, and proposes again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from penstock.fleet.values import Fleet
from penstock.plan.assign.problem import Problem
from penstock.plan.assign.solution import Solution
from penstock.plan.beliefs import Beliefs
from penstock.plan.judge import Verdict, judge, spaced
from penstock.plan.propose import (
    Choice,
    Counts,
    counts_of,
    groups_of,
    narrowed,
    problem_of,
)

_MOST_ROUNDS = 60
_SHARE_STEPS = 5
_LONGEST_S = 1e6  # well within what the simulator's clock counts
_WHOLE = 1.0 - 1e-9


@dataclass(frozen=True, slots=True)
class Trial:
    """Replicas that were simulated for a demand, and what came of it."""

    round: int
    demand: str
    counts: Counts
    share: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Checked:
    """The best proposal that holds, with all trials on the way to it.

    ``holds`` is false where the search was given up, for want of rounds, before any proposal held.
    ``rates`` are what is believed of one replica in the end, by (demand, variant): 0 where no
    number of them will do.
    """

    problem: Problem
    solution: Solution
    counts: dict[str, Counts]
    verdicts: dict[str, Verdict]
    trials: tuple[Trial, ...]
    rates: dict[tuple[str, str], float]
    holds: bool


Solve = Callable[[Problem], Solution]


def check(fleet: Fleet, choices: Sequence[Choice], solve: Solve, *, seed: int,
          on_trial: Callable[[Trial], None] | None = None) -> Checked:
    """The cheapest fleet whose simulation meets every objective, as far as rates are believed.

    A proposal is simulated demand by demand. Where one misses, the fewest replicas more that hold
    are found (or, where there are no more, the share that is carried) and less is believed of its
    variants; where it holds, replicas are left out as long as it goes on to hold, and more is
    believed. The search ends with a proposal that holds, of which no replica can be left out.
    """
    return _Loop(fleet, choices, solve, seed, on_trial).run()


@dataclass(frozen=True, slots=True)
class _Proposal:
    problem: Problem
    solution: Solution
    counts: dict[str, Counts]
    verdicts: dict[str, Verdict]

    @property
    def rank(self) -> tuple[float, ...]:
        """Smaller is better: what is left unserved by priority, then cost."""
        levels = [level for level in self.solution.levels if level.name.startswith("served")]
        return (*(-round(level.objective, 6) for level in levels), self.solution.cost_per_hour)


class _Loop:
    def __init__(self, fleet: Fleet, choices: Sequence[Choice], solve: Solve, seed: int,
                 on_trial: Callable[[Trial], None] | None) -> None:
        self._fleet = fleet
        self._choices = choices
        self._solve = solve
        self._seed = seed
        self._on_trial = on_trial
        self._round = 0
        self._trials: list[Trial] = []
        self._known: dict[tuple[str, Counts, float], Verdict] = {}
        self._apart: set[str] = set()
        self._idle_meets: dict[tuple[str, str], bool] = {}
        self._beliefs = Beliefs(choices)

    def run(self) -> Checked:
        best: _Proposal | None = None
        held: set[tuple[Counts, ...]] = set()
        while True:
            proposal = self._propose()
            wrong = [choice for choice in self._choices
                     if choice.demand.name in proposal.verdicts
                     and not proposal.verdicts[choice.demand.name].meets]
            for choice in wrong:
                self._correct(choice, proposal)
            if not wrong:
                if best is None or proposal.rank < best.rank:
                    best = proposal
                key = tuple(proposal.counts.values())
                if key in held or not self._lean(proposal):
                    return self._checked(best, holds=True)
                held.add(key)
            self._round += 1
            if self._round == _MOST_ROUNDS:
                return self._checked(best or proposal, holds=best is not None)

    def _checked(self, proposal: _Proposal, *, holds: bool) -> Checked:
        return Checked(proposal.problem, proposal.solution, proposal.counts, proposal.verdicts,
                       tuple(self._trials), self._beliefs.rates, holds)

    def _propose(self) -> _Proposal:
        rates = self._beliefs.rates
        problem = problem_of(self._fleet, narrowed(self._fleet, self._choices, rates), rates,
                             self._apart)
        solution = self._solve(problem)
        counts = {choice.demand.name: counts_of(solution, choice) for choice in self._choices}
        verdicts = {choice.demand.name: self._judge(choice, counts[choice.demand.name],
                                                    solution.served[choice.demand.name])
                    for choice in self._choices if counts[choice.demand.name]}
        return _Proposal(problem, solution, counts, verdicts)

    def _judge(self, choice: Choice, counts: Counts, share: float) -> Verdict:
        key = (choice.demand.name, counts, round(share, 6))
        if key not in self._known:
            verdict = judge(self._fleet, choice.demand, groups_of(choice, counts),
                            seed=self._seed, share=share)
            self._known[key] = verdict
            trial = Trial(self._round, choice.demand.name, counts, share, verdict)
            self._trials.append(trial)
            if self._on_trial is not None:
                self._on_trial(trial)
        return self._known[key]

    def _correct(self, choice: Choice, proposal: _Proposal) -> None:
        """Believe less of the variants that missed: no more than they turn out to carry."""
        demand, share = choice.demand, proposal.solution.served[choice.demand.name]
        counts = proposal.counts[demand.name]
        if share < _WHOLE:  # all there is: what they carry is less of the demand
            carried = self._carried(choice, counts, 0.0, share)
            if carried > 0.0 or not self._rule_out(choice, counts):
                little = share * 0.5**_SHARE_STEPS
                self._beliefs.refute(demand.name, counts, (carried or little) * demand.rate_per_s)
            return
        enough = 2 * sum(count for _, count in counts) + 64
        too_few = _last(lambda extra: not self._judge(choice, self._more(choice, counts, extra),
                                                      share).meets, enough)
        if too_few >= enough:  # perhaps not a matter of numbers
            if self._rule_out(choice, counts):
                return
            if len(counts) > 1:  # each alone will do: the router does not share them well
                self._apart.add(demand.name)
                return
        self._beliefs.refute(demand.name, self._more(choice, counts, too_few), demand.rate_per_s)

    def _rule_out(self, choice: Choice, counts: Counts) -> bool:
        """Believe nothing of variants of which no number will do; whether there are such."""
        hopeless = [variant for variant, _ in counts if not self._meets_idle(choice, variant)]
        for variant in hopeless:
            self._beliefs.rule_out(choice.demand.name, variant)
        return bool(hopeless)

    def _meets_idle(self, choice: Choice, variant: str) -> bool:
        """Whether one replica would do if requests came one by one."""
        key = (choice.demand.name, variant)
        if key not in self._idle_meets:
            gap_s = 100.0 / choice.candidate(variant).rate_per_s
            slow = replace(choice.demand, workloads=tuple(
                spaced(w, min(gap_s, _LONGEST_S / len(w))) for w in choice.demand.workloads))
            fleet = replace(self._fleet, run=replace(self._fleet.run, warmup_s=0.0))
            self._idle_meets[key] = judge(fleet, slow, groups_of(choice, ((variant, 1),)),
                                          seed=self._seed).meets
        return self._idle_meets[key]

    def _lean(self, proposal: _Proposal) -> bool:
        """Believe more of replicas that carry their demands although some of them are left out.

        False where there are none such, so that the proposal is as small as can be.
        """
        found = False
        for choice in self._choices:
            name = choice.demand.name
            counts, share = proposal.counts[name], proposal.solution.served[name]
            if counts and share < _WHOLE:
                carried = self._carried(choice, counts, share, 1.0)
                found |= carried > 1.02 * share
                self._beliefs.raise_to(name, counts, carried * choice.demand.rate_per_s)
            elif counts:
                fewer = self._fewer(choice, counts)
                found |= fewer != counts
                self._beliefs.raise_to(name, fewer, choice.demand.rate_per_s)
        return found

    def _fewer(self, choice: Choice, counts: Counts) -> Counts:
        """What is left when no more replicas of one variant can go, the dearest first."""
        for variant, _ in sorted(counts, reverse=True, key=lambda item:
                                 choice.candidate(item[0]).variant.cost_per_hour):
            removed = self._removable(choice, counts, variant)
            if removed:
                return _without(counts, variant, removed)
        return counts

    def _removable(self, choice: Choice, counts: Counts, variant: str) -> int:
        """How many replicas of a variant the demand can do without."""
        most = dict(counts)[variant] - (1 if len(counts) == 1 else 0)

        def holds(removed: int) -> bool:
            return removed <= most and self._judge(
                choice, _without(counts, variant, removed), 1.0).meets

        return _last(holds, most)

    def _carried(self, choice: Choice, counts: Counts, low: float, high: float) -> float:
        """The largest share between two that these replicas carry; the lower is taken to hold."""
        for _ in range(_SHARE_STEPS):
            middle = 0.5 * (low + high)
            if self._judge(choice, counts, middle).meets:
                low = middle
            else:
                high = middle
        return low

    def _more(self, choice: Choice, counts: Counts, extra: int) -> Counts:
        """Some replicas more of the variant that carries most, if possible of one that there are
        more of."""
        rates = self._beliefs.rates

        def room_and_rate(item: tuple[str, int]) -> tuple[bool, float]:
            group = choice.candidate(item[0]).variant.group
            available = self._fleet.pool(group.accelerator.name).count
            return (available is None or available >= group.num_accelerators * (item[1] + extra),
                    item[1] * rates[choice.demand.name, item[0]])

        main = max(counts, key=room_and_rate)[0]
        return tuple((variant, count + extra if variant == main else count)
                     for variant, count in counts)


def _without(counts: Counts, variant: str, removed: int) -> Counts:
    left = ((v, n - removed if v == variant else n) for v, n in counts)
    return tuple((v, n) for v, n in left if n)


def _last(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to about ``most`` of which ``holds`` is true, taken to be true of 0 and
    to turn once: found by doubling, then bisection."""
    low, high = 0, 1
    while holds(high):
        low, high = high, 2 * high
        if low >= most:
            return low
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
