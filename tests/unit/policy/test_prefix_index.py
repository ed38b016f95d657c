"""The index of replicas that hold blocks of prompts."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.kv.index import TIERS, PrefixIndex

REPLICAS, KEYS = range(4), range(6)
CHANGES = st.lists(st.tuples(
    st.sampled_from(["stored", "removed", "cleared"]), st.sampled_from(REPLICAS),
    st.lists(st.sampled_from(KEYS), max_size=4), st.sampled_from(range(len(TIERS)))))


def test_a_block_counts_only_after_all_blocks_before_it() -> None:
    index = PrefixIndex()
    index.stored(0, (1, 2, 3))
    index.stored(1, (1, 3))
    index.stored(2, (2, 3))
    assert index.depths((1, 2, 3)) == {0: 3, 1: 1}
    index.removed(0, (2,))
    assert index.depths((1, 2, 3)) == {0: 1, 1: 1}


def test_each_block_counts_in_its_fastest_tier() -> None:
    index = PrefixIndex()
    index.stored(0, (1, 2))
    index.stored(0, (2, 3), tier=1)
    index.stored(0, (4,), tier=3)
    assert index.match(0, (1, 2, 3, 4, 5)) == (2, 1, 0, 1)
    assert index.depths((1, 2, 3, 4, 5)) == {0: 4}


def test_a_cleared_replica_has_nothing() -> None:
    index = PrefixIndex()
    index.stored(0, (1,))
    index.stored(0, (2,), tier=2)
    index.stored(1, (1,))
    index.cleared(0)
    assert index.depths((1, 2)) == {1: 1}
    assert [index.num_blocks(0, tier) for tier in range(len(TIERS))] == [0, 0, 0, 0]


@given(CHANGES, st.lists(st.sampled_from(KEYS), max_size=5))
def test_the_index_agrees_with_sets_of_blocks(
        changes: list[tuple[str, int, list[int], int]], asked: list[int]) -> None:
    index = PrefixIndex()
    held: dict[tuple[int, int], set[int]] = {(r, t): set() for r in REPLICAS
                                             for t in range(len(TIERS))}
    for change, replica, keys, tier in changes:
        if change == "stored":
            index.stored(replica, keys, tier)
            held[replica, tier] |= set(keys)
        elif change == "removed":
            index.removed(replica, keys, tier)
            held[replica, tier] -= set(keys)
        else:
            index.cleared(replica)
            for one in range(len(TIERS)):
                held[replica, one] = set()
    for replica in REPLICAS:
        counts = [0] * len(TIERS)
        for key in asked:
            tiers = [tier for tier in range(len(TIERS)) if key in held[replica, tier]]
            if not tiers:
                break
            counts[tiers[0]] += 1
        assert index.match(replica, asked) == tuple(counts)
        assert index.depths(asked).get(replica, 0) == sum(counts)
        for tier in range(len(TIERS)):
            assert index.num_blocks(replica, tier) == len(held[replica, tier])
