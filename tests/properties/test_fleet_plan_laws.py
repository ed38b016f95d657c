"""Laws of whole plans: what a change to a fleet may do to its plan, and what a plan promises."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from penstock.fleet.judge import attainment_by_class, cost_per_hour
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.fleet.write import to_yaml
from penstock.plan.assign.solution import Solution
from penstock.plan.assign.solve import solve
from penstock.plan.check import check
from penstock.plan.demands import demands_of
from penstock.plan.estimate import Candidate, estimate
from penstock.plan.plan import FleetPlan, plan_fleet
from penstock.plan.propose import Choice, problem_of
from penstock.plan.variants import variants_of
from penstock.sim.simulation import simulate
from support.scaled_examples import examples
from support.small_plans import cards, document_of, fleet, lengths, traffic

_EXAMPLES = examples(8)

_SLOS = st.fixed_dictionaries({}, optional={
    "ttft_s": st.sampled_from((0.15, 0.5, 2)), "itl_s": st.sampled_from((0.02, 0.05)),
    "e2e_s": st.sampled_from((3, 30)), "itl": st.sampled_from(("paced", "strict", "mean")),
    "percentile": st.sampled_from((50, 90, 99, 100))})
_KINDS = ("a100_80gb", "l4", "h100_80gb", "l40s")


@st.composite
def fleets(draw: st.DrawFn, counts: tuple[int | None, ...] = (None, 1, 3)) -> Fleet:
    """One or two accelerators, classes and models with little traffic."""
    kinds = draw(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=2, unique=True))
    pools = cards(**{kind: draw(st.sampled_from(counts)) for kind in kinds})
    for pool in pools:
        pool["price_per_hour"] = draw(st.sampled_from((0.5, 1.0, 3.0)))
    models = draw(st.sampled_from((["llama-3-8b"], ["llama-3-8b"], ["llama-3-8b", "qwen2.5-7b"])))
    prompt, output = draw(st.sampled_from(((300, 20), (1500, 60), (100, 100))))
    entries = [traffic(model=model, name=model, rate_per_s=draw(st.sampled_from((2, 12, 60))),
                       num_requests=30, lengths=lengths(prompt, output)) for model in models]
    return fleet(*entries, accelerators=pools, models=[{"name": model} for model in models],
                 service_classes=[{"name": "chat", "slo": draw(_SLOS)},
                                  {"name": "batch", "priority": 2, "slo": draw(_SLOS)}],
                 plan={"pooling": draw(st.sampled_from(("model", "class"))), "tensor": [1, 2],
                       "mixed": draw(st.booleans())},
                 policies={"schedule": draw(st.sampled_from(("penstock", "sarathi", "fcfs")))})


@dataclass(frozen=True)
class Believed:
    """A fleet with all its choices, solved for what is estimated, without a simulation."""

    fleet: Fleet
    choices: list[Choice]

    @classmethod
    def of(cls, found: Fleet) -> "Believed":
        workloads = (fleet_workload(found),)
        choices = []
        for demand in demands_of(found, workloads):
            variants, _ = variants_of(found, demand.model, demand.longest_tokens)
            able = [estimate(found, demand, variant) for variant in variants]
            choices.append(Choice(demand, tuple(e for e in able if isinstance(e, Candidate))))
        return cls(found, choices)

    def solved(self) -> Solution:
        rates = {(c.demand.name, k.variant.name): k.rate_per_s
                 for c in self.choices for k in c.candidates}
        return solve(problem_of(self.fleet, self.choices, rates))


def never_worse(better: Solution, than: Solution, rates: dict[str, float]) -> None:
    """Serves at least as much, and if as much, at no more cost."""
    served = [sum(s.served[name] * rate for name, rate in rates.items()) for s in (better, than)]
    if not than.unserved:
        assert not better.unserved
        assert better.cost_per_hour <= than.cost_per_hour + 1e-6
    elif len(rates) == 1:
        assert served[0] >= served[1] - 1e-4 * max(served)


def rates_of(believed: Believed) -> dict[str, float]:
    return {c.demand.name: c.demand.rate_per_s for c in believed.choices}


def with_pools(found: Fleet, **changes) -> Fleet:
    return replace(found, accelerators=tuple(replace(p, **{
        key: change(p) for key, change in changes.items()}) for p in found.accelerators))


@examples(12)
@given(fleets((1, 2, 3)))
def test_more_supply_never_raises_the_cost(found: Fleet) -> None:
    before = Believed.of(found)
    more = with_pools(found, count=lambda p: p.count + 2)
    never_worse(Believed.of(more).solved(), before.solved(), rates_of(before))


@examples(12)
@given(fleets(), st.floats(0.2, 0.95))
def test_lower_prices_never_raise_the_cost(found: Fleet, part: float) -> None:
    first = found.accelerators[0].accelerator.name
    cheaper = with_pools(found, price_per_hour=lambda p: p.price_per_hour * (
        part if p.accelerator.name == first else 1.0))
    one, other = Believed.of(found).solved(), Believed.of(cheaper).solved()
    assert other.served == pytest.approx(one.served, abs=1e-4)
    if not one.unserved:
        assert other.cost_per_hour <= one.cost_per_hour + 1e-6


@examples(12)
@given(fleets(), st.sampled_from((0.01, 7.0, 300.0)))
def test_scaled_prices_scale_the_objective(found: Fleet, factor: float) -> None:
    scaled = with_pools(found, price_per_hour=lambda p: p.price_per_hour * factor)
    one, other = Believed.of(found).solved(), Believed.of(scaled).solved()
    assert other.served == pytest.approx(one.served, abs=1e-4)
    if not one.unserved:
        assert other.cost_per_hour == pytest.approx(one.cost_per_hour * factor, rel=1e-5, abs=1e-5)


@examples(12)
@given(fleets(), st.sampled_from(("ttft_s", "itl_s", "e2e_s")))
def test_looser_targets_never_raise_the_cost(found: Fleet, name: str) -> None:
    """By arrival, since a tighter target may rightly let its class go first."""
    assume(found.policies.schedule.order == "arrival")
    looser = replace(found, service_classes=tuple(
        replace(c, slo=replace(c.slo, **{name: None})) for c in found.service_classes))
    believed = Believed.of(found)
    never_worse(Believed.of(looser).solved(), believed.solved(), rates_of(believed))


@examples(12)
@given(fleets())
def test_less_traffic_never_needs_more(found: Fleet) -> None:
    half = replace(found, traffic=tuple(replace(spec, rate_per_s=spec.rate_per_s / 2)
                                        for spec in found.traffic))
    believed = Believed.of(found)
    one, less = believed.solved(), Believed.of(half).solved()
    if not one.unserved:
        assert not less.unserved
        assert less.cost_per_hour <= one.cost_per_hour + 1e-6


def planned(found: Fleet) -> FleetPlan:
    return plan_fleet(found, solve)


@_EXAMPLES
@given(fleets())
def test_a_plan_keeps_its_promises(found: Fleet) -> None:
    """Simulated anew as one fleet, what is served in full meets every objective on every seed."""
    plan = planned(found)
    solution = plan.checked.solution
    assert cost_per_hour(plan.fleet) == pytest.approx(solution.cost_per_hour)
    for pool in found.accelerators:
        used = sum(g.num_accelerators for g in plan.fleet.replicas
                   if g.accelerator.name == pool.accelerator.name)
        assert used == solution.accelerators.get(pool.accelerator.name, 0)
        assert pool.count is None or used <= pool.count
    served = {c.demand.name for c in plan.choices} - set(solution.unserved)
    for choice in plan.choices:
        groups = [g for g in plan.fleet.replicas if g.model is choice.demand.model.spec
                  and g.service_classes == choice.demand.class_names]
        assert bool(groups) == (solution.served[choice.demand.name] > 0)
        if choice.demand.name not in served or not plan.checked.holds:
            continue
        alone = replace(found, replicas=tuple(groups))
        for seed, workload in enumerate(choice.demand.workloads):
            table = simulate(alone, workload, seed=seed).table
            for name, attainment in attainment_by_class(alone, table).items():
                assert attainment.meets(found.service_class(name).slo.percentile)
    document_of(plan)


@_EXAMPLES
@given(fleets((None,)))
def test_the_whole_fleet_meets_what_its_plan_promised(found: Fleet) -> None:
    plan = planned(found)
    assume(plan.served_in_full)
    again = parse_fleet(to_yaml(plan.fleet))
    assert again.replicas == plan.fleet.replicas
    for seed in range(found.plan.num_seeds):
        table = simulate(again, fleet_workload(again, seed), seed=seed).table
        assert len(table) == 30 * len(found.traffic)
        for name, attainment in attainment_by_class(again, table).items():
            assert attainment.meets(found.service_class(name).slo.percentile)


@examples(6)
@given(fleets(), st.booleans())
def test_the_order_of_the_input_changes_nothing(found: Fleet, pools_too: bool) -> None:
    turned = replace(found, models=found.models[::-1],
                     accelerators=found.accelerators[::-1] if pools_too else found.accelerators)
    one, other = planned(found), planned(turned)
    assert one.checked.counts == other.checked.counts
    assert document_of(one)["cost_per_hour"] == document_of(other)["cost_per_hour"]


@examples(6)
@given(fleets())
def test_what_was_planned_is_not_changed_again(found: Fleet) -> None:
    """Replicas that a plan proposed stay when it is made again from them."""
    found = replace(found, plan=replace(found.plan, start_cost=1.0, stop_cost=1.0))
    plan = planned(found)
    assume(plan.checked.counts and plan.fleet.replicas and plan.served_in_full)
    again = planned(plan.fleet)
    assert document_of(again)["changes"] == []
    assert again.checked.solution.switching_cost == 0.0


@examples(6)
@given(fleets((None, 2)), st.sampled_from((0.1, 9.0)))
def test_checked_plans_scale_with_prices(found: Fleet, factor: float) -> None:
    scaled = with_pools(found, price_per_hour=lambda p: p.price_per_hour * factor)
    one, other = planned(found).checked, planned(scaled).checked
    assert other.counts == one.counts
    assert other.solution.cost_per_hour == pytest.approx(one.solution.cost_per_hour * factor)


@_EXAMPLES
@given(fleets((None, 1)))
def test_every_trial_that_met_is_believed(found: Fleet) -> None:
    """In the end no rate denies what a simulation of one kind alone has shown to be too little."""
    believed = Believed.of(found)
    result = check(found, believed.choices, solve, seed=0)
    rates = {c.demand.name: c.demand.rate_per_s for c in believed.choices}
    for trial in result.trials:
        if len(trial.counts) == 1 and not trial.verdict.meets and trial.share == 1.0:
            (variant, count), = trial.counts
            rate = result.rates[trial.demand, variant]
            final = dict(result.counts[trial.demand])
            if final.keys() == {variant} and trial.demand not in result.solution.unserved:
                assert final[variant] > count
                assert rate * final[variant] >= rates[trial.demand] * (1 - 1e-6)
