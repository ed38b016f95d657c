"""What would serve a demand that is left out, exactly."""

from dataclasses import replace

import pytest

from penstock.plan.assign.exact import solve_exact
from penstock.plan.assign.explain import Alternative, More, explain
from penstock.plan.assign.problem import Demand, Limits, Option, Pool, Problem, Supply
from support.random_planning_problems import server_problem

BIG, SMALL = Pool("big", 4.0, {"H100": 2}, 700.0), Pool("small", 1.0, {"L4": 1}, 70.0)


def demand(name: str, **loads: float) -> Demand:
    return Demand(name, tuple(Option(pool, load) for pool, load in loads.items()))


def test_more_cards_of_either_type() -> None:
    problem = Problem((BIG, SMALL), (demand("d", big=2.5, small=7.0),),
                      Supply({"H100": 3, "L4": 4}))
    (found,) = explain(problem, solve_exact(problem))
    assert found.demand == "d"
    assert found.remedies == (More("accelerators", "H100", 3.0), More("accelerators", "L4", 3.0))
    assert (found.together, found.looser, found.proven) == ((), None, True)
    for more in found.remedies:
        cards = dict(problem.supply.accelerators)
        enough = replace(problem, supply=Supply({**cards, more.name: cards[more.name] + 3}))
        short = replace(problem, supply=Supply({**cards, more.name: cards[more.name] + 2}))
        assert not solve_exact(enough).unserved
        assert solve_exact(short).unserved


@pytest.mark.parametrize(("limits", "more"), [
    (Limits(cost_per_hour=5.0), More("cost_per_hour", "", 2.0)),
    (Limits(power_w=400.0), More("power_w", "", 90.0))])
def test_a_larger_budget(limits: Limits, more: More) -> None:
    problem = Problem((BIG, SMALL), (demand("d", big=2.5, small=7.0),), limits=limits)
    (found,) = explain(problem, solve_exact(problem))
    assert [(m.what, m.name) for m in found.remedies] == [(more.what, more.name)]
    assert found.remedies[0].amount == pytest.approx(more.amount)


def test_others_may_move_to_make_room() -> None:
    # d needs an H100 that e holds; with one more L4, e can make way.
    problem = Problem((replace(BIG, accelerators={"H100": 1}), SMALL),
                      (replace(demand("d", big=1.0), priority=2),
                       demand("e", big=1.0, small=2.0)), Supply({"H100": 1, "L4": 1}))
    (found,) = explain(problem, solve_exact(problem))
    assert More("accelerators", "L4", 1.0) in found.remedies
    assert More("accelerators", "H100", 1.0) in found.remedies


def test_a_pool_may_be_too_small() -> None:
    problem = Problem((replace(SMALL, max_replicas=3),), (demand("d", small=4.2),))
    (found,) = explain(problem, solve_exact(problem))
    assert found.served == pytest.approx(3 / 4.2)
    assert found.remedies == (More("max_replicas", "small", 2.0),)


def test_two_things_together() -> None:
    problem = Problem((BIG,), (demand("d", big=2.0),), Supply({"H100": 2}), Limits(power_w=700.0))
    (found,) = explain(problem, solve_exact(problem))
    assert found.remedies == ()
    assert found.together == (More("accelerators", "H100", 2.0), More("power_w", "", 700.0))


def test_a_looser_target() -> None:
    problem = Problem((BIG, SMALL), (demand("d", big=2.5), demand("e")), Supply({"H100": 3}))
    looser = {"d": [Alternative("itl 60 ms", (Option("big", 1.9),)),
                    Alternative("itl 80 ms", (Option("big", 1.0),)),
                    Alternative("itl 99 ms", (Option("big", 0.5),))],
              "e": [Alternative("ttft 9 s", (Option("new", 1.0),), (Pool("new", 1.0),))]}
    first, second = explain(problem, solve_exact(problem), looser=looser)
    assert first.looser == "itl 80 ms"
    assert (second.demand, second.has_options, second.remedies) == ("e", False, ())
    assert second.looser == "ttft 9 s"


def test_a_plan_that_serves_everything_needs_no_explanation() -> None:
    problem = Problem((SMALL,), (demand("d", small=1.0),))
    assert explain(problem, solve_exact(problem)) == ()


def test_in_a_large_problem_other_blocks_stay() -> None:
    base = server_problem(300, 8, 3.0, seed=1)
    extra = replace(base.demands[0], name="extra", priority=9,
                    options=(Option("only", 10.0),))
    problem = replace(base, pools=(*base.pools, Pool("only", 1.0, {"rare": 2})),
                      demands=(*base.demands, extra), supply=Supply({"rare": 5}))
    (found,) = explain(problem, solve_exact(problem))
    assert (found.demand, found.others_move) == ("extra", False)
    assert found.remedies == (More("accelerators", "rare", 15.0),)
