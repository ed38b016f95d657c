"""Shadow prices and Pareto fronts on cases whose answer is plain."""

from dataclasses import replace

import pytest

from penstock.core.errors import InputError
from penstock.plan.assign.pareto import pareto
from penstock.plan.assign.prices import shadow_prices
from penstock.plan.assign.problem import Demand, Limits, Option, Pool, Problem, Supply
from penstock.plan.assign.solve import solve

BIG, SMALL = Pool("big", 4.0, {"H100": 1}), Pool("small", 1.0, {"L4": 1})


def demand(name: str, **loads: float) -> Demand:
    return Demand(name, tuple(Option(pool, load) for pool, load in loads.items()))


SCARCE = Problem((BIG, SMALL), tuple(demand(f"d{i}", big=1.0, small=2.0) for i in range(3)),
                 Supply({"H100": 9, "L4": 4}))


def test_a_scarce_card_has_a_price_and_an_ample_one_none() -> None:
    found = {price.resource: price for price in shadow_prices(SCARCE, solve(SCARCE))}
    # Two small replicas do what a big one does for half its cost: 1 per card, but one is no use.
    assert found["L4"].dual == pytest.approx(1.0)
    assert found["L4"].saves == pytest.approx(0.0)
    assert (found["L4"].available, found["L4"].used, found["L4"].step) == (4.0, 4.0, 1.0)
    assert (found["H100"].dual, found["H100"].saves) == (0.0, 0.0)
    five = replace(SCARCE, supply=Supply({"H100": 9, "L4": 5}))
    prices = shadow_prices(five, solve(five))
    assert {p.resource: p.saves for p in prices} == {"H100": 0.0, "L4": pytest.approx(2.0)}


def test_what_one_more_serves() -> None:
    short = replace(SCARCE, supply=Supply({"H100": 0, "L4": 3}), limits=Limits(power_w=1e4))
    found = {price.resource: price for price in shadow_prices(short, solve(short))}
    assert found["L4"].serves == ((1, pytest.approx(0.5)),)
    assert found["L4"].dual_served == pytest.approx(0.5)
    assert found["power_w"].serves == ((1, 0.0),)
    (dual, *_) = shadow_prices(short, solve(short), differences=False)
    assert dual.saves is None


def test_a_budget_has_a_price() -> None:
    poor = replace(SCARCE, limits=Limits(cost_per_hour=4.0))
    found = {price.resource: price for price in shadow_prices(poor, solve(poor))}
    assert found["cost_per_hour"].step == 1.0
    assert found["cost_per_hour"].used == 4.0
    assert found["cost_per_hour"].dual_served == pytest.approx(0.25)


def test_a_front_has_no_point_that_another_beats() -> None:
    pools = (Pool("a", 1.0), Pool("b", 2.0), Pool("c", 2.0), Pool("e", 5.0))
    problem = Problem(pools, (demand("d", a=1.0, b=1.0, c=1.0, e=1.0),))
    latency_ms = {("d", "a"): 90.0, ("d", "b"): 60.0, ("d", "c"): 50.0, ("d", "e"): 20.0}
    front = pareto(problem, latency_ms)
    assert [(p.score, p.cost) for p in front] == [(90.0, 1.0), (50.0, 2.0), (20.0, 5.0)]


def test_a_front_ends_where_less_would_be_served() -> None:
    latency_ms = {(d.name, o.pool): 10.0 if o.pool == "big" else 50.0
                  for d in SCARCE.demands for o in d.options}
    assert [(p.score, p.cost) for p in pareto(SCARCE, latency_ms)] == [(50.0, 8.0), (10.0, 12.0)]
    few = replace(SCARCE, supply=Supply({"H100": 2, "L4": 4}))
    assert [(p.score, p.cost) for p in pareto(few, latency_ms)] == [(50.0, 8.0)]


def test_a_score_may_not_be_missing() -> None:
    with pytest.raises(InputError, match="score of 'd0' on 'small' is missing"):
        pareto(SCARCE, {(d.name, "big"): 1.0 for d in SCARCE.demands})
