"""Routing by the least added time, and the router's records of caches and queues."""

from dataclasses import replace

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.kv.index import PrefixIndex
from penstock.policy.kv.tiers import TierSpec
from penstock.policy.route.live_index import LiveIndex
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


def test_a_prompt_common_to_all_draws_them_to_no_replica() -> None:
    chooser, counts = router(4), [0] * 4
    for number in range(200):
        seen = [snapshot(one, running=counts[one], kv_used=100 * counts[one]) for one in range(4)]
        own = tuple(1000 * number + place for place in range(1, 9))
        chosen = chooser.route(request(number, 170, hashes=(1, 2, *own)), seen, float(number))
        counts[chosen.replica_id] += 1
    assert max(counts) <= 1.5 * 200 / 4


def test_a_conversation_is_no_common_prompt() -> None:
    record = SentPrefixes(PrefixIndex())
    for turn in range(1, 30):
        record.sent(request(turn, 16 * turn, hashes=LONG[:turn]), 0, 100_000, float(turn))
    assert record.num_common(LONG[:30], 4) == 0


def test_a_prefix_is_common_where_prompts_branch_off_behind_it() -> None:
    record = SentPrefixes(PrefixIndex())
    for number in range(12):
        record.sent(request(number, 64, hashes=(1, 2, 100 + number, 200 + number)), 0, 10_000, 0.0)
    # Two blocks of four: more than 4 * (1 + 2 / 3) branches are worth a second copy.
    assert record.num_common((1, 2, 300, 400), 4) == 2
    assert record.num_common((1, 2, 300, 400), 8) == 0
    record.sent(request(20, 32, hashes=(1, 2)), 1, 10_000, 0.0)
    assert record.num_common((1, 2, 300, 400), 4) == 0


def test_blocks_move_down_the_tiers_and_are_worth_the_time_to_load_them() -> None:
    tiers = (TierSpec("host", 48, 1e-5), TierSpec("remote", 1600, 1e-5, 0.0, True))
    index = PrefixIndex()
    record = SentPrefixes(index)
    for first in (10, 20, 30):
        record.sent(request(0, 48, hashes=(first, first + 1, first + 2)), 0, 48, 0.0, tiers)
    assert index.match(0, (30, 31, 32)) == (3, 0, 0, 0)
    assert index.match(0, (20, 21, 22)) == (0, 3, 0, 0)
    assert index.match(0, (10, 11, 12)) == (0, 0, 0, 0)
    assert record.num_pooled((10, 11, 12), 0) == 3
    record.sent(request(0, 48, hashes=(20, 21, 22)), 0, 48, 0.0, tiers)
    assert index.match(0, (20, 21, 22)) == (3, 0, 0, 0)
    assert index.match(0, (30, 31, 32)) == (0, 3, 0, 0)


def test_a_slow_tier_is_worth_less_than_a_cache() -> None:
    for s_per_token, chosen in ((1e-6, 0), (1.0, 1)):
        tiers = (TierSpec("host", 100_000, s_per_token),)
        chooser = LeastAddedTime({number: replace(fact(number), tiers=tiers)
                                  for number in range(2)})
        small = snapshot(0, kv_total=3200)
        chooser.route(request(0, 3300, hashes=LONG), [small], 0.0)
        chooser.route(request(1, 3300, hashes=tuple(range(900, 1100))), [small], 1.0)
        route = chooser.route(request(2, 3300, hashes=LONG), [small, snapshot(1)], 2.0)
        assert route.replica_id == chosen


def test_reports_replace_the_guess_of_a_replica_that_tells_all() -> None:
    live = LiveIndex()
    for number in range(2):
        live.cleared(number, whole=True)
    chooser = LeastAddedTime({number: fact(number) for number in range(2)}, live=live)
    idle = [snapshot(0), snapshot(1)]

    def routed(number: int, now_s: float, *, exact: bool = True) -> tuple[int, float]:
        found = chooser.route(request(number, 3300, hashes=LONG)._replace(hashes_are_exact=exact),
                              idle, now_s)
        return found.replica_id, found.terms["cached_tokens"]

    assert routed(0, 0.0) == (0, 0)
    assert routed(1, 1.0) == (0, 3200), "the replica will report them in a moment"
    assert routed(2, 9.0)[1] == 0, "the replica has evicted them"
    live.stored(1, LONG)
    assert routed(3, 20.0) == (1, 3200)
    assert routed(4, 30.0, exact=False)[1] == 3200, "without exact hashes as sent"
