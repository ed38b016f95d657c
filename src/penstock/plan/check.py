"""Proposes a plan, simulates it, corrects what was believed of the replicas, and proposes again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from penstock.fleet.values import Fleet
from penstock.plan.demands import Demand
from penstock.plan.estimate import Candidate
from penstock.plan.judge import Verdict, judge, spaced
from penstock.plan.problem import Problem
from penstock.plan.propose import Choice, Counts, counts_of, groups_of, problem_of
from penstock.plan.solution import COST, SLACK, SWITCHING, Solution

OPTIMISM = 1.15
"""What estimates are multiplied with at first. The analytic model errs to both sides; a rate that
is too high is found out by simulation, one that is too low would never be tried."""

_MOST_ROUNDS = 60
_MOST_TRIMS = 4
_MOST_EXTRA = 512
_LONGEST_S = 1e6  # well within what the simulator's clock counts
_SHARE_STEPS = 5
_CUT = 1e-3  # a rate that a simulation refutes goes this far below what it implied


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
    """The last proposal with all trials on the way to it.

    ``holds`` is false where the search was given up, for want of rounds. ``rates`` are what is
    believed of one replica in the end, by (demand, variant): 0 where no number of them will do.
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

    Rates start above their estimates and never above the throughput bound. A proposal is simulated
    demand by demand; where one misses, the fewest replicas more that hold are found (or, where
    there are no more, the share that is carried), and the rates of its variants fall to what that
    shows. Of a proposal that holds everywhere, replicas are left out as long as it still does; what
    the others then carry is believed, and the next proposal has to be cheaper. So the last one is
    the cheapest for rates that are hopeful still, or seen, or just below what a simulation refuted.
    """
    return _Loop(fleet, choices, solve, seed, on_trial).run()


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
        self._best: Checked | None = None
        self._trimmed: set[tuple[str, Counts]] = set()
        self._apart: set[str] = set()
        self._idle_meets: dict[tuple[str, str], bool] = {}
        self._known: dict[tuple[str, Counts, float], Verdict] = {}
        self._rates = {(choice.demand.name, c.variant.name): _first_rate(choice.demand, c)
                       for choice in choices for c in choice.candidates}

    def run(self) -> Checked:
        while True:
            problem = problem_of(self._fleet, self._choices, self._rates, self._apart)
            solution = self._solve(problem)
            counts = {choice.demand.name: counts_of(solution, choice) for choice in self._choices}
            verdicts = {choice.demand.name: self._judge(choice, counts[choice.demand.name],
                                                        solution.served[choice.demand.name])
                        for choice in self._choices if counts[choice.demand.name]}
            wrong = [choice for choice in self._choices
                     if choice.demand.name in verdicts and not verdicts[choice.demand.name].meets]
            now = Checked(problem, solution, counts, verdicts, tuple(self._trials),
                          dict(self._rates), holds=not wrong)
            if not wrong and (self._best is None or _rank(now) < _rank(self._best)):
                self._best = now
            last = self._round == _MOST_ROUNDS
            if last or not (wrong or self._trim_all(counts, solution)):
                return replace(self._best or now, trials=tuple(self._trials))
            for choice in wrong:
                name = choice.demand.name
                self._correct(choice, counts[name], solution.served[name])
            self._round += 1

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

    def _correct(self, choice: Choice, counts: Counts, share: float) -> None:
        """Lower the rates of the variants that missed to what they turn out to carry."""
        if share < 1.0 - 1e-9:  # all there is: what they carry is less of the demand
            carried = self._carried(choice, counts, share)
            if carried > 0.0 or not self._rule_out(choice, counts):
                self._lower(choice, counts, carried or share * 0.5**_SHARE_STEPS)
            return
        low, high = 0, 1
        most = 2 * sum(count for _, count in counts) + 64
        while not self._judge(choice, self._more(choice, counts, high), share).meets:
            low, high = high, 2 * high
            if high > most:  # perhaps not a matter of numbers
                if self._rule_out(choice, counts):
                    return
                if len(counts) > 1:  # each alone will do: the router does not share them well
                    self._apart.add(choice.demand.name)
                    return
                if high > _MOST_EXTRA:
                    break
        else:
            while high - low > 1:
                middle = (low + high) // 2
                if self._judge(choice, self._more(choice, counts, middle), share).meets:
                    high = middle
                else:
                    low = middle
        self._lower(choice, self._more(choice, counts, low), share * (1.0 - _CUT))

    def _trim_all(self, counts: dict[str, Counts], solution: Solution) -> bool:
        """Believe what fewer replicas carry, of demands that are served in full, where they do;
        whether any do."""
        found = False
        for choice in self._choices:
            mine = counts[choice.demand.name]
            if not mine or solution.served[choice.demand.name] < 1.0 - SLACK:
                continue
            fewer = self._trim(choice, mine)
            if fewer != mine:
                self._raise(choice, fewer)
                found = True
        return found

    def _trim(self, choice: Choice, counts: Counts) -> Counts:
        """Leave out replicas, the dearest first, as long as every objective holds."""
        key = (choice.demand.name, counts)
        tried = sum(name == choice.demand.name for name, _ in self._trimmed)
        if key in self._trimmed or tried == _MOST_TRIMS:
            return counts
        self._trimmed.add(key)
        by_cost = sorted(counts, key=lambda item: (
            -choice.candidate(item[0]).variant.cost_per_hour, item[0]))
        for variant, _ in by_cost:
            low, high = -1, dict(counts)[variant]
            middle = high - 1  # most often not even one can go
            while high - low > 1:
                fewer = _with(counts, variant, middle)
                if self._may_do(choice, fewer) and self._judge(choice, fewer, 1.0).meets:
                    high = middle
                else:
                    low = middle
                middle = (low + high) // 2
            counts = _with(counts, variant, high)
        return counts

    def _may_do(self, choice: Choice, counts: Counts) -> bool:
        """Whether these replicas are any, and no fewer than lasting traffic keeps busy."""
        bounds = [(count, choice.candidate(variant).bound_per_s) for variant, count in counts]
        most = sum(count * bound for count, bound in bounds if bound)
        known = choice.demand.lasting and all(bound for _, bound in bounds)
        return bool(counts) and not (known and most < choice.demand.rate_per_s)

    def _raise(self, choice: Choice, counts: Counts) -> None:
        """Believe that these replicas together carry the whole demand."""
        demand = choice.demand
        capacity = sum(count * self._rates[demand.name, variant] for variant, count in counts)
        factor = max(1.0, demand.rate_per_s / capacity)
        for variant, _ in counts:
            self._rates[demand.name, variant] *= factor

    def _rule_out(self, choice: Choice, counts: Counts) -> bool:
        """Believe nothing of variants of which no number will do; whether there are such."""
        found = False
        for variant, _ in counts:
            if not self._meets_one_by_one(choice, variant):
                self._rates[choice.demand.name, variant] = 0.0
                found = True
        return found

    def _meets_one_by_one(self, choice: Choice, variant: str) -> bool:
        """Whether one replica would do if requests came far apart."""
        key = (choice.demand.name, variant)
        if key not in self._idle_meets:
            gap_s = 100.0 / choice.candidate(variant).rate_per_s
            slow = replace(choice.demand, workloads=tuple(
                spaced(w, min(gap_s, _LONGEST_S / len(w))) for w in choice.demand.workloads))
            fleet = replace(self._fleet, run=replace(self._fleet.run, warmup_s=0.0))
            self._idle_meets[key] = judge(fleet, slow, groups_of(choice, ((variant, 1),)),
                                          seed=self._seed).meets
        return self._idle_meets[key]

    def _carried(self, choice: Choice, counts: Counts, share: float) -> float:
        """The share of the demand, of what was believed, that these replicas carry; 0 if it is less
        than a small part of that."""
        low, high = 0.0, share
        for _ in range(_SHARE_STEPS):
            middle = 0.5 * (low + high)
            if self._judge(choice, counts, middle).meets:
                low = middle
            else:
                high = middle
        return low

    def _lower(self, choice: Choice, counts: Counts, share: float) -> None:
        """Believe that these replicas together carry ``share`` of the demand at most."""
        demand = choice.demand
        capacity = sum(count * self._rates[demand.name, variant] for variant, count in counts)
        if capacity <= 0.0:
            return
        factor = min(share * demand.rate_per_s / capacity, 1.0 - _CUT)
        for variant, _ in counts:
            self._rates[demand.name, variant] *= factor

    def _more(self, choice: Choice, counts: Counts, extra: int) -> Counts:
        """Some replicas more of the variant that carries most, if possible of one that there are
        more of."""
        def room_and_rate(item: tuple[str, int]) -> tuple[bool, float]:
            group = choice.candidate(item[0]).variant.group
            available = self._fleet.pool(group.accelerator.name).count
            return (available is None or available >= group.num_accelerators * (item[1] + extra),
                    item[1] * self._rates[choice.demand.name, item[0]])

        main = max(counts, key=room_and_rate)[0]
        return tuple((variant, count + extra if variant == main else count)
                     for variant, count in counts)


def _rank(checked: Checked) -> tuple[float, ...]:
    """What is served by priority, cost, switching cost: less is better."""
    solution = checked.solution
    served = [-round(level.objective, 9) for level in solution.levels
              if level.name not in (COST, SWITCHING)]
    return (*served, solution.cost_per_hour, solution.switching_cost)


def _with(counts: Counts, variant: str, number: int) -> Counts:
    """The counts with another number of one variant, or without it."""
    changed = {**dict(counts), variant: number}
    return tuple((name, count) for name, count in sorted(changed.items()) if count)


def _first_rate(demand: Demand, candidate: Candidate) -> float:
    hopeful, bound_per_s = OPTIMISM * candidate.rate_per_s, candidate.bound_per_s
    # Traffic that states a rate is meant to go on: more than the bound would only be queued up.
    return min(hopeful, bound_per_s) if bound_per_s and demand.lasting else hopeful
