"""Routing by the least added time, and the router's records of caches and queues."""

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.kv.index import PrefixIndex
from penstock.policy.route.outstanding import Outstanding, Remainder
from penstock.policy.route.reuse import LeastAddedTime
from penstock.policy.route.sent import SentPrefixes, cached_tokens, usable_hashes
from support.small_routing import fact, request, snapshot

LONG = tuple(range(1, 201))  # 3,200 tokens


def router(num: int = 2) -> LeastAddedTime:
    return LeastAddedTime({number: fact(number) for number in range(num)})


def test_a_prompt_goes_where_its_prefix_is() -> None:
    chooser = router(3)
    first = request(0, 3300, hashes=LONG)
    home = chooser.route(first, [snapshot(1), snapshot(2)], 0.0).replica_id
    for number in range(1, 4):
        route = chooser.route(request(number, 3300, hashes=LONG),
                              [snapshot(one) for one in range(3)], float(number))
        assert route.replica_id == home == 1
        assert route.terms["cached_tokens"] == 3200


def test_a_prompt_is_computed_again_rather_than_waiting_too_long() -> None:
    chooser = router()
    chooser.route(request(0, 3300, hashes=LONG), [snapshot(0)], 0.0)
    again = request(1, 3300, hashes=LONG)
    short = snapshot(0, running=1, queued=2000)
    assert chooser.route(again, [short, snapshot(1)], 1.0).replica_id == 0
    jammed = snapshot(0, waiting=20, running=1, queued=200_000)
    assert chooser.route(again, [jammed, snapshot(1)], 1.0).replica_id == 1


def test_a_tight_target_shortens_the_wait() -> None:
    waits = snapshot(0, running=1, queued=6000)
    for target_s, chosen in ((10.0, 0), (0.35, 1)):
        chooser = router()
        chooser.route(request(0, 3300, hashes=LONG), [snapshot(0)], 0.0)
        tight = ServiceClass("tight", Slo(ttft_s=target_s))
        route = chooser.route(request(1, 3300, hashes=LONG, service_class=tight),
                              [waits, snapshot(1)], 1.0)
        assert route.replica_id == chosen


def test_prompts_without_prefix_spread() -> None:
    chooser, queued, waiting = router(4), [0] * 4, [0] * 4
    for number in range(40):
        seen = [snapshot(one, waiting=waiting[one], queued=queued[one]) for one in range(4)]
        chosen = chooser.route(request(number, 1000), seen, 0.0).replica_id
        queued[chosen] += 1000
        waiting[chosen] += 1
    assert waiting == [10] * 4


def test_a_waiting_prompt_counts_without_its_cached_tokens() -> None:
    outstanding = Outstanding()
    for tokens, left in ((1000, 700), (2000, 500), (800, 800)):
        outstanding.sent(0, tokens, left)
    seen = snapshot(0, waiting=2, running=1, queued=2900)  # 100 left of the first prompt
    assert outstanding.of(seen) == [Remainder(800, 800), Remainder(2000, 500),
                                    Remainder(1000, 100)]
    assert outstanding.of(snapshot(0, running=3)) == []
    assert outstanding.of(snapshot(1, running=1, queued=90)) == [Remainder(90, 90)]


def test_the_record_forgets_what_no_longer_fits() -> None:
    index = PrefixIndex()
    record = SentPrefixes(index)
    record.sent(request(0, 60, hashes=(1, 2, 3)), 0, 80, 0.0)
    record.sent(request(1, 60, hashes=(7, 8, 9)), 0, 80, 1.0)
    assert index.depths((7, 8, 9)) == {0: 3}
    assert index.depths((1, 2, 3)) == {0: 2}
    record.forget(0)
    assert index.depths((7,)) == index.depths((1,)) == {}


def test_the_record_forgets_what_is_too_old() -> None:
    index = PrefixIndex()
    record = SentPrefixes(index, ttl_s=10.0)
    record.sent(request(0, 60, hashes=(1, 2)), 0, 1000, 0.0)
    record.sent(request(1, 60, hashes=(1,)), 0, 1000, 5.0)
    record.expire(9.0)
    assert index.depths((1, 2)) == {0: 2}
    record.expire(10.0)
    assert index.depths((1, 2)) == {0: 1}
    record.expire(15.0)
    assert index.depths((1, 2)) == {}


def test_only_whole_blocks_count_and_one_token_is_computed() -> None:
    part = request(0, 40, hashes=(1, 2, 3))
    assert usable_hashes(part) == (1, 2)
    whole = request(0, 48, hashes=(1, 2, 3))
    assert [cached_tokens(whole, depth) for depth in (0, 2, 3)] == [0, 32, 47]
    assert usable_hashes(request()) == ()
