"""Proposes a plan, simulates it, corrects what was believed of the replicas, and proposes again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from penstock.fleet.values import Fleet
from penstock.plan.assign.problem import Problem
from penstock.plan.assign.solution import Solution
from penstock.plan.beliefs import Beliefs
from penstock.plan.bisection import largest_count
from penstock.plan.judge import Verdict
from penstock.plan.neighbours import cheaper
from penstock.plan.propose import (
    Choice,
    Counts,
    counts_of,
    narrowed,
    problem_of,
    whole_fleet,
)
from penstock.plan.trials import LEAST_SHARE, Trial, Trials

_MOST_ROUNDS = 60
_MOST_NEIGHBOURS = 16  # simulated in vain for one demand before a fleet is taken for the cheapest
_WHOLE = 1.0 - 1e-9
_LEAST_GAIN = 1e-3  # a share of a demand


@dataclass(frozen=True, slots=True)
class Checked:
    """The best proposal that holds, with all trials on the way to it.

    ``holds`` is false where the search was given up, for want of rounds, before any proposal held.
    ``rates`` are what is believed of one replica in the end, by (demand, variant): 0 where no
    number of them will do. ``shown`` has, by demand, whole fleets with the share of it
    that they carry though no rates say so.
    """

    problem: Problem
    solution: Solution
    counts: dict[str, Counts]
    verdicts: dict[str, Verdict]
    trials: tuple[Trial, ...]
    rates: dict[tuple[str, str], float]
    shown: dict[str, dict[Counts, float]]
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
    return _Loop(fleet, choices, solve, Trials(fleet, seed, on_trial)).run()


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
    def __init__(self, fleet: Fleet, choices: Sequence[Choice], solve: Solve, trials: Trials
                 ) -> None:
        self._fleet = fleet
        self._choices = choices
        self._solve = solve
        self._trials = trials
        self._apart: set[str] = set()
        self._shown: dict[str, dict[Counts, float]] = {c.demand.name: {} for c in choices}
        self._beliefs = Beliefs(choices)
        self._hopes = Beliefs(choices)  # the same without what mixes are blamed for

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
                if (key in held or not self._lean(proposal)) and not self._bettered(best):
                    return self._checked(best, holds=True)
                held.add(key)
            self._trials.round += 1
            if self._trials.round == _MOST_ROUNDS:
                best = best or self._known()
                return self._checked(best or proposal, holds=best is not None)

    def _checked(self, proposal: _Proposal, *, holds: bool) -> Checked:
        return Checked(proposal.problem, proposal.solution, proposal.counts, proposal.verdicts,
                       tuple(self._trials.done), self._beliefs.rates, self._shown, holds)

    def _known(self) -> _Proposal | None:
        """The best plan of fleets that were shown to hold, if all demands have one."""
        if any(choice.candidates and not self._shown[choice.demand.name]
               for choice in self._choices):
            return None
        found = self._propose([replace(choice, candidates=(), dominated=choice.candidates)
                               for choice in self._choices])
        return found if all(verdict.meets for verdict in found.verdicts.values()) else None

    def _propose(self, choices: Sequence[Choice] | None = None) -> _Proposal:
        """The best plan for what is believed, or of the candidates in ``choices``."""
        rates = self._beliefs.rates
        if choices is None:
            choices = narrowed(self._fleet, self._choices, rates)
        problem = problem_of(self._fleet, choices, rates, self._apart, self._shown)
        solution = self._solve(problem)
        counts = {choice.demand.name: counts_of(solution, choice, self._shown[choice.demand.name])
                  for choice in self._choices}
        verdicts = {choice.demand.name: self._trials.judge(choice, counts[choice.demand.name],
                                                           solution.served[choice.demand.name])
                    for choice in self._choices if counts[choice.demand.name]}
        return _Proposal(problem, solution, counts, verdicts)

    def _correct(self, choice: Choice, proposal: _Proposal) -> None:
        """Believe less of the variants that missed: no more than they turn out to carry."""
        demand, share = choice.demand, proposal.solution.served[choice.demand.name]
        counts = proposal.counts[demand.name]
        if share < _WHOLE:  # all there is: what they carry is less of the demand
            carried = self._trials.carried(choice, counts, 0.0, share)
            if carried > 0.0 or not self._rule_out(choice, counts):
                self._refute(choice, counts, carried or share * LEAST_SHARE)
            return
        enough = 2 * sum(count for _, count in counts) + 64
        too_few = largest_count(lambda extra: not self._trials.judge(
            choice, self._more(choice, counts, extra)).meets, enough)
        if too_few >= enough:  # perhaps not a matter of numbers
            if self._rule_out(choice, counts):
                return
            if len(counts) > 1:  # each alone will do: the router does not share them well
                self._apart.add(demand.name)
                return
        self._refute(choice, self._more(choice, counts, too_few), 1.0)
        if too_few < enough:  # what it took is known to do, whatever others are believed to
            self._shown[demand.name][self._more(choice, counts, too_few + 1)] = 1.0

    def _refute(self, choice: Choice, counts: Counts, share: float) -> None:
        rate_per_s = share * choice.demand.rate_per_s
        self._beliefs.refute(choice.demand.name, counts, rate_per_s)
        if len(counts) == 1:
            self._hopes.refute(choice.demand.name, counts, rate_per_s)

    def _hold(self, choice: Choice, counts: Counts, share: float = 1.0) -> None:
        rate_per_s = share * choice.demand.rate_per_s
        self._beliefs.raise_to(choice.demand.name, counts, rate_per_s)
        self._hopes.raise_to(choice.demand.name, counts, rate_per_s)

    def _rule_out(self, choice: Choice, counts: Counts) -> bool:
        """Believe nothing of variants of which no number will do; whether there are such."""
        infeasible = [variant for variant, _ in counts
                    if not self._trials.meets_idle(choice, variant)]
        for variant in infeasible:
            self._beliefs.rule_out(choice.demand.name, variant)
            self._hopes.rule_out(choice.demand.name, variant)
        return bool(infeasible)

    def _lean(self, proposal: _Proposal) -> bool:
        """Believe more of replicas that carry their demands although some of them are left out.

        False where there are none such, so that the proposal is as small as can be.
        """
        found = False
        for choice in self._choices:
            name = choice.demand.name
            counts, share = proposal.counts[name], proposal.solution.served[name]
            if counts and share < _WHOLE:
                carried = self._trials.carried(choice, counts, share, 1.0)
                found |= carried > 1.02 * share
                self._hold(choice, counts, carried)
            elif counts:
                fewer = self._trials.fewer(choice, counts)
                found |= fewer != counts
                self._hold(choice, fewer)
        return found

    def _bettered(self, best: _Proposal) -> bool:
        """Show a cheaper fleet for a demand that is served in full, or a larger share of one that
        is not, where simulation finds it."""
        for choice in self._choices:
            name = choice.demand.name
            counts, share = best.counts[name], best.solution.served[name]
            if counts and share >= _WHOLE:
                cheaper_counts = self._cheaper(choice, best)
                if cheaper_counts is not None:
                    self._shown[name][cheaper_counts] = 1.0
                    return True
            elif counts:
                held = self._trials.most_held(name, counts)
                if held > share + _LEAST_GAIN and held > self._shown[name].get(counts, 0.0):
                    self._shown[name][counts] = held
                    return True
        return False

    def _cheaper(self, choice: Choice, best: _Proposal) -> Counts | None:
        name = choice.demand.name
        now = best.counts[name]
        cost = sum(count * choice.candidate(v).variant.cost_per_hour for v, count in now)
        mixed = self._fleet.plan.mixed and name not in self._apart
        for _ in range(_MOST_NEIGHBOURS):
            rates = {variant: rate for (demand, variant), rate in self._hopes.rates.items()
                     if demand == name}
            counts = cheaper(choice, cost, rates, self._room(choice, best),
                             [*self._trials.missed(name), *self._shown[name]], mixed=mixed,
                             least=self._fleet.plan.min_replicas)
            if counts is None or self._trials.judge(choice, counts).meets:
                return counts
            if len(counts) == 1:
                self._refute(choice, counts, 1.0)
        return None

    def _room(self, choice: Choice, best: _Proposal) -> dict[str, int]:
        """Accelerators that other demands leave for this one, where they are limited."""
        mine = whole_fleet(choice, best.counts[choice.demand.name]).cards
        return {pool.accelerator.name: pool.count - best.solution.cards.get(
                    pool.accelerator.name, 0) + mine.get(pool.accelerator.name, 0)
                for pool in self._fleet.accelerators if pool.count is not None}

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
