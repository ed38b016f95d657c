"""The loop of a plan: propose, simulate, correct the believed rates, and propose again."""

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
_MOST_NEIGHBOURS = 16  # cheaper fleets of one demand that may fail before the search stops
_WHOLE = 1.0 - 1e-9
_LEAST_GAIN = 1e-3  # a share of a demand


@dataclass(frozen=True, slots=True)
class Checked:
    """The best proposal that holds, with all trials on the way to it.

    ``holds`` is false where the rounds ran out before any proposal held. ``rates`` are the final
    beliefs about one replica, by (demand, variant): 0 where no number of replicas meets the
    objectives. ``confirmed`` has whole fleets by demand, each with the share of the demand that it
    carried in simulation although its rates do not add up to that share.
    """

    problem: Problem
    solution: Solution
    counts: dict[str, Counts]
    verdicts: dict[str, Verdict]
    trials: tuple[Trial, ...]
    rates: dict[tuple[str, str], float]
    confirmed: dict[str, dict[Counts, float]]
    holds: bool

    def serves(self, demand: str) -> bool:
        """Whether replicas serve a demand in full, and simulation confirms its objectives."""
        return (bool(self.counts[demand]) and self.verdicts[demand].meets
                and demand not in self.solution.unserved)


Solve = Callable[[Problem], Solution]


def check(fleet: Fleet, choices: Sequence[Choice], solve: Solve, *, seed: int,
          on_trial: Callable[[Trial], None] | None = None) -> Checked:
    """The cheapest fleet whose simulation meets every objective, given the believed rates.

    A proposal is simulated demand by demand. Where a demand misses, the search finds the fewest
    additional replicas that hold, or the share that is carried where there are no more replicas,
    and lowers the rates of the variants. Where a demand holds, the search removes replicas as long
    as the demand holds, and raises the rates. It ends with a proposal that holds and of which no
    replica can be removed.
    """
    return Search(fleet, choices, solve, Trials(fleet, seed, on_trial)).run()


@dataclass(frozen=True, slots=True)
class _Proposal:
    problem: Problem
    solution: Solution
    counts: dict[str, Counts]
    verdicts: dict[str, Verdict]

    @property
    def rank(self) -> tuple[float, ...]:
        """Smaller is better: unserved traffic by priority, then cost."""
        levels = [level for level in self.solution.levels if level.name.startswith("served")]
        return (*(-round(level.objective, 6) for level in levels), self.solution.cost_per_hour)


class Search:
    """The loop of ``check``. It may run again once other fleets are known to carry demands."""

    def __init__(self, fleet: Fleet, choices: Sequence[Choice], solve: Solve, trials: Trials
                 ) -> None:
        self._fleet = fleet
        self._choices = list(choices)
        self._solve = solve
        self._trials = trials
        self._apart: set[str] = set()
        self._confirmed: dict[str, dict[Counts, float]] = {c.demand.name: {} for c in choices}
        self._best: _Proposal | None = None
        self._beliefs = Beliefs(choices)
        self._hopes = Beliefs(choices)  # the same, but fleets of several kinds refute no rate

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices, with the sides of offered fleets."""
        return tuple(self._choices)

    def offer(self, choice: Choice, counts: Counts) -> None:
        """Let plans take these replicas, which carry the whole demand in simulation. ``choice`` is
        that of the demand, with all of their candidates."""
        name = choice.demand.name
        self._choices = [choice if one.demand.name == name else one for one in self._choices]
        self._confirmed[name][counts] = 1.0

    def run(self) -> Checked:
        """Search until a proposal holds of which no replica can be removed. The best proposal of an
        earlier run stays where no better one is found."""
        held: set[tuple[Counts, ...]] = set()
        last_round = self._trials.round + _MOST_ROUNDS
        while True:
            proposal = self._propose()
            wrong = [choice for choice in self._choices
                     if choice.demand.name in proposal.verdicts
                     and not proposal.verdicts[choice.demand.name].meets]
            for choice in wrong:
                self._correct(choice, proposal)
            if not wrong:
                if self._best is None or proposal.rank < self._best.rank:
                    self._best = proposal
                key = tuple(proposal.counts.values())
                if (key in held or not self._lean(proposal)) and not self._bettered(self._best):
                    if self._lasts(self._best):
                        return self._checked(self._best, holds=True)
                    self._best = None
                held.add(key)
            self._trials.round += 1
            if self._trials.round == last_round:
                best = self._best or self._known()
                return self._checked(best or proposal, holds=best is not None)

    def _lasts(self, best: _Proposal) -> bool:
        """Whether the fleets of demands that are served in full hold with another seed, too. What
        does not is no longer confirmed."""
        wrong = [choice for choice in self._choices for name in (choice.demand.name,)
                 if best.counts[name] and best.solution.served[name] >= _WHOLE
                 and not self._trials.lasts(choice, best.counts[name])]
        for choice in wrong:
            self._confirmed[choice.demand.name].pop(best.counts[choice.demand.name], None)
        return not wrong

    def _checked(self, proposal: _Proposal, *, holds: bool) -> Checked:
        verdicts = {choice.demand.name: self._trials.whole(
            choice, proposal.counts[choice.demand.name],
            proposal.solution.served[choice.demand.name])
            for choice in self._choices if choice.demand.name in proposal.verdicts}
        return Checked(proposal.problem, proposal.solution, proposal.counts, verdicts,
                       tuple(self._trials.done), dict(self._beliefs.rates),
                       {name: dict(found) for name, found in self._confirmed.items()}, holds)

    def _known(self) -> _Proposal | None:
        """The best plan of confirmed fleets alone, where every demand has one."""
        if any(choice.candidates and not self._confirmed[choice.demand.name]
               for choice in self._choices):
            return None
        found = self._propose([replace(choice, candidates=(), dominated=choice.candidates)
                               for choice in self._choices])
        return found if all(verdict.meets for verdict in found.verdicts.values()) else None

    def _propose(self, choices: Sequence[Choice] | None = None) -> _Proposal:
        """The best plan by the believed rates, of all candidates or of those in ``choices``."""
        rates = self._beliefs.rates
        if choices is None:
            choices = narrowed(self._fleet, self._choices, rates)
        problem = problem_of(self._fleet, choices, rates, self._apart, self._confirmed)
        solution = self._solve(problem)
        counts: dict[str, Counts] = {}
        for choice in self._choices:
            name = choice.demand.name
            counts[name] = counts_of(solution, choice, self._confirmed[name])
        verdicts = {choice.demand.name: self._trials.judge(choice, counts[choice.demand.name],
                                                           solution.served[choice.demand.name])
                    for choice in self._choices if counts[choice.demand.name]}
        return _Proposal(problem, solution, counts, verdicts)

    def _correct(self, choice: Choice, proposal: _Proposal) -> None:
        """Lower the rates of the variants that missed to what they carry in simulation."""
        demand, share = choice.demand, proposal.solution.served[choice.demand.name]
        counts = proposal.counts[demand.name]
        if choice.is_split(counts):  # it was offered, but does not hold beside others
            self._confirmed[demand.name].pop(counts, None)
            return
        if share < _WHOLE:  # there are no more replicas: find the smaller share that they carry
            carried = self._trials.carried(choice, counts, 0.0, share)
            if carried > 0.0 or not self._rule_out(choice, counts):
                self._refute(choice, counts, carried or share * LEAST_SHARE)
            return
        undercutting = self._undercutting(choice, counts)
        if undercutting is not None:
            undercut = self._more(choice, counts, undercutting)
            if not self._trials.judge(choice, undercut).meets:
                self._refute(choice, undercut, 1.0)
                return
        enough = 2 * sum(count for _, count in counts) + 64
        lasting = proposal.verdicts[demand.name].does_not_last

        def misses(extra: int) -> bool:
            more = self._more(choice, counts, extra)
            return not (self._trials.judge(choice, more).meets
                        and (not lasting or self._trials.lasts(choice, more)))

        too_few = largest_count(misses, enough, undercutting)
        if too_few >= enough and lasting:  # some of its requests are late on any replicas
            self._trials.end_second_looks(choice)
            return
        if too_few >= enough:  # more replicas may not help at all
            if self._rule_out(choice, counts):
                return
            if len(counts) > 1:  # each kind alone holds: the router shares this mix badly
                self._apart.add(demand.name)
                return
        self._refute(choice, self._more(choice, counts, too_few), 1.0)
        if too_few < enough:  # this fleet holds, whatever rates are believed
            self._confirmed[demand.name][self._more(choice, counts, too_few + 1)] = 1.0

    def _undercutting(self, choice: Choice, counts: Counts) -> int | None:
        """The most additional replicas with which the fleet still costs less than another fleet
        that carries the demand; None where no other one is sure to be had. More are of no use."""
        costs = [_cost_per_hour(choice, held) for held in self._trials.held(choice.demand.name)
                 if self._to_be_had(choice, held)]
        now, next_one = (_cost_per_hour(choice, self._more(choice, counts, extra))
                         for extra in (0, 1))
        if not costs or next_one <= now:
            return None
        return int(max(0.0, min(costs) - now) / (next_one - now) * _WHOLE)

    def _to_be_had(self, choice: Choice, counts: Counts) -> bool:
        """Whether no other demand can take the accelerators of these replicas."""
        alone = len(self._choices) == 1
        return all(available is None or (alone and number <= available)
                   for name, number in whole_fleet(choice, counts).accelerators.items()
                   for available in (self._fleet.pool(name).count,))

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
        """Set the rates of variants that miss even when idle to 0. True where there are any."""
        infeasible = [variant for variant, _ in counts
                      if not self._trials.meets_idle(choice, variant)]
        for variant in infeasible:
            self._beliefs.rule_out(choice.demand.name, variant)
            self._hopes.rule_out(choice.demand.name, variant)
        return bool(infeasible)

    def _lean(self, proposal: _Proposal) -> bool:
        """Raise the rates of replicas that carry their demands although some are removed.

        False where no replica can be removed: the proposal is as small as it can be.
        """
        found = False
        for choice in self._choices:
            name = choice.demand.name
            counts, share = proposal.counts[name], proposal.solution.served[name]
            if choice.is_split(counts):  # its search has removed what can be removed
                continue
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
        """Confirm a cheaper fleet for a demand that is served in full, or a larger share of a
        demand that is not. False where simulation finds neither."""
        for choice in self._choices:
            name = choice.demand.name
            counts, share = best.counts[name], best.solution.served[name]
            if choice.is_split(counts):
                continue
            if counts and share >= _WHOLE:
                cheaper_counts = self._cheaper(choice, best)
                if cheaper_counts is not None:
                    self._confirmed[name][cheaper_counts] = 1.0
                    return True
            elif counts:
                held = self._trials.most_held(name, counts)
                if held > share + _LEAST_GAIN and held > self._confirmed[name].get(counts, 0.0):
                    self._confirmed[name][counts] = held
                    return True
        return False

    def _cheaper(self, choice: Choice, best: _Proposal) -> Counts | None:
        name = choice.demand.name
        now = best.counts[name]
        cost = _cost_per_hour(choice, now)
        mixed = self._fleet.plan.mixed and name not in self._apart
        for _ in range(_MOST_NEIGHBOURS):
            rates = {variant: rate for (demand, variant), rate in self._hopes.rates.items()
                     if demand == name}
            counts = cheaper(choice, cost, rates, self._room(choice, best),
                             [*self._trials.missed(name), *self._confirmed[name]], mixed=mixed,
                             least=self._fleet.plan.min_replicas)
            if counts is None or self._trials.judge(choice, counts).meets:
                return counts
            if len(counts) == 1:
                self._refute(choice, counts, 1.0)
        return None

    def _room(self, choice: Choice, best: _Proposal) -> dict[str, int]:
        """Accelerators that other demands leave for this demand, by type; only limited types."""
        mine = whole_fleet(choice, best.counts[choice.demand.name]).accelerators
        return {pool.accelerator.name: pool.count - best.solution.accelerators.get(
                    pool.accelerator.name, 0) + mine.get(pool.accelerator.name, 0)
                for pool in self._fleet.accelerators if pool.count is not None}

    def _more(self, choice: Choice, counts: Counts, extra: int) -> Counts:
        """``extra`` more replicas of the variant that carries most, among the variants for which
        there are enough accelerators where there are any."""
        rates = self._beliefs.rates

        def room_and_rate(item: tuple[str, int]) -> tuple[bool, float]:
            group = choice.candidate(item[0]).variant.group
            available = self._fleet.pool(group.accelerator.name).count
            return (available is None or available >= group.num_accelerators * (item[1] + extra),
                    item[1] * rates[choice.demand.name, item[0]])

        main = max(counts, key=room_and_rate)[0]
        return tuple((variant, count + extra if variant == main else count)
                     for variant, count in counts)


def _cost_per_hour(choice: Choice, counts: Counts) -> float:
    return sum(count * choice.candidate(variant).variant.cost_per_hour
               for variant, count in counts)
