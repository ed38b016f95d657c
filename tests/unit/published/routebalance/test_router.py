"""RouteBalance's score, filters, clamp and tie-break, against their closed forms."""

from dataclasses import replace

import pytest

from penstock.core.decision import ACCEPT, Relax
from penstock.core.forecast import Forecast
from penstock.core.money import Price
from penstock.core.request import Needs
from penstock.core.slo import ServiceClass, Slo
from penstock.policy.route.facts import ReplicaFacts
from penstock.published.routebalance import filters
from penstock.published.routebalance.filters import FilterName, ResidualCdf, Targets
from penstock.published.routebalance.router import RouteBalance, clamp, longest_first
from penstock.published.routebalance.score import PRESETS, Pair, Weights, pair, scores
from support.small_routing import (
    LARGE,
    PRIOR,
    SMALL,
    STEP,
    burst,
    departure,
    expected,
    fact,
    request,
    snapshot,
    usual,
)

FACTS = [fact(0), fact(1), fact(2, LARGE)]
IDLE = [snapshot(0), snapshot(1), snapshot(2, "large")]


def router(weights: Weights = PRESETS["balance"], filter_name: FilterName = "none",
           facts: list[ReplicaFacts] = FACTS) -> RouteBalance:
    return RouteBalance({f.replica_id: f for f in facts}, weights, usual(facts),
                        filter_name=filter_name)


def a_pair(number: int = 0, **changes: float) -> Pair:
    return Pair(number, "m", 0.5, 100.0, 1e-4, 0.05, 0.02, 2.0, 0.3, 4)._replace(**changes)


# -- the estimate -------------------------------------------------------------------------------


def test_with_an_open_seat_the_answer_takes_its_own_time() -> None:
    one = request(prompt_tokens=160, forecasts=expected())
    found = pair(one, Forecast(100.0, 200.0, 0.6), snapshot(0, running=3, kv_used=1600,
                                                            pending=900.0), fact(0))
    tpot_s = STEP.seconds(0, 0.0, 1, 160)
    assert found.tpot_s == pytest.approx(tpot_s)
    assert found.e2e_s == pytest.approx(100 * tpot_s)
    assert found.cost == pytest.approx(160 * 1e-7 + 100 * 2e-7)
    assert (found.quality, found.output_tokens, found.num_requests) == (0.6, 100.0, 3)
    # 260 tokens are 16.25 blocks of 6,250 in all.
    assert found.use == pytest.approx(0.016 + 16.25 / 6250)


def test_behind_others_it_waits_for_their_mean_remaining_work() -> None:
    busy = snapshot(0, running=4, waiting=1, pending=900.0)
    full = snapshot(0, running=64, pending=6400.0)
    for replica, wait_tokens in ((busy, 225.0), (full, 100.0)):
        found = pair(request(max_tokens=50), Forecast(100.0, 200.0, 0.6), replica, fact(0))
        assert found.output_tokens == 50.0
        assert found.e2e_s == pytest.approx((wait_tokens + 50.0) * found.tpot_s)


# -- the score ----------------------------------------------------------------------------------

PAIRS = [a_pair(0, quality=0.4, cost=1e-4, e2e_s=3.0, use=0.9),
         a_pair(1, quality=0.5, cost=2e-4, e2e_s=1.0, use=0.5),
         a_pair(2, quality=0.8, cost=8e-4, e2e_s=6.0, use=0.1)]


def test_the_score_is_the_weighted_sum_of_normalised_terms() -> None:
    found = scores(PAIRS, Weights(0.1, 0.2, 0.3, 0.4))
    assert found[1] == pytest.approx(
        0.1 * (1 - 1 / 6) + 0.2 * (1 - 2 / 8) + 0.3 * 0.1 / (0.4 + 1e-8) + 0.4 * (1 - 5 / 9))
    assert scores(PAIRS, Weights(0, 0, 1), "raw") == [0.4, 0.5, 0.8]
    assert scores(PAIRS, Weights(0, 0, 1), "scaled", 1.5) == [pytest.approx(0.6), 0.75, 1.0]


@pytest.mark.parametrize(("weights", "best"), [
    (PRESETS["latency"], 1), (PRESETS["price"], 0), (PRESETS["relevance"], 2),
    (Weights(0, 0, 0, 1), 2)])
def test_each_corner_takes_the_best_of_its_own_term(weights: Weights, best: int) -> None:
    found = scores(PAIRS, weights)
    assert max(range(3), key=found.__getitem__) == best


@pytest.mark.parametrize("unit", [2.0**-40, 2.0**-10, 2.0**30])
def test_the_unit_of_money_does_not_matter(unit: float) -> None:
    dear = [p._replace(cost=p.cost * unit) for p in PAIRS]
    assert scores(dear, PRESETS["code"]) == scores(PAIRS, PRESETS["code"])


def test_equal_candidates_and_free_models_score_the_same() -> None:
    alike = [a_pair(i, cost=0.0, e2e_s=0.0, use=0.0) for i in range(3)]
    assert len(set(scores(alike, PRESETS["code"]))) == 1


@pytest.mark.parametrize(("preset", "replica"), [("latency", 0), ("price", 0), ("relevance", 2)])
def test_presets_route_to_their_corner(preset: str, replica: int) -> None:
    route = router(PRESETS[preset]).route(request(forecasts=expected()), IDLE, 0.0)
    assert route.replica_id == replica
    assert route.admit == ACCEPT
    assert set(route.terms) == {"score", "quality", "cost", "e2e_s"}


def test_ties_go_to_fewer_requests_then_to_the_least_recent() -> None:
    facts = [fact(i) for i in range(3)]
    balance = router(Weights(0, 1, 0), facts=facts)
    seen = [snapshot(0, running=2), snapshot(1, running=1), snapshot(2, running=1)]
    chosen = [balance.route(request(i), seen, 0.0).replica_id for i in range(5)]
    assert chosen == [1, 2, 1, 2, 1]


def test_a_burst_over_equal_replicas_spreads() -> None:
    facts = [fact(i) for i in range(4)]
    routes = burst(router(facts=facts), [snapshot(i) for i in range(4)], 30)
    counts = [sum(route.replica_id == i for route in routes) for i in range(4)]
    assert max(counts) - min(counts) <= 1


# -- the clamp ----------------------------------------------------------------------------------


def test_a_budget_clamps_the_answer() -> None:
    price = Price(1e-6, 2e-6)
    assert clamp(300e-6, 100, 500, price) == 100
    assert clamp(299e-6, 100, 500, price) == 99
    assert clamp(300e-6, 100, 40, price) == 40
    assert clamp(101e-6, 100, 500, price) == 1  # not one token is paid for
    assert clamp(1e-6, 100, 500, price) == 1  # not even the prompt is
    assert clamp(300e-6, 100, 500, Price(1e-6, 0.0)) == 500
    assert clamp(1e-6, 100, 500, Price(1e-6, 0.0)) == 1


def test_the_route_says_how_long_the_answer_may_be() -> None:
    one = request(needs=Needs(max_cost=30e-6), forecasts=expected())
    route = router(PRESETS["price"]).route(one, IDLE, 0.0)
    assert route.max_tokens == 100  # (30 - 100 * 0.1) / 0.2
    assert router().route(request(), IDLE, 0.0).max_tokens is None


# -- the filters --------------------------------------------------------------------------------

BOTH = Targets(0.1, 0.03, None, None)


def test_each_latency_within_its_own_target() -> None:
    assert filters.slos_serve(a_pair(), BOTH)
    assert not filters.slos_serve(a_pair(ttft_s=0.11), BOTH)
    assert not filters.slos_serve(a_pair(tpot_s=0.031), BOTH)
    assert filters.slos_serve(a_pair(ttft_s=9.0), BOTH._replace(ttft_s=None))


def test_time_to_spare_for_the_first_token_counts_for_the_others() -> None:
    # 0.05 + 100 * tpot <= 0.1 + 100 * 0.03 holds up to 30.5 ms.
    assert filters.polyserve(a_pair(tpot_s=0.0304), BOTH)
    assert not filters.polyserve(a_pair(tpot_s=0.0306), BOTH)
    assert filters.polyserve(a_pair(ttft_s=1.0, tpot_s=0.02), BOTH)
    assert not filters.polyserve(a_pair(tpot_s=0.0304), BOTH._replace(ttft_s=None))


def test_quantiles_of_the_normal_distribution() -> None:
    assert filters.Z == {0.80: 0.842, 0.85: 1.036, 0.90: 1.282, 0.95: 1.645, 0.975: 1.960,
                         0.99: 2.326}


@pytest.mark.parametrize(("confidence", "deviation_s", "kept"), [
    (0.9, 0.039, True), (0.9, 0.0391, False), (0.99, 0.0214, True), (0.99, 0.0216, False)])
def test_a_margin_of_deviations(confidence: float, deviation_s: float, kept: bool) -> None:
    assert filters.qlm(a_pair(), BOTH, (deviation_s, 0.0), confidence) is kept


def test_the_distribution_of_known_residuals() -> None:
    known = ResidualCdf()
    assert (known.chance(0.0), known.chance(-0.01)) == (1.0, 0.0)
    for residual in (0.3, 0.1, 0.4, 0.2):
        known.add(residual)
    assert [known.chance(room) for room in (0.05, 0.1, 0.25, 0.4, 1.0)] == [
        0.0, 0.25, 0.5, 1.0, 1.0]


def residuals(*values: float) -> ResidualCdf:
    known = ResidualCdf()
    for value in values:
        known.add(value)
    return known


def test_a_pair_passes_with_the_chance_that_is_asked_for() -> None:
    tens = residuals(*[0.01 * k for k in range(10)])  # room 0.06: a chance of 0.7
    kept, lowered = filters.cdf([a_pair(ttft_s=0.04), a_pair(1, ttft_s=0.05)],
                                Targets(0.1, None, None, None), tens, ResidualCdf())
    assert ([p.replica_id for p in kept], lowered) == ([0], 0)


@pytest.mark.parametrize(("ttft_room", "tpot_room", "lowered"), [
    (0.6, 0.7, 1), (0.7, 0.6, 2), (0.5, 0.7, 5), (0.7, 0.5, 6), (0.4, 0.4, 10), (0.3, 0.7, None)])
def test_targets_are_lowered_one_after_another(ttft_room: float, tpot_room: float,
                                               lowered: int | None) -> None:
    """Lowered are TTFT, TPOT, budget, quality, TTFT again, and so on, three rounds at most."""
    tens = residuals(*[0.1 * k + 0.05 for k in range(10)])
    kept, times = filters.cdf([a_pair(ttft_s=1.0 - ttft_room, tpot_s=1.0 - tpot_room)],
                              Targets(1.0, 1.0, None, None), tens, tens)
    if lowered is None:
        assert not kept
    else:
        assert (len(kept), times) == (1, lowered)


def test_neither_money_nor_quality_is_ever_given_up() -> None:
    for targets in (Targets(None, None, 0.5e-4, None), Targets(None, None, None, 0.6)):
        assert filters.cdf([a_pair()], targets, ResidualCdf(), ResidualCdf())[0] == []


TIGHT = ServiceClass("tight", Slo(ttft_s=0.01, itl_s=0.001))


@pytest.mark.parametrize("name", ["slos_serve", "polyserve", "qlm", "cdf"])
def test_where_nobody_passes_the_filter_is_ignored_with_a_reason(name: FilterName) -> None:
    route = router(PRESETS["relevance"], name).route(
        request(service_class=TIGHT, forecasts=expected()), IDLE, 0.0)
    assert route.replica_id == 2
    assert route.admit == Relax("no replica keeps all targets")


def test_where_nobody_passes_and_money_is_short_the_cheapest_is_taken() -> None:
    one = request(service_class=TIGHT, needs=Needs(max_cost=1.0), forecasts=expected())
    route = router(PRESETS["relevance"], "slos_serve").route(one, IDLE, 0.0)
    assert route.replica_id == 0
    assert isinstance(route.admit, Relax)
    assert "cheapest" in route.admit.reason


def test_the_filter_learns_from_what_was_observed() -> None:
    """0.3 s are promised to the first token; it is seen to take 0.5 s on every replica."""
    slow = ServiceClass("slow", Slo(ttft_s=0.3))
    balance = router(filter_name="cdf")
    assert balance.route(request(0, service_class=slow), IDLE, 0.0).admit == ACCEPT
    for number in range(1, 30):
        chosen = balance.route(request(number, service_class=slow), IDLE, 0.0).replica_id
        balance.ended(departure(number, chosen, 0.5, 2.0))
    assert isinstance(balance.route(request(99, service_class=slow), IDLE, 0.0).admit, Relax)


def test_what_did_not_finish_teaches_nothing() -> None:
    slow = ServiceClass("slow", Slo(ttft_s=0.3))
    balance = router(filter_name="cdf")
    for number in range(30):
        chosen = balance.route(request(number, service_class=slow), IDLE, 0.0).replica_id
        balance.ended(departure(number, chosen, 0.5, 2.0, finished=False))
    balance.ended(departure(77, 0, 0.5, 2.0))  # never sent
    assert balance.route(request(99, service_class=slow), IDLE, 0.0).admit == ACCEPT


def test_a_batch_is_taken_longest_first() -> None:
    batch = [request(i, forecasts=expected(tokens=tokens))
             for i, tokens in enumerate((50.0, 200.0, 50.0, 100.0))]
    assert [one.request_id for one in longest_first(batch)] == [1, 3, 0, 2]


def test_speed_of_the_prior_is_the_time_per_token() -> None:
    slow = replace(PRIOR, step=replace(STEP, base_s=0.05))
    found = pair(request(), Forecast(10.0, 20.0, 0.5), snapshot(0),
                 ReplicaFacts(0, SMALL, "slow", slow))
    assert found.tpot_s == pytest.approx(slow.step.seconds(0, 0.0, 1, 100))


def test_a_batch_sees_what_it_has_added_itself() -> None:
    facts = [fact(i) for i in range(4)]
    batch = [request(i, forecasts=expected(tokens=10.0 + i % 3)) for i in range(10)]
    idle = [snapshot(i) for i in range(4)]
    routes = router(facts=facts).route_many(batch, [idle] * 10, 0.0)
    counts = [sum(route.replica_id == i for route in routes) for i in range(4)]
    assert max(counts) - min(counts) <= 1
    single = router(facts=facts).route_many(batch[:1], [idle], 0.0)
    assert single == [router(facts=facts).route(batch[0], idle, 0.0)]


def test_the_longest_of_a_batch_chooses_first() -> None:
    facts, idle = [fact(0), fact(1)], [snapshot(0), snapshot(1, running=1, pending=50.0)]
    batch = [request(i, forecasts=expected(tokens=tokens)) for i, tokens in enumerate((5.0, 300.0))]
    latency = router(PRESETS["latency"], facts=facts)
    routes = latency.route_many(batch, [idle, idle], 0.0)
    assert [route.replica_id for route in routes] == [1, 0]
