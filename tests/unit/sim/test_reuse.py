"""Reuse of prefixes: what there was, what the routes caught, and what was not computed."""


from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.policy.kv.counting import CountingKv
from penstock.policy.kv.prefix import PrefixKv
from penstock.sim.reuse import PrefixReuse, ReuseMeter

BLOCK = 16


def request(number: int, hashes: tuple[int, ...], more: int = 1) -> Request:
    return Request(number, 0.0, BLOCK * len(hashes) + more, 1, ServiceClass("any"), "m", "default",
                   hashes, BLOCK)


def test_each_count_has_its_own_cache() -> None:
    kvs = {0: PrefixKv(4, BLOCK), 1: PrefixKv(4, BLOCK)}
    meter = ReuseMeter(kvs, ["m", "m"])
    first = request(0, (1, 2))
    meter.routed(first, 0)
    assert kvs[0].allocate(0, first.prompt_tokens, 33, (1, 2), BLOCK, 0) == 0
    kvs[0].computed(0, 33)
    meter.routed(request(1, (1, 2)), 1)  # the other replica has nothing
    meter.routed(request(2, (1, 2)), 0)
    meter.routed(request(3, tuple(range(10, 18))), 1)  # evicts 1 and 2 from the pool of 8 blocks
    meter.routed(request(4, (1,)), 1)
    assert meter.reuse(32) == PrefixReuse(33 * 3 + 129 + 17, 32 + 32 + 16, 32 + 32, 32, 32)


def test_the_last_token_is_not_available() -> None:
    meter = ReuseMeter({0: PrefixKv(9, BLOCK)}, ["m"])
    for number in range(2):
        meter.routed(request(number, (1, 2), more=0), 0)
    assert meter.reuse(0) == PrefixReuse(64, 16, 16, 0, 0)


def test_models_share_nothing() -> None:
    meter = ReuseMeter({0: PrefixKv(9, BLOCK), 1: PrefixKv(9, BLOCK)}, ["m", "n"])
    for replica in (0, 1):
        meter.routed(request(replica, (1, 2)), replica)
    assert meter.reuse(0) == PrefixReuse(66, 0, 0, 0, 0)


def test_without_hashes_or_caches_nothing_is_said() -> None:
    meter = ReuseMeter({0: CountingKv(9, BLOCK), 1: PrefixKv(9, BLOCK)}, ["m", "m"])
    meter.routed(request(0, (1,)), 0)
    meter.routed(request(1, ()), 1)
    assert meter.reuse(0) is None
