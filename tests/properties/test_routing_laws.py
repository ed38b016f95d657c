"""Laws of routing: what holds for any replicas, requests and queues."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from math import inf, isfinite

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core.decision import ACCEPT, NOWHERE, Reject, Relax
from penstock.core.request import Needs, Request
from penstock.core.snapshot import QueuedWork, ReplicaSnapshot
from penstock.policy.route.joint.assign import assign
from penstock.policy.route.joint.options import JointOptions
from penstock.policy.route.joint.router import JointRouter
from penstock.policy.route.predictive import forward
from penstock.predict.latency import E2E, TPOT, TTFT, Correction, LatencyPredictor, LatencyPrior
from penstock.published.routebalance.score import PRESETS, Pair, Weights, scores
from support.small_routing import LARGE, expected, fact, request, usual
from support.stepwise_latency import slow_forward
from support.strategies import (
    SERVICE_CLASSES,
    cost_tables,
    latency_priors,
    linear_step_times,
    queued_works,
    replica_snapshots,
    step_times,
    work_queues,
)

# -- assignment ---------------------------------------------------------------------------------


def total(costs: Sequence[Sequence[float]], surcharges: Sequence[float],
          chosen: Sequence[int]) -> float:
    """What an assignment costs: every request's own, and for each pair there its surcharge."""
    crowds = [list(chosen).count(i) for i in range(len(surcharges))]
    own = sum(row[at] for row, at in zip(costs, chosen, strict=True) if at >= 0)
    return own + sum(s * n * (n - 1) / 2 for s, n in zip(surcharges, crowds, strict=True))


@given(cost_tables())
@example(([[8.0, 1.0, 6.0], [4.0, 0.0, 6.0], [1.0, 5.0, 9.0], [9.0, 1.0, 2.0]],
          [1.0, 20.0, 6.0]))  # goes wrong without dual prices
def test_the_assignment_is_the_cheapest_of_all(table: tuple[list[list[float]],
                                                            list[float]]) -> None:
    costs, surcharges = table
    chosen = assign(costs, surcharges)
    allowed = [[i for i, cost in enumerate(row) if cost < inf] for row in costs]
    assert all(at in may if may else at == -1 for at, may in zip(chosen, allowed, strict=True))
    best = min(total(costs, surcharges, every)
               for every in product(*[may or [-1] for may in allowed]))
    assert total(costs, surcharges, chosen) == pytest.approx(best, abs=1e-9)


def test_requests_without_replicas_are_left_out() -> None:
    assert assign([], [1.0]) == []
    assert assign([[], []], []) == [-1, -1]


# -- joint --------------------------------------------------------------------------------------

FACTS = [fact(0), fact(1), fact(2, LARGE), fact(3, LARGE)]
MODELS = ("small", "small", "large", "large")

_OPTIONS = st.builds(
    JointOptions, st.sampled_from((0.0, 1e-4, 1e-3, 1.0)), st.sampled_from((0.0, 1e-5, 1e-2)),
    st.sampled_from((0.0, 0.5, 1.0)), st.sampled_from((0.0, 0.5, 0.9)),
    st.sampled_from(((), ("chance",), ("quality",), ("chance", "quality"),
                     ("quality", "chance"))),
    st.sampled_from((0.0, 1.0)))
_NEEDS = st.builds(Needs, st.sampled_from((None, None, 0.4, 0.65, 0.95)),
                   st.sampled_from((None, None, 1e-6, 2e-5, 1e-3)))
_REPLICAS = st.tuples(*[replica_snapshots(i, model) for i, model in enumerate(MODELS)])


@st.composite
def requests(draw: st.DrawFn, number: int = 0) -> Request:
    """A request with demands of its own and forecasts."""
    forecasts = expected(draw(st.sampled_from((0.3, 0.5, 0.9))), draw(st.sampled_from((0.5, 0.7))),
                         draw(st.sampled_from((1.0, 50.0, 2000.0))), 0.02)
    return request(number, draw(st.sampled_from((1, 100, 3000))),
                   draw(st.sampled_from((1, 64, 1000))), needs=draw(_NEEDS), forecasts=forecasts,
                   service_class=draw(st.sampled_from(SERVICE_CLASSES)))


def joint(options: JointOptions, dual_price: float = 0.0) -> JointRouter:
    return JointRouter(FACTS, options, usual(FACTS), lambda _: dual_price)


@given(_OPTIONS, requests(), _REPLICAS)
def test_hard_demands_are_kept_or_given_up_only_where_that_is_allowed(
        options: JointOptions, one: Request, replicas: Sequence[ReplicaSnapshot]) -> None:
    route = joint(options).route(one, replicas, 0.0)
    assert all(isfinite(p.utility) and p.e2e_s >= p.ttft_s >= 0.0 and 0.0 <= p.chance <= 1.0
               for p in route.prospects)
    if route.replica_id == NOWHERE:
        assert isinstance(route.admit, Reject)
        assert route.admit.reason
        assert set(route.rejected) == {0, 1, 2, 3}
        if route.admit.retry_after_s is not None:  # time may help: something is only too slow
            assert any(p.reason == "chance" for p in route.prospects)
        return
    chosen = route.prospects[route.replica_id]
    known = FACTS[route.replica_id]
    broken: set[str] = set()
    if chosen.chance < options.min_chance:
        broken.add("chance")
    if one.needs.min_quality is not None and chosen.quality < one.needs.min_quality:
        broken.add("quality")
    assert broken <= set(options.relax)
    assert isinstance(route.admit, Relax) if broken else route.admit == ACCEPT
    if one.needs.max_cost is not None:
        tokens = one.max_tokens if route.max_tokens is None else route.max_tokens
        assert 1 <= tokens <= one.max_tokens
        price = known.offer.price
        assert (one.prompt_tokens * price.input_per_token + tokens * price.output_per_token
                <= one.needs.max_cost * (1 + 1e-9))
        assert chosen.price <= one.needs.max_cost * (1 + 1e-9)


@given(_OPTIONS, requests(), _REPLICAS)
def test_nobody_eligible_would_have_been_better(options: JointOptions, one: Request,
                                                replicas: Sequence[ReplicaSnapshot]) -> None:
    route = joint(options).route(one, replicas, 0.0)
    eligible = [p for p in route.prospects if not p.reason]
    if eligible:
        assert route.admit == ACCEPT
        best = max(p.utility for p in eligible)
        assert route.replica_id == min(p.replica_id for p in eligible if p.utility == best)


@given(_OPTIONS, requests(), _REPLICAS)
def test_one_of_many_is_one(options: JointOptions, one: Request,
                            replicas: Sequence[ReplicaSnapshot]) -> None:
    alone = joint(options).route(one, replicas, 0.0)
    same = joint(options).route_many([one], [replicas], 0.0) == [alone]
    assert same, alone.replica_id


@given(_OPTIONS, requests(), _REPLICAS, st.sampled_from((2.0**-20, 0.5, 2.0**12)))
def test_one_factor_on_every_amount_changes_no_choice(options: JointOptions, one: Request,
                                                      replicas: Sequence[ReplicaSnapshot],
                                                      factor: float) -> None:
    dear = replace(options, answer_value=options.answer_value * factor,
                   second_value=options.second_value * factor)
    facts = [replace(f, offer=f.offer._replace(price=f.offer.price._replace(
        input_per_token=f.offer.price.input_per_token * factor,
        output_per_token=f.offer.price.output_per_token * factor))) for f in FACTS]
    ceiling = one.needs.max_cost
    same = one._replace(needs=one.needs._replace(
        max_cost=None if ceiling is None else ceiling * factor))
    route = JointRouter(facts, dear, usual(facts), lambda _: 0.0).route(same, replicas, 0.0)
    plain = joint(options).route(one, replicas, 0.0)
    assert (route.replica_id, route.max_tokens, route.admit) == (
        plain.replica_id, plain.max_tokens, plain.admit)


@given(_OPTIONS, requests(), _REPLICAS, st.lists(st.floats(0.0, 50.0), min_size=2, max_size=4))
def test_the_dearer_money_is_the_cheaper_is_the_choice(options: JointOptions, one: Request,
                                                       replicas: Sequence[ReplicaSnapshot],
                                                       dual_prices: list[float]) -> None:
    prices: list[float] = []
    for dual_price in sorted(dual_prices):
        route = joint(options, dual_price).route(one, replicas, 0.0)
        if route.replica_id == NOWHERE:
            return
        prices.append(route.prospects[route.replica_id].price)
    assert all(later <= sooner * (1 + 1e-12)
               for sooner, later in pairwise(prices))


@given(_OPTIONS, st.lists(requests(), min_size=1, max_size=5), _REPLICAS)
def test_a_batch_is_the_best_assignment_of_what_is_eligible(
        options: JointOptions, batch: list[Request], replicas: Sequence[ReplicaSnapshot]) -> None:
    router = joint(replace(options, affinity=False))
    numbered = [one._replace(request_id=i) for i, one in enumerate(batch)]
    routes = router.route_many(numbered, [replicas] * len(batch), 0.0)
    surcharges = router._surcharges(range(4), numbered, [replicas] * len(batch))
    costs = []
    for one, route in zip(numbered, routes, strict=True):
        eligible, _ = router._eligible(one, route.prospects)
        row = [inf] * 4
        for p in eligible:
            row[p.replica_id] = -p.utility
        costs.append(row)
    chosen = [route.replica_id for route in routes]
    allowed = [[i for i, cost in enumerate(row) if cost < inf] for row in costs]
    best = min(total(costs, surcharges, every)
               for every in product(*[may or [-1] for may in allowed]))
    assert total(costs, surcharges, chosen) == pytest.approx(best, rel=1e-9, abs=1e-12)


# -- latency ------------------------------------------------------------------------------------


@given(latency_priors(), replica_snapshots(), st.integers(0, 10**6), st.floats(0.0, 1e6))
def test_predictions_are_never_negative_or_no_numbers(prior: LatencyPrior,
                                                      replica: ReplicaSnapshot, prompt: int,
                                                      context: float) -> None:
    predictor = LatencyPredictor(prior)
    pace = predictor.pace(replica)
    asked = predictor.asked(replica, pace, prompt, 20.0)
    for value in (pace.wait_s, pace.chunk_s, pace.token_s, pace.tpot_s, pace.seq_s,
                  pace.ttft_s(prompt), pace.tpot_of(context), *asked[1:]):
        assert isfinite(value)
        assert value >= 0.0
    assert all(0.0 <= share <= 1.0 for share in asked.load)


@given(st.lists(st.tuples(st.sampled_from((0.0, 0.5, 1.0)), st.sampled_from((0.0, 0.5, 1.0)),
                          st.floats(-1e6, 1e6)), max_size=30),
       st.integers(1, 600), st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)))
def test_corrections_stay_between_the_least_and_the_most_that_was_seen(
        seen: list[tuple[float, float, float]], times: int, load: tuple[float, float]) -> None:
    correction = Correction()
    for seats, queue, ratio in seen:
        for _ in range(1 + times // (1 + len(seen))):
            correction.update((seats, queue), ratio)
    assert abs(correction.log_factor(load)) <= Correction.MOST


@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(0.0, 1e6), st.integers(0, 5000)),
                max_size=40), replica_snapshots())
def test_no_observation_breaks_a_predictor(seen: list[tuple[float, float, int]],
                                           replica: ReplicaSnapshot) -> None:
    predictor = LatencyPredictor(LatencyPrior(fact(0).prior.step, 64))
    for ttft_s, rest_s, tokens in seen:
        asked = predictor.asked(replica, predictor.pace(replica), 100, 50.0)
        predictor.ended(asked, ttft_s, ttft_s + rest_s, tokens)
    pace = predictor.pace(replica)
    assert isfinite(pace.ttft_s(100))
    for what in (TTFT, TPOT, E2E):
        chances = [predictor.chance(what, 1.0, limit_s) for limit_s in (-1.0, 0.0, 0.1, 1.0, 1e9)]
        assert chances == sorted(chances)
        assert chances[0] == 0.0
        assert 0.0 < chances[-1] <= 1.0
        assert predictor.upper_s(what, 1.0, 0.5) <= predictor.upper_s(what, 1.0, 0.99)


# -- queues played forward ----------------------------------------------------------------------

# Only affine models give the same sum for a stretch of steps as for each step alone.
_AFFINE = latency_priors(linear_step_times())
_ROOMS = st.sampled_from((1, 100, 400, 10_000))
_NEW = st.builds(QueuedWork, st.sampled_from((1, 16, 100)), st.just(0),
                 st.sampled_from((1.0, 2.0, 30.0)))


@given(_AFFINE, work_queues(), _ROOMS, _NEW)
@example(LatencyPrior(fact(0).prior.step, 1, 16), (QueuedWork(0, 33, 0.2),) * 3, 100,
         QueuedWork(16, 0, 1.0))
def test_playing_forward_is_taking_one_step_at_a_time(prior: LatencyPrior,
                                                      queue: tuple[QueuedWork, ...], room: int,
                                                      new: QueuedWork) -> None:
    # A stretch of steps takes the mean context as a whole number.
    assert forward(prior, queue, room, new) == pytest.approx(
        slow_forward(prior, queue, room, new), rel=5e-3)


@given(_AFFINE, work_queues(5), _ROOMS, _NEW, queued_works())
def test_the_first_token_never_comes_sooner_behind_one_more(
        prior: LatencyPrior, queue: tuple[QueuedWork, ...], room: int, new: QueuedWork,
        more: QueuedWork) -> None:
    assert (forward(prior, (*queue, more), room, new)[0]
            >= forward(prior, queue, room, new)[0] * (1 - 1e-9))


@given(latency_priors(step_times()), work_queues(), _ROOMS, _NEW)
def test_the_last_token_never_comes_before_the_first(prior: LatencyPrior,
                                                     queue: tuple[QueuedWork, ...], room: int,
                                                     new: QueuedWork) -> None:
    first_s, last_s = forward(prior, queue, room, new)
    assert 0.0 < first_s <= last_s < inf


# -- RouteBalance -------------------------------------------------------------------------------

_PAIRS = st.lists(st.builds(
    Pair, st.integers(0, 9), st.just("m"), st.floats(0.0, 1.0), st.just(10.0),
    st.floats(1e-7, 1e-2), st.just(0.05), st.just(0.02), st.floats(0.01, 100.0),
    st.floats(0.0, 2.0), st.integers(0, 9)), min_size=1, max_size=6)


@given(_PAIRS, st.sampled_from((2.0**-60, 2.0**-9, 2.0**33)))
def test_scores_do_not_know_the_currency(pairs: list[Pair], factor: float) -> None:
    dear = [p._replace(cost=p.cost * factor) for p in pairs]
    assert scores(dear, PRESETS["code"]) == scores(pairs, PRESETS["code"])


@given(_PAIRS)
def test_at_its_corner_each_term_decides_alone(pairs: list[Pair]) -> None:
    corners = ((Weights(1, 0, 0), "e2e_s", 1.0), (Weights(0, 1, 0), "cost", 1.0),
               (Weights(0, 0, 1), "quality", -1.0), (Weights(0, 0, 0, 1), "use", 1.0))
    for weights, name, sign in corners:
        found = scores(pairs, weights)
        values = [sign * getattr(p, name) for p in pairs]
        best = max(range(len(pairs)), key=found.__getitem__)
        assert values[best] == pytest.approx(min(values), rel=1e-9, abs=1e-9)
