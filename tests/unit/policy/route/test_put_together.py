"""How routers are made from names and settings, and model routers put before dispatchers."""

from collections.abc import Mapping
from typing import Any

import pytest

from penstock.core.errors import InputError
from penstock.core.settings import refused
from penstock.policy.route.budget_price import STEP, markup
from penstock.policy.route.build import PLAIN, joint_options
from penstock.policy.route.context import RouterContext
from penstock.policy.route.joint.options import JointOptions
from penstock.policy.route.models.content import DualPool
from penstock.policy.route.models.fixed import FixedModel
from penstock.policy.route.simple import RoundRobin, ShortestQueue
from penstock.policy.route.two_stage import TwoStage
from penstock.registry.make import make_router
from penstock.registry.policies import ROUTERS
from support.small_routing import LARGE, SMALL, departure, expected, fact, request, snapshot, usual

FACTS = [fact(0), fact(1), fact(2, LARGE), fact(3, LARGE)]
SEEN = [snapshot(0), snapshot(1), snapshot(2, "large"), snapshot(3, "large")]
CONTEXT = RouterContext(FACTS, lambda n: 0)
OFFERS = {"small": SMALL, "large": LARGE}

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "prefix_aware": {"imbalance": 2.0, "slack_tokens": 10.0},
    "least_added_time": {"wait_weight": 0.5, "patience": 1.0},
    "consistent_hash": {"load_factor": 2.0},
    "predictive": {"target": "ttft", "sample": 2},
    "fixed_model": {"model": "smallest", "dispatcher": "shortest_queue"},
    "fixed_mix": {"shares": {"small": 1.0}}, "routellm": {"share": 0.3},
    "avengers": {"alpha": 0.3}, "omnirouter": {"floor": 0.6, "step": 2.0},
    "joint": {"answer_value": 1.0, "relax": ["quality"], "affinity": False},
    "routebalance": {"preset": "code", "latency": 0.9, "norm": "raw", "filter": "cdf"},
}


@pytest.mark.parametrize("name", ROUTERS.names())
def test_every_router_can_be_made_and_routes(name: str) -> None:
    for settings in ({}, EXAMPLES.get(name, {})):
        if name == "fixed_mix" and not settings:
            continue  # which needs to be told its shares
        assert not list(refused(settings, ROUTERS.entry(name).settings))
        assert set(settings) <= set(ROUTERS.entry(name).settings)
        router = make_router(name, settings, RouterContext(FACTS, lambda n: n - 1))
        for number in range(3):
            route = router.route(request(number, forecasts=expected()), SEEN, float(number))
            assert route.replica_id in range(4)
            router.ended(departure(number, route.replica_id, 0.1, 1.0))


def test_an_unknown_router_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown routing policy 'joints'.*joint"):
        make_router("joints", {}, CONTEXT)


@pytest.mark.parametrize(("name", "key", "value", "problem"), [
    ("joint", "answer_value", -1, "expected a number from 0 to 1e+09"),
    ("joint", "answer_value", float("nan"), "expected a number from 0 to 1e+09"),
    ("joint", "answer_value", True, "expected a number from 0 to 1e+09"),
    ("joint", "relax", ["speed"], "expected a list of chance, quality"),
    ("joint", "relax", ["chance", "chance"], "expected a list of chance, quality"),
    ("joint", "relax", [["chance"]], "expected a list of chance, quality"),
    ("joint", "relax", "chance", "expected a list of chance, quality"),
    ("joint", "affinity", 1, "expected true or false"),
    ("predictive", "sample", 1.5, "expected a whole number from 0 to 1000"),
    ("predictive", "target", "tpot", "expected one of e2e, ttft"),
    ("fixed_model", "model", "", "expected a name"),
    ("fixed_mix", "shares", {"a": 0}, "expected names with shares"),
    ("fixed_mix", "shares", {"a": -1, "b": 2}, "expected names with shares"),
    ("fixed_mix", "shares", [1], "expected names with shares"),
    ("best_route", "dispatcher", "joint", f"expected one of {', '.join(PLAIN)}"),
])
def test_wrong_settings_are_told(name: str, key: str, value: object, problem: str) -> None:
    assert ROUTERS.entry(name).settings[key].problem(value) == problem


def test_joint_options_from_settings() -> None:
    assert joint_options({}) == JointOptions()
    assert joint_options({"relax": ["quality"], "caution": 2}) == JointOptions(
        relax=("quality",), caution=2)


def test_a_named_model_is_kept() -> None:
    router = TwoStage(FixedModel("largest"), RoundRobin(), OFFERS)
    named = request(model="small")
    chosen = [router.route(named, SEEN[:2], 0.0).replica_id for _ in range(4)]
    assert chosen == [0, 1, 0, 1]


def test_the_model_comes_first_and_the_others_are_told_so() -> None:
    router = TwoStage(FixedModel("largest"), ShortestQueue(), OFFERS)
    busy = [SEEN[0], SEEN[1], snapshot(2, "large", running=9), snapshot(3, "large", running=8)]
    route = router.route(request(), busy, 0.0)
    assert route.replica_id == 3
    assert route.rejected == dict.fromkeys((0, 1), "the router chose large")


def test_the_router_of_models_hears_how_its_requests_went() -> None:
    pool = DualPool()
    router = TwoStage(pool, RoundRobin(), OFFERS)
    for number in range(20):
        route = router.route(request(number), SEEN, 0.0)
        router.ended(departure(number, route.replica_id, 0.1, 1.0, 400))
    assert router.route(request(99), SEEN, 0.0).replica_id in (2, 3)
    router.ended(departure(12345, 0, 0.1, 1.0))  # of which it knows nothing


def test_a_dispatcher_that_looks_into_queues_gets_them() -> None:
    for dispatcher, looks in (("predictive", True), ("round_robin", False)):
        router = make_router("best_route", {"dispatcher": dispatcher}, CONTEXT)
        assert router.looks_into_queues is looks
        assert router.learns


@pytest.mark.parametrize(("spent", "elapsed", "price"), [
    (0.5, 0.5, 0.0), (0.2, 0.9, 0.0), (0.6, 0.5, 1.0), (1.0, 0.0, STEP), (1.2, 1.0, 2.0)])
def test_money_is_dearer_to_who_spends_ahead_of_time(spent: float, elapsed: float,
                                                     price: float) -> None:
    assert markup(spent, elapsed) == pytest.approx(price)


def test_usual_forecasts_fill_what_is_missing() -> None:
    known = usual(FACTS)
    one = request(forecasts={"small": expected()["small"]})
    found = known.of(one)
    assert found["small"] is one.forecasts["small"]
    assert (found["large"].quality, found["large"].output_tokens) == (0.7, 256.0)
    whole = request(forecasts=expected())
    assert known.of(whole) is whole.forecasts
    for number in range(100):
        known.sent(request(number))
        known.ended(departure(number, 0, 0.1, 1.0, 10, finished=number % 2 == 0))
    assert known.of(request())["small"].output_tokens == pytest.approx(
        (8 * 256 + 50 * 10) / 58)
    known.ended(departure(0, 0, 0.1, 1.0, 10**6))  # told twice: known no more
    assert known.of(request())["small"].output_tokens < 100
