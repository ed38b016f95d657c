"""Value of a request on each replica."""

from collections.abc import Mapping, Sequence

from penstock.core.decision import ScoredCandidate
from penstock.core.forecast import Forecast
from penstock.core.request import NO_NEEDS, Request
from penstock.core.slo import Slo
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.joint.options import JointOptions
from penstock.predict.latency import E2E, TPOT, TTFT, LatencyPredictor, Pace

BUDGET, QUALITY, CHANCE = "budget", "quality", "chance"
"""Reasons against a prospect, the strictest first."""

LEAST_RETRY_S = 1.0


class Paces:
    """The pace of every replica, computed once per snapshot, and corrected as requests end."""

    def __init__(self, facts: Mapping[int, ReplicaFacts],
                 predictors: Mapping[str, LatencyPredictor]) -> None:
        self._facts = facts
        self._predictors = predictors
        self._known: dict[int, tuple[ReplicaSnapshot, int, Pace]] = {}
        self._num_learned = 0

    def learned(self) -> None:
        """Correct all paces anew, since the latency predictor has changed."""
        self._num_learned += 1

    def of(self, replica: ReplicaSnapshot) -> Pace:
        """Return the pace at this snapshot."""
        known = self._known.get(replica.replica_id)
        predictor = self._predictors[self._facts[replica.replica_id].kind]
        if known is None or known[0] is not replica:
            pace = predictor.pace(replica)
        elif known[1] == self._num_learned:
            return known[2]
        else:
            pace = predictor.corrected(replica, known[2])
        self._known[replica.replica_id] = (replica, self._num_learned, pace)
        return pace


class Scorer:
    """Scores pairs of request and replica by one utility, in money."""

    def __init__(self, facts: Mapping[int, ReplicaFacts],
                 predictors: Mapping[str, LatencyPredictor], options: JointOptions,
                 memory: PrefixMemory) -> None:
        self._facts = facts
        self._predictors = predictors
        self._options = options
        self._memory = memory
        self.paces = Paces(facts, predictors)

    def prospects(self, request: Request, forecasts: Mapping[str, Forecast],
                  replicas: Sequence[ReplicaSnapshot], dual_price: float,
                  now_s: float) -> list[ScoredCandidate]:
        """Score the request on every replica, in order. ``dual_price`` raises prices for a tenant
        that spends ahead of its budget."""
        options, facts = self._options, self._facts
        asked_tokens, most_tokens = request.prompt_tokens, request.max_tokens
        limited = request.needs.max_cost is not None
        value = options.answer_value * request.service_class.weight
        second_value, late_share = options.second_value, options.late_share
        remembers = options.affinity and self._memory.knows(request)
        slo = request.service_class.slo
        age_s = now_s - request.arrival_s
        markup = 1.0 + dual_price
        found: list[ScoredCandidate] = []
        for replica in replicas:
            replica_id = replica.replica_id
            fact = facts[replica_id]
            offer = fact.offer
            forecast = forecasts[offer.model]
            prompt_tokens = asked_tokens
            if remembers:
                prompt_tokens -= self._memory.cached_tokens(request, replica_id, now_s)
            output = forecast.output_tokens
            if output > most_tokens:
                output = float(most_tokens)
            whole = 1.0  # share of the answer that the request's own budget pays for
            if limited:
                paid = affordable_tokens(request, fact)
                if output > paid:
                    whole, output = paid / output, float(paid)
            pace = self.paces.of(replica)
            context = asked_tokens + 0.5 * output
            ttft_s = pace.ttft_s(prompt_tokens)
            tpot_s = pace.tpot_of(context)
            e2e_s = ttft_s + output * tpot_s
            chance = self._chance(fact.kind, slo, age_s, ttft_s, tpot_s, output)
            others_s = _others_s(replica, pace, prompt_tokens, output, context)
            quality = forecast.quality - options.caution * forecast.quality_sd
            price = (asked_tokens * offer.price.input_per_token
                     + output * offer.price.output_per_token)
            worth = chance + late_share * (1.0 - chance)
            utility = (value * quality * whole * worth - price * markup
                       - second_value * (e2e_s + others_s))
            found.append(ScoredCandidate(replica_id, utility, quality, price, chance, ttft_s, e2e_s,
                                         others_s,
                                         _violated_requirement(request, fact, quality, chance,
                                                               options)))
        return found

    def _chance(self, kind: str, slo: Slo, age_s: float, ttft_s: float, tpot_s: float,
                output: float) -> float:
        """Return the probability that every target is met: the least of the targets' probabilities,
        since they depend on the same load."""
        least = 1.0
        predictor = self._predictors[kind]
        if slo.ttft_s is not None:
            least = predictor.chance(TTFT, ttft_s, slo.ttft_s - age_s)
        if slo.itl_s is not None:
            limit_s = slo.itl_s
            if slo.itl == "paced" and slo.ttft_s is not None and output > 1.0:
                # An early first token leaves more time for the others.
                limit_s += max(0.0, slo.ttft_s - age_s - ttft_s) / output
            least = min(least, predictor.chance(TPOT, tpot_s, limit_s))
        if slo.e2e_s is not None:
            least = min(least, predictor.chance(E2E, ttft_s + output * tpot_s,
                                                slo.e2e_s - age_s))
        return least


def _others_s(replica: ReplicaSnapshot, pace: Pace, prompt_tokens: int, output: float,
              context: float) -> float:
    """Return the total additional seconds that the replica's other requests wait.

    The new prompt delays every running request once. Then each step is longer by the cost of the
    new sequence, as long as the others run.
    """
    running, present = replica.num_running, replica.num_running + replica.num_waiting
    if not present:
        return 0.0
    mean_left = replica.pending_output_tokens / present
    steps = output if output < mean_left else mean_left
    return (present * prompt_tokens * pace.token_s
            + running * steps * (pace.seq_s + pace.context_s * context))


def _violated_requirement(request: Request, fact: ReplicaFacts, quality: float, chance: float,
                          options: JointOptions) -> str:
    """Return why the replica may not serve the request; empty where it may."""
    needs = request.needs
    if needs is not NO_NEEDS:
        if needs.max_cost is not None and affordable_tokens(request, fact) < 1:
            return BUDGET
        if needs.min_quality is not None and quality < needs.min_quality:
            return QUALITY
    return CHANCE if chance < options.min_chance else ""


def rejection_reason(prospect: ScoredCandidate, request: Request) -> str:
    """Describe why a replica may not serve a request."""
    if prospect.reason == BUDGET:
        return "would spend the whole budget on the prompt"
    if prospect.reason == QUALITY:
        return f"is expected to answer with quality {prospect.quality:.3g} only"
    if prospect.reason == CHANCE:
        return f"would keep the targets of {request.service_class.name} with a chance of " \
               f"{prospect.chance:.0%} only"
    return prospect.reason


def affordable_tokens(request: Request, fact: ReplicaFacts) -> int:
    """Return the output tokens that the request's own budget pays for, ``max_tokens`` without a
    budget."""
    ceiling = request.needs.max_cost
    if ceiling is None:
        return request.max_tokens
    left = ceiling - request.prompt_tokens * fact.offer.price.input_per_token
    if left < 0.0:
        return 0
    if fact.offer.price.output_per_token <= 0.0:
        return request.max_tokens
    # The small term absorbs rounding errors of an exact budget.
    tokens = left / fact.offer.price.output_per_token + 1e-9
    return request.max_tokens if tokens >= request.max_tokens else int(tokens)


def retry_after_s(request: Request, prospects: Sequence[ScoredCandidate]) -> float:
    """Return the time to retry after: the lateness of the earliest answer, at least 1 s."""
    slo = request.service_class.slo
    late_s = [max(p.ttft_s - (slo.ttft_s or p.ttft_s), p.e2e_s - (slo.e2e_s or p.e2e_s))
              for p in prospects if p.reason == CHANCE]
    return max(LEAST_RETRY_S, min(late_s, default=LEAST_RETRY_S))
