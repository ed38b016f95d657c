"""Proposes a plan, simulates it, corrects what was believed of the replicas, and proposes again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.fleet.values import Fleet
from penstock.plan.judge import Verdict, judge
from penstock.plan.problem import Problem
from penstock.plan.propose import Choice, Counts, counts_of, groups_of, problem_of
from penstock.plan.solution import Solution

OPTIMISM = 1.15
"""What estimates are multiplied with at first. The analytic model errs to both sides; a rate that
is too high is found out by simulation, one that is too low would never be tried."""

_MOST_ROUNDS = 60
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
    believed of one replica in the end, by (demand, variant).
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
    shows. So the first proposal that holds everywhere is the cheapest for rates that are either
    hopeful still or just below what a simulation refuted.
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
        self._known: dict[tuple[str, Counts, float], Verdict] = {}
        self._rates = {(choice.demand.name, c.variant.name): _first_rate(fleet, c.rate_per_s,
                                                                         c.bound_per_s)
                       for choice in choices for c in choice.candidates}

    def run(self) -> Checked:
        while True:
            problem = problem_of(self._fleet, self._choices, self._rates)
            solution = self._solve(problem)
            counts = {choice.demand.name: counts_of(solution, choice) for choice in self._choices}
            verdicts = {choice.demand.name: self._judge(choice, counts[choice.demand.name],
                                                        solution.served[choice.demand.name])
                        for choice in self._choices if counts[choice.demand.name]}
            wrong = [choice for choice in self._choices
                     if choice.demand.name in verdicts and not verdicts[choice.demand.name].meets]
            if not wrong or self._round == _MOST_ROUNDS:
                return Checked(problem, solution, counts, verdicts, tuple(self._trials),
                               self._rates, holds=not wrong)
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
            self._lower(choice, counts, self._carried(choice, counts, share))
            return
        low, high = 0, 1
        most = 2 * sum(count for _, count in counts) + 64
        while not self._judge(choice, self._more(choice, counts, high), share).meets:
            low, high = high, 2 * high
            if high > most:  # not a matter of numbers: no count of these will do
                break
        else:
            while high - low > 1:
                middle = (low + high) // 2
                if self._judge(choice, self._more(choice, counts, middle), share).meets:
                    high = middle
                else:
                    low = middle
        self._lower(choice, self._more(choice, counts, low), share * (1.0 - _CUT))

    def _carried(self, choice: Choice, counts: Counts, share: float) -> float:
        """The share of the demand, of what was believed, that these replicas carry."""
        low, high = 0.0, share
        for _ in range(_SHARE_STEPS):
            middle = 0.5 * (low + high)
            if self._judge(choice, counts, middle).meets:
                low = middle
            else:
                high = middle
        return low or high

    def _lower(self, choice: Choice, counts: Counts, share: float) -> None:
        """Believe that these replicas together carry ``share`` of the demand at most."""
        demand = choice.demand
        capacity = sum(count * self._rates[demand.name, variant] for variant, count in counts)
        factor = min(share * demand.rate_per_s / capacity, 1.0 - _CUT)
        for variant, _ in counts:
            self._rates[demand.name, variant] *= factor

    def _more(self, choice: Choice, counts: Counts, extra: int) -> Counts:
        """Some replicas more of the variant that carries most."""
        name = choice.demand.name
        main = max(counts, key=lambda item: item[1] * self._rates[name, item[0]])[0]
        return tuple((variant, count + extra if variant == main else count)
                     for variant, count in counts)


def _first_rate(fleet: Fleet, rate_per_s: float, bound_per_s: float | None) -> float:
    hopeful = OPTIMISM * rate_per_s
    # Traffic that states a rate is meant to go on: more than the bound would only be queued up.
    lasting = all(spec.rate_per_s is not None for spec in fleet.traffic)
    return min(hopeful, bound_per_s) if bound_per_s and lasting else hopeful
