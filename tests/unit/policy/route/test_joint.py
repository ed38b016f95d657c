"""Joint choice of model and replica: utility in money under hard demands."""

from dataclasses import replace
from itertools import product

import pytest

from penstock.core.decision import ACCEPT, NOWHERE, Reject, Relax, Route
from penstock.core.forecast import Forecast
from penstock.core.request import Needs
from penstock.core.slo import ServiceClass, Slo
from penstock.policy.route.context import free_of_charge
from penstock.policy.route.facts import ReplicaFacts
from penstock.policy.route.joint.options import JointOptions
from penstock.policy.route.joint.prospects import affordable_tokens
from penstock.policy.route.joint.router import JointRouter
from support.small_routing import (
    LARGE,
    burst,
    departure,
    expected,
    fact,
    joined,
    request,
    snapshot,
    usual,
)

FACTS = [fact(0), fact(1), fact(2, LARGE)]
IDLE = [snapshot(0), snapshot(1), snapshot(2, "large")]
ONE = request(forecasts=expected())


DEFAULTS = JointOptions()


def joint(options: JointOptions = DEFAULTS, facts: list[ReplicaFacts] = FACTS,
          markups: dict[str, float] | None = None) -> JointRouter:
    price = free_of_charge if markups is None else lambda tenant: markups[tenant]
    return JointRouter(facts, options, usual(facts), price)


# -- what is maximised --------------------------------------------------------------------------


def test_the_utility_is_made_of_its_terms() -> None:
    options = JointOptions(answer_value=0.02, second_value=1e-4, late_share=0.25, caution=2.0)
    gold = ServiceClass("gold", Slo(ttft_s=0.03), weight=3.0)
    one = request(service_class=gold, forecasts=expected(unsure=0.05), tenant="a")
    busy = snapshot(0, running=2, kv_used=500, pending=60.0)
    router = joint(options, markups={"a": 0.5})
    found = router.route(one, [busy, IDLE[2]], 0.0).prospects[0]
    assert found.quality == pytest.approx(0.5 - 2 * 0.05)
    assert found.price == pytest.approx(100 * 1e-7 + 100 * 2e-7)
    assert 0.0 < found.chance < 1.0
    # The others: a prompt of 100 tokens holds both up; their 30 steps are longer by a sequence.
    assert found.others_s == pytest.approx(2 * 100 * 1e-4 + 2 * 30 * (1e-4 + 1e-7 * 150))
    worth = found.chance + 0.25 * (1.0 - found.chance)
    assert found.utility == pytest.approx(
        0.02 * 3.0 * found.quality * worth - 1.5 * found.price
        - 1e-4 * (found.e2e_s + found.others_s))


@pytest.mark.parametrize(("options", "chosen"), [
    (JointOptions(answer_value=0.0, second_value=0.0), 0),
    (JointOptions(answer_value=1e3, second_value=0.0), 2)])
def test_the_corners_take_the_cheapest_and_the_best(options: JointOptions, chosen: int) -> None:
    assert joint(options).route(ONE, IDLE, 0.0).replica_id == chosen


def test_where_only_time_counts_the_fastest_is_taken() -> None:
    hurried = JointOptions(answer_value=0.0, second_value=1e3)
    slow_small, fast_large = (replace(FACTS[0], prior=FACTS[2].prior),
                              replace(FACTS[2], prior=FACTS[0].prior))
    assert joint(hurried).route(ONE, IDLE[1:], 0.0).replica_id == 1
    assert joint(hurried, [slow_small, fast_large]).route(
        ONE, [IDLE[0], IDLE[2]], 0.0).replica_id == 2


@pytest.mark.parametrize("factor", [2.0**-30, 2.0**-3, 2.0**20])
@pytest.mark.parametrize("value", [0.0, 1e-4, 3e-4, 1e-3, 1.0])
def test_the_unit_of_money_does_not_matter(factor: float, value: float) -> None:
    options = JointOptions(answer_value=value, second_value=1e-5)
    scaled_options = JointOptions(answer_value=value * factor, second_value=1e-5 * factor)
    facts = [replace(f, offer=f.offer._replace(price=f.offer.price._replace(
        input_per_token=f.offer.price.input_per_token * factor,
        output_per_token=f.offer.price.output_per_token * factor))) for f in FACTS]
    for ceiling in (None, 2e-5, 1e-4):
        one = ONE._replace(needs=Needs(max_cost=ceiling))
        same = ONE._replace(needs=Needs(max_cost=None if ceiling is None else ceiling * factor))
        first = joint(options).route(one, IDLE, 0.0)
        second = joint(scaled_options, facts).route(same, IDLE, 0.0)
        assert (first.replica_id, first.max_tokens, first.admit) == (
            second.replica_id, second.max_tokens, second.admit)


def test_uncertain_quality_counts_less_to_the_cautious() -> None:
    unsure = {"small": Forecast(100.0, 200.0, 0.6), "large": Forecast(100.0, 200.0, 0.7, 0.2)}
    one = request(forecasts=unsure)
    bold, cautious = (joint(JointOptions(answer_value=1.0, second_value=0.0, caution=caution))
                      for caution in (0.0, 1.0))
    assert bold.route(one, IDLE, 0.0).replica_id == 2
    assert cautious.route(one, IDLE, 0.0).replica_id == 0


def test_equals_go_to_the_lower_number() -> None:
    assert joint().route(request(), [IDLE[1], IDLE[0]], 0.0).replica_id == 0


def test_who_waits_longer_is_worth_less() -> None:
    busy = snapshot(0, waiting=4, queued=8000, pending=400.0)
    assert joint().route(request(), [busy, IDLE[1]], 0.0).replica_id == 1


def test_a_burst_over_equal_replicas_spreads() -> None:
    facts = [fact(i) for i in range(5)]
    routes = burst(joint(facts=facts), [snapshot(i) for i in range(5)], 63)
    counts = [sum(route.replica_id == i for route in routes) for i in range(5)]
    assert max(counts) - min(counts) <= 1


# -- tenants' budgets ---------------------------------------------------------------------------


def test_a_tenant_ahead_of_its_budget_moves_to_cheaper_models() -> None:
    one = request(forecasts=expected(), tenant="a")
    options = JointOptions(answer_value=1e-3, second_value=0.0)
    markups = [0.0, 0.2, 0.5, 1.0, 2.0, 5.0]
    found = [joint(options, markups={"a": markup}).route(one, IDLE, 0.0) for markup in markups]
    prices = [next(p.price for p in route.prospects if p.replica_id == route.replica_id)
              for route in found]
    assert prices == sorted(prices, reverse=True)
    assert prices[0] > prices[-1]


# -- hard demands -------------------------------------------------------------------------------


def test_a_quality_floor_holds() -> None:
    one = request(needs=Needs(min_quality=0.6), forecasts=expected())
    cheap = JointOptions(answer_value=0.0)
    assert joint(cheap).route(one, IDLE, 0.0).replica_id == 2
    refused = joint(cheap).route(one._replace(needs=Needs(min_quality=0.8)), IDLE, 0.0)
    assert refused.replica_id == NOWHERE
    assert refused.admit == Reject("no model is expected to reach the quality asked for")
    assert refused.rejected[2] == "is expected to answer with quality 0.7 only"


def test_a_budget_keeps_out_what_it_does_not_pay_for() -> None:
    best = JointOptions(answer_value=1e3)
    # The large model's prompt alone costs 5e-5, the small one's 1e-5.
    one = request(needs=Needs(max_cost=4e-5), forecasts=expected())
    route = joint(best).route(one, IDLE, 0.0)
    assert route.replica_id == 0
    assert route.max_tokens == 150
    refused = joint(best).route(one._replace(needs=Needs(max_cost=1e-6)), IDLE, 0.0)
    assert refused.admit == Reject("the budget does not pay for the prompt on any model")
    assert refused.rejected[0] == "would spend the whole budget on the prompt"


def test_an_answer_that_a_budget_cuts_short_is_worth_what_is_left_of_it() -> None:
    """The large model answers better, but ten tokens of it are not worth a whole small answer."""
    best = JointOptions(answer_value=1e3)
    one = request(needs=Needs(max_cost=6e-5), forecasts=expected())
    route = joint(best).route(one, IDLE, 0.0)
    assert route.replica_id == 0
    large = route.prospects[2]
    assert large.price == pytest.approx(6e-5)
    assert large.utility == pytest.approx(1e3 * 0.7 * 0.1, rel=1e-3)
    rich = joint(best).route(one._replace(needs=Needs(max_cost=2e-4)), IDLE, 0.0)
    assert (rich.replica_id, rich.max_tokens) == (2, 150)


@pytest.mark.parametrize(("ceiling", "tokens"), [
    (None, 500), (1e-5, 0), (1.02e-5, 1), (3e-5, 100), (2.999e-5, 99), (1.0, 500), (0.0, 0)])
def test_tokens_that_a_budget_pays_for(ceiling: float | None, tokens: int) -> None:
    one = request(needs=Needs(max_cost=ceiling))
    assert affordable_tokens(one, fact(0)) == tokens


# -- accept, relax, reject ----------------------------------------------------------------------

NEVER = ServiceClass("never", Slo(ttft_s=1e-6))
EASY = ServiceClass("easy", Slo(ttft_s=100.0, itl_s=1.0, e2e_s=1000.0))


def test_targets_within_reach_are_accepted() -> None:
    route = joint().route(request(service_class=EASY), IDLE, 0.0)
    assert route.admit == ACCEPT
    assert route.prospects[0].chance > 0.9


def test_a_chance_is_given_up_with_a_reason() -> None:
    route = joint().route(request(service_class=NEVER), IDLE, 0.0)
    assert route.replica_id >= 0
    assert isinstance(route.admit, Relax)
    # The chance is left to the prospects: tenants read the reason, and the chance tells the load.
    assert route.admit.reason == "no replica is likely to keep the targets of never"


def test_without_leave_to_relax_it_is_refused_and_time_may_help() -> None:
    route = joint(JointOptions(relax=())).route(request(service_class=NEVER), IDLE, 0.0)
    assert route.replica_id == NOWHERE
    assert isinstance(route.admit, Reject)
    assert route.admit.retry_after_s == 1.0
    assert "never" in route.admit.reason
    assert set(route.rejected) == {0, 1, 2}


def test_time_that_has_passed_counts_against_the_targets() -> None:
    one = request(service_class=ServiceClass("soon", Slo(ttft_s=5.0)))
    assert joint().route(one, IDLE, 0.0).admit == ACCEPT
    late = joint().route(one, IDLE, 5.0)
    assert isinstance(late.admit, Relax)
    assert {p.chance for p in late.prospects} == {0.0}


def test_an_early_first_token_leaves_time_for_the_others() -> None:
    alone_s = 0.0101  # a step of the small model
    paced = Slo(ttft_s=3.0, itl_s=0.9 * alone_s)
    one = request(service_class=ServiceClass("paced", paced), forecasts=expected())
    strict, mean = (one._replace(service_class=ServiceClass(itl, replace(paced, itl=itl)))
                    for itl in ("strict", "mean"))
    chances = [joint().route(r, IDLE, 0.0).prospects[0].chance for r in (one, strict, mean)]
    assert chances[0] > 0.9 > chances[1] == chances[2]


@pytest.mark.parametrize("relax", [(), ("chance",), ("quality",), ("chance", "quality"),
                                   ("quality", "chance")])
@pytest.mark.parametrize(("slo_kept", "floor_kept"), list(product((True, False), repeat=2)))
def test_nothing_is_given_up_that_may_not_be(relax: tuple[str, ...], slo_kept: bool,
                                             floor_kept: bool) -> None:
    one = request(service_class=EASY if slo_kept else NEVER, forecasts=expected(),
                  needs=Needs(min_quality=0.4 if floor_kept else 0.9))
    broken = {name for name, kept in (("chance", slo_kept), ("quality", floor_kept)) if not kept}
    route = joint(JointOptions(relax=relax)).route(one, IDLE, 0.0)
    if not broken:
        assert route.admit == ACCEPT
    elif broken <= set(relax):
        assert isinstance(route.admit, Relax)
    else:
        assert isinstance(route.admit, Reject)
        assert route.replica_id == NOWHERE


@pytest.mark.parametrize(("relax", "chosen"), [(("chance", "quality"), 2),
                                               (("quality", "chance"), 0)])
def test_demands_are_given_up_in_the_order_asked(relax: tuple[str, ...], chosen: int) -> None:
    """The small model is in time but not good enough, the large one the other way round."""
    soon = ServiceClass("soon", Slo(ttft_s=0.1))
    one = request(service_class=soon, forecasts=expected(), needs=Needs(min_quality=0.6))
    slow = snapshot(2, "large", waiting=9, queued=9000, pending=900.0)
    route = joint(JointOptions(relax=relax)).route(one, [IDLE[0], slow], 0.0)
    assert route.replica_id == chosen
    assert isinstance(route.admit, Relax)


# -- affinity -----------------------------------------------------------------------------------


def test_a_known_prefix_draws_and_saves_its_prefill() -> None:
    router = joint()
    hashes = tuple(range(100))
    first = request(0, 1600, hashes=hashes, forecasts=expected())
    home = router.route(first, IDLE[:2], 0.0)
    again = router.route(first._replace(request_id=1), IDLE[:2], 0.0)
    assert again.replica_id == home.replica_id == 0
    cold, warm = home.prospects[0], again.prospects[0]
    # All but one of 1,600 tokens are known: three steps and 1,599 tokens less.
    assert cold.ttft_s - warm.ttft_s == pytest.approx(3 * 0.0101 + 1599 * 1e-4)
    assert again.prospects[1].ttft_s == cold.ttft_s
    # Only the other replica runs when home has more to do than the prefix saves.
    busy = snapshot(0, waiting=3, queued=3000, pending=300.0)
    assert router.route(first._replace(request_id=2), [busy, IDLE[1]], 0.0).replica_id == 1


def test_a_session_goes_home() -> None:
    router = joint()
    busy = snapshot(0, running=1, kv_used=100, pending=50.0)
    one = request(0, 2000, session="talk", forecasts=expected())
    assert router.route(one, [busy, IDLE[1]], 0.0).replica_id == 1
    assert router.route(one._replace(request_id=1, prompt_tokens=2200), IDLE[:2],
                        0.0).replica_id == 1
    assert router.route(request(2, forecasts=expected()), IDLE[:2], 0.0).replica_id == 0


def test_affinity_may_be_off() -> None:
    router = joint(JointOptions(affinity=False))
    busy = snapshot(0, running=1, kv_used=100, pending=50.0)
    one = request(0, 2000, session="talk", hashes=tuple(range(125)), forecasts=expected())
    assert router.route(one, [busy, IDLE[1]], 0.0).replica_id == 1
    assert router.route(one._replace(request_id=1), IDLE[:2], 0.0).replica_id == 0


# -- learning -----------------------------------------------------------------------------------


def test_latency_that_is_seen_moves_what_is_expected() -> None:
    router = joint()
    before = router.route(request(forecasts=expected()), IDLE, 0.0).prospects
    for number in range(200):
        route = router.route(request(number, forecasts=expected()), IDLE[:1], 0.0)
        router.ended(departure(number, route.replica_id, 0.1, 6.0))
    after = router.route(request(999, forecasts=expected()), IDLE, 0.0).prospects
    assert after[0].ttft_s == pytest.approx(0.1, rel=0.05)
    assert after[0].e2e_s == pytest.approx(6.0, rel=0.05)
    assert after[1].e2e_s == after[0].e2e_s  # of the same kind
    assert after[2].e2e_s == before[2].e2e_s


def test_what_did_not_end_well_or_was_never_sent_teaches_no_latency() -> None:
    router = joint()
    before = router.route(ONE, IDLE, 0.0).prospects
    router.route(ONE._replace(request_id=1), IDLE, 0.0)
    router.ended(departure(1, 0, 0.5, 60.0, finished=False))
    router.ended(departure(555, 0, 0.5, 60.0))
    router.route(ONE._replace(request_id=2), IDLE, 0.0)
    router.ended(departure(2, 0, None, 60.0))
    assert router.route(ONE._replace(request_id=3), IDLE, 0.0).prospects == before


def test_lengths_of_a_class_are_learned_where_nothing_is_forecast() -> None:
    router = joint()
    before = router.route(request(), IDLE, 0.0).prospects[0].price
    for number in range(300):
        route = router.route(request(number), IDLE, 0.0)
        router.ended(departure(number, route.replica_id, 0.02, 0.5, 20))
    after = router.route(request(999), IDLE, 0.0).prospects[0].price
    assert before == pytest.approx(100 * 1e-7 + 256 * 2e-7)
    assert after == pytest.approx(100 * 1e-7 + 20 * 2e-7, rel=0.3)


# -- several at once ----------------------------------------------------------------------------


def test_one_of_many_is_one() -> None:
    for needs in (Needs(), Needs(min_quality=0.6), Needs(min_quality=0.9), Needs(max_cost=1e-6)):
        one = ONE._replace(needs=needs)
        assert joint().route_many([one], [IDLE], 0.0) == [joint().route(one, IDLE, 0.0)]


def test_a_batch_over_equal_replicas_spreads() -> None:
    facts = [fact(i) for i in range(3)]
    batch = [request(i, forecasts=expected()) for i in range(8)]
    routes = joint(facts=facts).route_many(batch, [[snapshot(i) for i in range(3)]] * 8, 0.0)
    counts = [sum(route.replica_id == i for route in routes) for i in range(3)]
    assert sorted(counts) == [2, 3, 3]


def test_a_batch_keeps_each_request_to_its_own_candidates() -> None:
    batch = [request(i, forecasts=expected(0.9, 0.1)) for i in range(3)]
    barred = request(3, needs=Needs(min_quality=0.99), forecasts=expected())
    seen = [IDLE[2:], IDLE[:1], IDLE, IDLE]
    routes = joint().route_many([*batch, barred], seen, 0.0)
    assert [route.replica_id for route in routes] == [2, 0, 1, NOWHERE]
    assert isinstance(routes[3].admit, Reject)
    assert routes[3].rejected


def test_a_batch_is_never_worth_less_than_one_after_the_other() -> None:
    """By what each is worth alone, less what each costs those before and behind it."""
    options = JointOptions(answer_value=1e-3, second_value=1e-4)
    batch = [request(i, prompt_tokens=200 * (i + 1), forecasts=expected(0.5, 0.5 + 0.05 * i))
             for i in range(6)]
    together = joint(options).route_many(batch, [IDLE] * 6, 0.0)
    seen = {r.replica_id: r for r in IDLE}
    greedy = joint(options)
    singly: list[Route] = []
    for one in batch:
        singly.append(greedy.route(one, list(seen.values()), 0.0))
        at = singly[-1].replica_id
        seen[at] = joined(seen[at], one, 100.0)
    alone = {(one.request_id, p.replica_id): p.utility for one, route in
             zip(batch, together, strict=True) for p in route.prospects}
    surcharges = joint(options)._surcharges([0, 1, 2], batch, [IDLE] * 6)

    def worth(routes: list[Route]) -> float:
        places = [route.replica_id for route in routes]
        crowds = [places.count(i) for i in range(3)]
        return sum(alone[i, place] for i, place in enumerate(places)) - sum(
            s * n * (n - 1) / 2 for s, n in zip(surcharges, crowds, strict=True))

    assert worth(together) >= worth(singly) - 1e-15
