"""Published routers that weigh cached prefixes, against their sources' rules and examples."""

import pytest

from penstock.policy.route.context import RouterContext
from penstock.published.routers.dynamo import DEFAULTS, DynamoKv, DynamoWeights, cost
from penstock.published.routers.llm_d import LlmdScorers
from penstock.published.routers.sglang import SglangCacheAware
from penstock.registry.make import make_router
from support.small_routing import fact, request, snapshot

HASHES = tuple(range(1, 11))  # 160 tokens


def first(_: int) -> int:
    return 0


def test_dynamos_worked_example() -> None:
    """Prefill, credit and decode blocks of three workers, from Dynamo's documentation."""
    assert [cost(DEFAULTS, *blocks) for blocks in ((10, 2, 10), (10, 5, 5), (10, 8, 9))] == [
        18, 10, 11]


def test_dynamo_takes_the_least_cost() -> None:
    router = DynamoKv(first)
    assert router.route(request(0, 160, hashes=HASHES), [snapshot(1)], 0.0).replica_id == 1
    seen = [snapshot(0), snapshot(1)]
    route = router.route(request(1, 160, hashes=HASHES), seen, 1.0)
    assert (route.replica_id, route.terms["cost"]) == (1, pytest.approx(1 / 16))
    # Ten blocks of prefill are cheaper than eleven of decode.
    busy = [snapshot(0), snapshot(1, running=1, kv_used=11 * 16)]
    assert router.route(request(2, 160, hashes=HASHES), busy, 2.0).replica_id == 0


def test_dynamo_predicts_caches_for_two_minutes() -> None:
    for later_s, chosen in ((119.0, 1), (121.0, 0)):
        router = DynamoKv(first)
        router.route(request(0, 160, hashes=HASHES), [snapshot(1)], 0.0)
        route = router.route(request(1, 160, hashes=HASHES), [snapshot(0), snapshot(1)], later_s)
        assert route.replica_id == chosen


def test_dynamo_draws_at_a_temperature() -> None:
    seen = [snapshot(0, kv_used=16), snapshot(1)]
    draws = {draw: DynamoKv(lambda n, share=draw: int(share * n), DynamoWeights(temperature=1.0))
             .route(request(0, 16), seen, 0.0).replica_id for draw in (0.2, 0.5)}
    # exp(-1) / (1 + exp(-1)) = 0.27 goes to the dearer one.
    assert draws == {0.2: 0, 0.5: 1}


def test_sglang_takes_the_match_above_a_threshold_else_the_smallest_tree() -> None:
    router = SglangCacheAware()
    seen = [snapshot(0), snapshot(1)]
    assert router.route(request(0, 160, hashes=HASHES), seen, 0.0).replica_id == 0
    assert router.route(request(1, 160, hashes=(91, 92)), seen, 1.0).replica_id == 1
    assert router.route(request(2, 160, hashes=HASHES), seen, 2.0).replica_id == 0
    few = request(3, 160, hashes=(*HASHES[:3], 81, 82))  # 48 of 160 tokens are not above 0.3
    assert router.route(few, seen, 3.0).replica_id == 1


def test_sglang_takes_the_least_loaded_only_where_both_limits_are_passed() -> None:
    for least, most, chosen in ((0, 64, 0), (0, 65, 1), (200, 300, 0), (100, 165, 1)):
        router = SglangCacheAware()
        router.route(request(0, 160, hashes=HASHES), [snapshot(0)], 0.0)
        seen = [snapshot(0, running=most), snapshot(1, running=least)]
        assert router.route(request(1, 160, hashes=HASHES), seen, 1.0).replica_id == chosen


def test_llm_d_adds_weighted_scores() -> None:
    router = LlmdScorers(first)
    router.route(request(0, 160, hashes=HASHES), [snapshot(0)], 0.0)
    seen = [snapshot(0, waiting=2, kv_used=50_000), snapshot(1)]
    route = router.route(request(1, 160, hashes=HASHES), seen, 1.0)
    # 2 * 0 + 2 * 0.5 + 3 * 1 = 4, against 2 * 1 + 2 * 1 + 0.
    assert route.terms["score"] == pytest.approx(4.0)
    half = request(2, 160, hashes=(*HASHES[:5], 81, 82, 83, 84, 85))
    assert router.route(half, seen, 2.0).replica_id == 1


def test_llm_d_draws_among_equals() -> None:
    seen = [snapshot(0), snapshot(1), snapshot(2)]
    assert LlmdScorers(lambda n: n - 1).route(request(0, 160), seen, 0.0).replica_id == 2


@pytest.mark.parametrize(("name", "settings"), [
    ("sglang-cache-aware", {"cache_threshold": 0.5, "balance_abs": 10, "balance_rel": 2.0}),
    ("dynamo-kv", {"overlap_credit": 2.0, "decay": 1.0, "temperature": 0.5, "ttl_s": 10.0}),
    ("llm-d", {"queue": 1.0, "kv": 0.0, "prefix": 5.0})])
def test_each_is_made_by_name(name: str, settings: dict[str, float]) -> None:
    context = RouterContext([fact(0), fact(1)], first)
    for given in ({}, settings):
        router = make_router(name, given, context)
        assert router.route(request(), [snapshot(0), snapshot(1)], 0.0).replica_id in (0, 1)
