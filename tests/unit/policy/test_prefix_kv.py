"""The prefix cache: sharing, eviction order, hit rates and the books."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.policy.kv.prefix import PrefixKv
from support.scaled_examples import unit_examples

BLOCK = 16


def start(kv: PrefixKv, number: int, hashes: tuple[int, ...], tokens: int | None = None,
          spare: int = 0) -> int | None:
    tokens = BLOCK * len(hashes) + 1 if tokens is None else tokens
    return kv.allocate(number, tokens, tokens, hashes, BLOCK, spare)


def run(kv: PrefixKv, number: int, hashes: tuple[int, ...]) -> int:
    """Start, compute and free a request of these hashes and one more token."""
    cached = start(kv, number, hashes)
    assert cached is not None
    kv.computed(number, BLOCK * len(hashes) + 1)
    kv.free(number, len(hashes) + 1)
    return cached


def test_a_prefix_is_shared_only_once_it_is_computed() -> None:
    kv = PrefixKv(100, BLOCK)
    start(kv, 1, (1, 2, 3))
    assert start(kv, 2, (1, 2, 9)) == 0  # planned only
    kv.computed(1, 2 * BLOCK)
    assert start(kv, 3, (1, 2, 3)) == 2 * BLOCK
    assert kv.used_blocks == 4 + 4 + 2
    assert kv.shared_blocks(1) == 2
    kv.check_integrity(12)


def test_shared_blocks_stay_while_anyone_uses_them() -> None:
    kv = PrefixKv(100, BLOCK)
    start(kv, 1, (1, 2))
    kv.computed(1, 33)
    start(kv, 2, (1, 2))
    kv.free(1, 3)
    assert kv.used_blocks == 3
    assert kv.shared_blocks(2) == 0
    kv.check_integrity(3)
    kv.free(2, 3)
    assert kv.free_blocks == 100
    assert run(kv, 3, (1, 2)) == 2 * BLOCK  # cached, though no one held it


def test_the_last_prompt_token_is_always_computed() -> None:
    kv = PrefixKv(100, BLOCK)
    run(kv, 1, (1, 2))
    assert start(kv, 2, (1, 2), tokens=2 * BLOCK) == BLOCK
    kv.check_integrity(2)
    kv.free(2, 2)


def test_room_for_the_output_is_no_reason_to_count_the_whole_prompt_as_cached() -> None:
    kv = PrefixKv(100, BLOCK)
    run(kv, 1, (1, 2))
    assert kv.allocate(2, 2 * BLOCK, 10 * BLOCK, (1, 2), BLOCK, 0) == BLOCK
    assert kv.used_blocks == 10


def test_eviction_takes_the_least_recently_used_and_ends_before_beginnings() -> None:
    kv = PrefixKv(6, BLOCK)
    run(kv, 1, (1, 2))
    run(kv, 2, (3,))
    run(kv, 3, (1,))  # refreshes 1, not 2
    # Cached: 2, 3, 1 in order of age. Five blocks leave room for one of them.
    start(kv, 4, (), tokens=5 * BLOCK)
    kv.free(4, 5)
    assert run(kv, 5, (3,)) == 0
    assert run(kv, 6, (1, 2)) == BLOCK


def test_a_pinned_prefix_is_never_evicted() -> None:
    kv = PrefixKv(6, BLOCK)
    run(kv, 1, (1, 2))
    start(kv, 2, (1, 2))  # pins two, books one
    assert start(kv, 3, (), tokens=4 * BLOCK) is None
    assert start(kv, 3, (), tokens=3 * BLOCK) == 0
    kv.free(2, 3)
    kv.check_integrity(3)
    assert run(kv, 4, (1, 2)) == 2 * BLOCK


def test_idle_cached_blocks_that_a_request_pins_count_as_room_it_needs() -> None:
    kv = PrefixKv(3, BLOCK)
    run(kv, 1, (1, 2))
    assert start(kv, 2, (1, 2), spare=1) is None
    assert start(kv, 2, (1, 2)) == 2 * BLOCK
    assert kv.free_blocks == 0


def test_growth_evicts_what_nobody_uses() -> None:
    kv = PrefixKv(4, BLOCK)
    run(kv, 1, (1, 2))
    start(kv, 2, (), tokens=BLOCK)
    assert kv.grow(3)
    assert not kv.grow(1)
    kv.check_integrity(4)
    kv.free(2, 4)
    assert run(kv, 3, (1,)) == 0


def test_two_that_compute_the_same_prefix_keep_their_own_copies() -> None:
    kv = PrefixKv(100, BLOCK)
    start(kv, 1, (1, 2))
    start(kv, 2, (1, 2))
    kv.computed(1, 33)
    kv.computed(2, 33)
    assert kv.shared_blocks(1) == kv.shared_blocks(2) == 0
    kv.check_integrity(6)
    kv.free(1, 3)
    kv.free(2, 3)
    kv.check_integrity(0)
    assert kv.free_blocks == 100


def test_hashes_of_several_blocks() -> None:
    kv = PrefixKv(100, BLOCK)
    kv.allocate(1, 129, 129, (1, 2), 4 * BLOCK, 0)
    kv.computed(1, 100)  # covers the first hash only
    assert kv.allocate(2, 129, 129, (1, 2), 4 * BLOCK, 0) == 4 * BLOCK
    assert kv.used_blocks == 9 + 5


def test_hashes_that_do_not_fill_blocks_are_bad_input() -> None:
    kv = PrefixKv(100, BLOCK)
    with pytest.raises(InputError, match=r"24 tokens each, expected a multiple .* 16 tokens"):
        kv.allocate(1, 100, 100, (1, 2), 24, 0)


def test_integrity_check_sees_a_leak() -> None:
    kv = PrefixKv(100, BLOCK)
    start(kv, 1, (1,))
    with pytest.raises(AssertionError):
        kv.check_integrity(1)


class SlowCache:
    """The same cache, told as a list of (hash, last use) without any counters."""

    def __init__(self, total_blocks: int) -> None:
        self.total_blocks = total_blocks
        self.cached: list[int] = []  # least recently used first

    def serve(self, hashes: tuple[int, ...]) -> int:
        hits = 0
        while hits < len(hashes) and hashes[hits] in self.cached:
            hits += 1
        self.cached = [key for key in self.cached if key not in hashes[:hits]]
        own = len(hashes) + 1 - hits
        # One request at a time: everything but what it holds may go.
        while len(self.cached) + hits + own > self.total_blocks:
            self.cached.pop(0)
        # What it computes takes the place of a copy that it could not reach, if one is left.
        mine = []
        for i, key in enumerate(hashes):
            if i >= hits and key in self.cached:
                break
            mine.append(key)
        self.cached += reversed(mine)
        return hits


@unit_examples(200)
@given(st.integers(4, 12), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=40))
def test_hits_one_at_a_time_equal_a_plain_lru(total: int, prompts: list[tuple[int, int]]) -> None:
    kv, slow = PrefixKv(total, BLOCK), SlowCache(total)
    hit_tokens = prompt_tokens = 0
    for number, (family, length) in enumerate(prompts):
        hashes = tuple(10 * family + i for i in range(length))
        cached = run(kv, number, hashes)
        assert cached == BLOCK * slow.serve(hashes)
        kv.check_integrity(0)
        hit_tokens += cached
        prompt_tokens += BLOCK * length + 1
    assert kv.hit_rate == (hit_tokens / prompt_tokens if prompts else 0.0)


@unit_examples(200)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 4), st.integers(1, 20),
                          st.integers(0, 90)), max_size=40))
def test_books_balance_with_many_at_once(actions: list[tuple[bool, int, int, int, int]]) -> None:
    kv = PrefixKv(20, BLOCK)
    held: dict[int, int] = {}
    for number, (arrives, family, shared, tokens, computed) in enumerate(actions):
        if arrives or not held:
            prompt = 4 * tokens
            hashes = tuple(10 * family + i if i < shared else 1000 * number + i
                           for i in range(prompt // BLOCK))
            if kv.allocate(number, prompt, prompt, hashes, BLOCK, 0) is not None:
                held[number] = -(-prompt // BLOCK)
                kv.computed(number, min(computed, prompt))
        else:
            oldest = next(iter(held))
            kv.free(oldest, held.pop(oldest))
        kv.check_integrity(sum(held.values()))
    for number, blocks in held.items():
        kv.free(number, blocks)
    kv.check_integrity(0)
    assert kv.free_blocks == 20
