"""The prefix cache of an engine that retains every full block."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.policy.kv.retained import RetainingKv
from support.scaled_examples import unit_examples

BLOCK = 16


def start(kv: RetainingKv, number: int, hashes: tuple[int, ...], tokens: int) -> int | None:
    return kv.allocate(number, tokens, tokens, hashes, BLOCK, 0)


def test_a_preempted_sequence_finds_its_prompt_and_its_answer() -> None:
    kv = RetainingKv(10, BLOCK)
    start(kv, 1, (), 40)
    kv.grow(1)
    kv.free(1, 4, stored_tokens=50)
    assert start(kv, 1, (), 51) == 48
    kv.check_integrity(4)


def test_blocks_without_a_hash_are_found_by_their_own_sequence_alone() -> None:
    kv = RetainingKv(10, BLOCK)
    start(kv, 1, (), 40)
    kv.free(1, 3, stored_tokens=40)
    assert start(kv, 2, (), 40) == 0


def test_the_end_of_a_sequence_is_evicted_before_its_beginning() -> None:
    kv = RetainingKv(6, BLOCK)
    start(kv, 1, (7,), 80)
    kv.computed(1, 80)
    kv.free(1, 5, stored_tokens=80)
    start(kv, 2, (), 3 * BLOCK)  # one block was never used, so two are evicted
    kv.free(2, 3)
    assert start(kv, 1, (7,), 81) == 3 * BLOCK


def test_equal_blocks_of_two_sequences_are_stored_twice_until_one_is_evicted() -> None:
    kv = RetainingKv(10, BLOCK)
    for number in (1, 2):
        start(kv, number, (7, 8), 33)
    for number in (1, 2):
        kv.computed(number, 33)
    assert kv.used_blocks == 6
    kv.free(1, 3)
    kv.free(2, 3)
    start(kv, 3, (), 8 * BLOCK)  # evicts the first copies
    kv.free(3, 8)
    assert start(kv, 4, (7, 8), 33) == 2 * BLOCK


def test_the_last_token_is_always_computed() -> None:
    kv = RetainingKv(10, BLOCK)
    start(kv, 1, (7, 8), 32)
    kv.computed(1, 32)
    assert start(kv, 2, (7, 8), 32) == BLOCK
    kv.free(1, 2, stored_tokens=32)
    kv.check_integrity(2)


def test_a_chunk_takes_its_own_room_while_the_whole_prompt_must_fit() -> None:
    kv = RetainingKv(4, BLOCK)
    assert kv.allocate(1, 64, 64, (), BLOCK, 0, 10) == 0
    assert kv.used_blocks == 1
    assert kv.allocate(2, 64, 64, (), BLOCK, 0, 10) is None
    assert kv.allocate(2, 64, 0, (), BLOCK, 0, 10) == 0


def test_hashes_cover_whole_blocks() -> None:
    with pytest.raises(InputError, match="multiple"):
        RetainingKv(10, BLOCK).allocate(1, 100, 100, (1, 2), 24, 0)


@unit_examples(200)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 90),
                          st.booleans()), max_size=30))
def test_books_stay_true(rows: list[tuple[int, int, int, bool]]) -> None:
    """Sequences start, some of them again, share prefixes, and are freed in any state."""
    kv = RetainingKv(12, BLOCK)
    held: dict[int, int] = {}
    for family, number, tokens, ends in rows:
        if number in held:
            stored = held.pop(number)
            kv.free(number, -(-stored // BLOCK), stored if ends else 0)
        else:
            hashes = tuple(10 * family + place for place in range(tokens // BLOCK))
            cached = start(kv, number, hashes, tokens)
            if cached is not None:
                assert cached < tokens
                held[number] = tokens
                kv.computed(number, tokens)
        kv.check_integrity(sum(-(-stored // BLOCK) for stored in held.values()))
        assert 0.0 <= kv.hit_rate <= 1.0
    for number, stored in held.items():
        kv.free(number, -(-stored // BLOCK))
    assert kv.free_blocks == 12
