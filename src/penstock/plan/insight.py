"""Why a plan leaves traffic unserved, which resources are scarce, and what lower latency costs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite

from penstock.core.slo import ServiceClass
from penstock.fleet.values import Fleet
from penstock.plan.assign.explain import Alternative, More, Shortfall, explain
from penstock.plan.assign.pareto import ParetoPoint, pareto
from penstock.plan.assign.prices import ShadowPrice, shadow_prices
from penstock.plan.assign.problem import Option, Pool
from penstock.plan.demands import Demand
from penstock.plan.estimate import Candidate, ClassEstimate, estimate
from penstock.plan.expected import all_alone
from penstock.plan.plan import FleetPlan
from penstock.plan.propose import Choice, Counts, format_fleet, pool_name, problem_of
from penstock.plan.variants import variants_of

LOOSER = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Factors that are tried on all targets of an unserved demand, to find targets that can be met."""

NEVER_S = 1e9
"""The score of a latency that grows without end."""

_TIME_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Insight:
    """Findings about a plan. They follow from the believed rates, not from further simulations.

    ``shortfalls`` explain the unserved demands; ``prices`` are those of limited accelerators and
    budgets. The ``front`` is cost against the worst predicted p99 TTFT, cheapest first; ``score``
    is that TTFT of the plan itself. ``with_more_accelerators`` has the cheapest candidate without a
    limit on accelerators, for demands that nothing in the fleet can serve.
    """

    shortfalls: tuple[Shortfall, ...]
    prices: tuple[ShadowPrice, ...]
    front: tuple[ParetoPoint, ...]
    score: float
    with_more_accelerators: Mapping[str, Candidate]


def insight(plan: FleetPlan) -> Insight:
    """Explanations, shadow prices and the Pareto front of a plan."""
    problem, solution = plan.checked.problem, plan.checked.solution
    looser = {choice.demand.name: tuple(_alternatives(plan.before, choice))
              for choice in plan.choices if choice.demand.name in solution.unserved}
    front, score = ((), NEVER_S) if plan.has_roles else _front(plan)
    return Insight(
        explain(problem, solution, looser=looser, time_limit_s=_TIME_LIMIT_S),
        shadow_prices(problem, solution, time_limit_s=_TIME_LIMIT_S), front, score,
        dict(_with_more_accelerators(plan)))


def _front(plan: FleetPlan) -> tuple[tuple[ParetoPoint, ...], float]:
    """The front, and the plan's own score.

    A variant that is not in the plan counts with its rate as ``all_alone`` states it: without the
    optimism of a belief that no simulation corrected.
    """
    choices = [replace(choice, candidates=(*choice.candidates, *choice.dominated))
               for choice in plan.choices]
    rates, scores = dict(plan.checked.rates), {}
    confirmed = {choice.demand.name: _of_candidates(choice, plan.checked.confirmed)
                 for choice in choices}
    for choice in choices:
        name = choice.demand.name
        used = dict(plan.checked.counts[name])
        for variant, found in all_alone(plan, choice).items():
            scores[name, pool_name(name, variant)] = slowest_s(found.classes)
            if variant not in used:
                rates[name, variant] = found.rate_per_s
        for counts in confirmed[name]:
            if choice.is_split(counts):  # the analytic model does not tell their latency
                scores[name, pool_name(name, format_fleet(counts))] = NEVER_S
                continue
            scores[name, pool_name(name, format_fleet(counts))] = max(
                scores[name, pool_name(name, variant)] for variant, _ in counts)
    problem = problem_of(plan.before, choices, rates, confirmed=confirmed)
    front = pareto(problem, scores, time_limit_s=_TIME_LIMIT_S)
    return front, max((scores[key] for key in plan.checked.solution.shares), default=NEVER_S)


def _of_candidates(choice: Choice, confirmed: Mapping[str, dict[Counts, float]]
                   ) -> dict[Counts, float]:
    """Return the confirmed fleets of a demand whose variants are all still considered."""
    known = {one.variant.name for one in choice.every}
    return {counts: share for counts, share in confirmed[choice.demand.name].items()
            if all(variant in known for variant, _ in counts)}


def _alternatives(fleet: Fleet, choice: Choice) -> Iterator[Alternative]:
    """The demand with all of its targets looser, by one factor after the other."""
    for factor in LOOSER:
        demand = replace(choice.demand, classes=tuple(loosened(c, factor)
                                                      for c in choice.demand.classes))
        yield _alternative(fleet, demand, f"all targets {factor:g} times as long")


def loosened(service_class: ServiceClass, factor: float) -> ServiceClass:
    """The class with every target ``factor`` times as long."""
    slo = service_class.slo
    return replace(service_class, slo=replace(
        slo, **{name: value * factor for name in ("ttft_s", "itl_s", "e2e_s")
                if (value := getattr(slo, name)) is not None}))


def _alternative(fleet: Fleet, demand: Demand, label: str) -> Alternative:
    options, pools = [], []
    variants, _ = variants_of(fleet, demand.model, demand.longest_tokens,
                              confidential=demand.confidential)
    for variant in variants:
        found = estimate(fleet, demand, variant)
        if isinstance(found, Candidate) and found.rate_per_s > 0.0:
            name = f"{pool_name(demand.name, variant.name)}, {label}"
            group = variant.group
            most_per_s = found.bound_per_s if demand.lasting else None
            options.append(Option(name, demand.rate_per_s / min(found.rate_per_s,
                                                                most_per_s or inf)))
            pools.append(Pool(name, variant.cost_per_hour,
                              {group.accelerator.name: group.num_accelerators}, variant.power_w))
    return Alternative(label, tuple(options), tuple(pools))


def _with_more_accelerators(plan: FleetPlan) -> Iterator[tuple[str, Candidate]]:
    """Demands without a candidate that have one if no accelerator is limited, and the cheapest."""
    fleet = plan.before
    endless = replace(fleet, accelerators=tuple(replace(pool, count=None)
                                                for pool in fleet.accelerators))
    for choice in plan.choices:
        if choice.candidates:
            continue
        demand = choice.demand
        variants, _ = variants_of(endless, demand.model, demand.longest_tokens,
                                  confidential=demand.confidential)
        able = [found for variant in variants
                if isinstance(found := estimate(endless, demand, variant), Candidate)]
        if able:
            yield demand.name, min(able, key=lambda c: (c.cost_per_hour, c.variant.name))


def slowest_s(classes: Iterable[ClassEstimate]) -> float:
    """The predicted p99 TTFT of the slowest class."""
    return max((c.ttft_p99_s if isfinite(c.ttft_p99_s) else NEVER_S for c in classes),
               default=NEVER_S)


def format_shortfall(shortfall: Shortfall, with_more_accelerators: Candidate | None = None) -> str:
    """A shortfall in one sentence."""
    if not shortfall.has_options:
        reason = "nothing in the fleet can meet its targets"
    elif shortfall.served > 0:
        reason = f"served to {shortfall.served:.0%} with all there is"
    else:
        reason = "nothing is left for it"
    remedies = [_more(more) for more in shortfall.remedies]
    if with_more_accelerators is not None:
        count, variant = with_more_accelerators.num_replicas, with_more_accelerators.variant
        remedies.append(f"{count * variant.group.num_accelerators} "
                        f"{variant.group.accelerator.name} in all, as {count} x {variant.name}")
    if shortfall.together:
        remedies.append(" and ".join(_more(more) for more in shortfall.together))
    if shortfall.looser is not None:
        remedies.append(shortfall.looser)
    if not remedies:
        return (f"{reason}; beside what is served, neither more accelerators nor targets up to "
                f"{LOOSER[-1]:g} times as long would help")
    least = "" if shortfall.proven else " (more than the least, perhaps)"
    return f"{reason}; by estimate it would be with {', or '.join(remedies)}{least}"


def _more(more: More) -> str:
    if more.what == "accelerators":
        return f"{ceil(more.amount - 1e-9)} more {more.name}"
    if more.what == "cost_per_hour":
        return f"${more.amount:,.2f} more per hour"
    if more.what == "power_w":
        return f"{more.amount:,.0f} W more"
    return f"{ceil(more.amount - 1e-9)} more replicas on {more.name}"
