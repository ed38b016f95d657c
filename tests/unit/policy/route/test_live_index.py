"""The index of blocks that replicas report, and the memory that reads it."""

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.affinity import PrefixMemory
from penstock.policy.route.live_index import LiveIndex
from penstock.policy.route.prefix import PrefixAware

CHAT = ServiceClass("chat")
HASHES = (11, 12, 13, 14)


def request(hashes=HASHES, *, exact=True, session=""):
    return Request(0, 0.0, 100, 10, CHAT, prefix_hashes=hashes, hash_block_tokens=16,
                   session=session, hashes_are_exact=exact)


def replica(number, queued=0):
    return ReplicaSnapshot(number, "m", 0.0, 0, 0, queued, 0, 10_000)


def index_of(*held):
    index = LiveIndex()
    for number, hashes in enumerate(held):
        index.cleared(number, whole=True)
        index.stored(number, hashes)
    return index


def test_the_match_is_the_unbroken_beginning():
    index = index_of((11, 12, 14), (12, 13))
    assert (index.match(0, HASHES), index.match(1, HASHES), index.match(7, HASHES)) == (2, 0, 0)
    assert index.holders(12) == [0, 1]
    index.removed(0, (11, 99))
    assert index.match(0, HASHES) == 0
    index.cleared(0)
    assert (index.num_blocks(0), index.follows(0), index.is_whole(0)) == (0, True, False)
    index.lost(1)
    assert not index.follows(1)


def test_a_slower_tier_is_worth_less():
    index = index_of(())
    index.stored(0, (11,), 1)
    index.stored(0, (12,), 2)
    assert index.match(0, HASHES) == 0.8 + 0.25
    index.stored(0, (11,), 0)
    index.removed(0, (11,), 1)
    assert index.match(0, HASHES) == 1.25


def test_reports_replace_the_estimate_of_a_whole_replica():
    index = index_of((), HASHES[:2])
    memory = PrefixMemory(live=index)
    memory.sent(request(), 0, 0.0)
    assert memory.cached_tokens(request(), 0, 1.0) == 64, "reported in a moment"
    assert memory.cached_tokens(request(), 0, 10.0) == 0, "the replica evicted it"
    assert memory.cached_tokens(request(), 1, 10.0) == 32
    assert memory.holders(request()) == {0, 1}


def test_the_estimate_stays_where_blocks_can_be_missing_or_tokens_are_unknown():
    index = index_of(())
    memory = PrefixMemory(live=index)
    memory.sent(request(), 0, 0.0)
    index.cleared(0)
    assert memory.cached_tokens(request(), 0, 10.0) == 64
    index.cleared(0, whole=True)
    assert memory.cached_tokens(request(exact=False), 0, 10.0) == 64
    assert memory.cached_tokens(request(exact=True), 0, 10.0) == 0


def test_a_session_does_not_hide_that_its_blocks_are_gone():
    memory = PrefixMemory(live=index_of(()))
    memory.sent(request(session="s"), 0, 0.0)
    assert memory.cached_tokens(request(session="s"), 0, 10.0) == 0


def test_the_router_follows_the_reports():
    index = index_of((), HASHES)
    router = PrefixAware(PrefixMemory(live=index))
    route = router.route(request(), [replica(0), replica(1)], 5.0)
    assert (route.replica_id, route.terms["cached_tokens"]) == (1, 64)
    index.removed(1, HASHES)
    assert router.route(request(), [replica(0), replica(1)], 50.0).replica_id == 0
