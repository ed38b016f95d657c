"""Tiers below a KV cache: where evicted blocks go, and what their loads take."""

import pytest

from penstock.policy.kv.prefix import PrefixKv
from penstock.policy.kv.retained import RetainingKv
from penstock.policy.kv.tiers import KvTiers, TierSpec

BLOCK = 16
HOST, DISK = TierSpec("host", 2 * BLOCK, 0.001), TierSpec("disk", 3 * BLOCK, 0.01, 0.5)
REMOTE = TierSpec("remote", 9 * BLOCK, 0.1, 1.0, True)


def tiers_of(*specs: TierSpec) -> KvTiers:
    return KvTiers([spec.store(BLOCK) for spec in specs])


def keys(tiers: KvTiers) -> list[list[int]]:
    return [list(store.blocks) for store in tiers.stores]


def run(kv: PrefixKv | RetainingKv, number: int, hashes: tuple[int, ...]) -> int:
    """Start, compute and free a request of these hashes and one more token. Returns what it
    found."""
    tokens = BLOCK * len(hashes) + 1
    cached = kv.allocate(number, tokens, tokens, hashes, BLOCK, 0)
    assert cached is not None
    kv.computed(number, tokens)
    kv.free(number, len(hashes) + 1, tokens)
    return cached


def test_the_least_recently_used_block_moves_down() -> None:
    tiers = tiers_of(HOST, DISK)
    for key in range(7):
        tiers.put(key, 1)
    assert keys(tiers) == [[5, 6], [2, 3, 4]]
    assert tiers.stores[1].dropped_blocks == 2
    tiers.check_integrity()


def test_a_block_that_comes_again_leaves_its_older_place() -> None:
    tiers = tiers_of(HOST, DISK)
    for key in (0, 1, 2, 0):
        tiers.put(key, 1)
    assert keys(tiers) == [[2, 0], [1]]
    tiers.check_integrity()


def test_a_load_takes_the_latency_of_each_tier_and_the_time_of_each_token() -> None:
    tiers = tiers_of(HOST, DISK)
    for key in range(4):
        tiers.put(key, 1)
    tiers.take([0, 1, 2])
    assert tiers.settle() == pytest.approx(2 * BLOCK * 0.01 + 0.5 + BLOCK * 0.001)
    assert keys(tiers) == [[3], []]
    assert tiers.settle() == 0.0
    assert tiers.loaded_s == pytest.approx(2 * BLOCK * 0.01 + 0.5 + BLOCK * 0.001)


def test_a_shared_tier_keeps_its_copy_for_other_replicas() -> None:
    shared = REMOTE.store(BLOCK)
    one, other = KvTiers([HOST.store(BLOCK), shared]), KvTiers([HOST.store(BLOCK), shared])
    for key in range(4):
        one.put(key, 1)
    assert other.has(0)
    assert not other.has(3)
    other.take([0])
    one.take([0])
    assert shared.hit_blocks == 2
    assert keys(one) == [[2, 3], [1, 0]]


@pytest.mark.parametrize("cache", [PrefixKv, RetainingKv])
def test_a_prompt_takes_its_evicted_blocks_back(cache: type[PrefixKv] | type[RetainingKv]) -> None:
    tiers = tiers_of(REMOTE._replace(shared=False))
    kv = cache(4, BLOCK, tiers)
    assert run(kv, 1, (1, 2, 3)) == 0
    assert run(kv, 2, (7, 8, 9)) == 0
    assert tiers.has(1)
    assert kv.found_tokens(49, (1, 2, 3), BLOCK) == 48
    assert run(kv, 3, (1, 2, 3)) == 48
    assert not tiers.has(1)
    kv.check_integrity(0)
    tiers.check_integrity()


@pytest.mark.parametrize("cache", [PrefixKv, RetainingKv])
def test_a_prompt_that_finds_no_room_loads_nothing(
        cache: type[PrefixKv] | type[RetainingKv]) -> None:
    tiers = tiers_of(HOST)
    kv = cache(4, BLOCK, tiers)
    run(kv, 1, (1, 2))
    assert kv.allocate(2, 4 * BLOCK, 4 * BLOCK, (), BLOCK, 0) == 0
    assert kv.allocate(3, 2 * BLOCK + 1, 2 * BLOCK + 1, (1, 2), BLOCK, 0) is None
    assert tiers.settle() == 0.0
    assert keys(tiers) == [[2, 1]]


def test_the_last_token_is_computed_even_where_a_tier_has_it() -> None:
    kv = PrefixKv(4, BLOCK, tiers_of(HOST))
    run(kv, 1, (1, 2))
    run(kv, 2, (7, 8, 9))
    assert kv.allocate(3, 2 * BLOCK, 2 * BLOCK, (1, 2), BLOCK, 0) == BLOCK
