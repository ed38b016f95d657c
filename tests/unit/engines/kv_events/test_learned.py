"""Blocks under keys that requests share, learned from an engine's own hashes."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.engines.kv_events.decode import Batch, Cleared, Ignored, Removed, Stored
from penstock.engines.kv_events.keys import prompt_keys
from penstock.engines.kv_events.learned import LearnedBlocks
from penstock.policy.route.live_index import LiveIndex

SIZE = 4
TOKENS = tuple(range(100, 116))
KEYS = prompt_keys(TOKENS, SIZE)


def learned(**more):
    index = LiveIndex()
    return LearnedBlocks(index, 0, **more), index


def test_a_prompt_of_equal_tokens_is_found_whatever_the_engine_calls_its_blocks():
    blocks, index = learned()
    blocks.apply(Batch(0.0, (Stored((71, b"72"), None, TOKENS[:8], SIZE),)))
    blocks.apply(Batch(0.0, (Stored((73,), b"72", TOKENS[8:12], SIZE),)))
    assert index.block_tokens(0) == SIZE
    assert index.match(0, KEYS) == 3.0
    assert index.match(0, prompt_keys((1, *TOKENS[1:]), SIZE)) == 0.0
    blocks.apply(Batch(0.0, (Removed((b"72",)),)))
    assert index.match(0, KEYS) == 1.0
    blocks.apply(Batch(0.0, (Stored((b"72",), 71, TOKENS[4:8], SIZE),)))
    assert index.match(0, KEYS) == 3.0, "the third block was there all the time"


def test_a_block_may_be_in_several_tiers():
    blocks, index = learned()
    blocks.apply(Batch(0.0, (Stored((1,), None, TOKENS[:4], SIZE),
                             Stored((1,), None, (), SIZE, 1), Removed((1,)))))
    assert index.match(0, KEYS) == 0.8
    blocks.apply(Batch(0.0, (Removed((1,), 1),)))
    assert index.match(0, KEYS) == 0.0


def test_blocks_after_an_unknown_one_are_orphans():
    blocks, index = learned()
    blocks.apply(Batch(0.0, (Stored((2,), 1, TOKENS[4:8], SIZE), Stored((9,), None, (), SIZE, 1),
                             Ignored("unknown"))))
    assert (blocks.num_orphans, index.num_blocks(0)) == (2, 0)
    assert blocks.counts == {"stored": 2, "ignored_unknown": 1}


def test_a_salt_and_an_adapter_have_their_own_keys():
    blocks, index = learned()
    blocks.apply(Batch(0.0, (
        Stored((1, 2), None, TOKENS[:8], SIZE, extras=(("pepper",), ())),
        Stored((3,), None, TOKENS[:4], SIZE, adapter="sql"))))
    assert index.match(0, KEYS) == 0.0
    assert index.match(0, prompt_keys(TOKENS, SIZE, salt="pepper")) == 2.0
    assert index.match(0, prompt_keys(TOKENS, SIZE, "sql")) == 1.0


def test_after_a_clearing_nothing_can_be_missing():
    blocks, index = learned()
    blocks.begin(whole=False)
    blocks.apply(Batch(0.0, (Stored((1,), None, TOKENS[:4], SIZE),)))
    assert not index.is_whole(0)
    blocks.apply(Batch(0.0, (Cleared(),)))
    assert index.is_whole(0)
    assert index.num_blocks(0) == 0


def test_a_suspended_engine_comes_back_with_its_blocks_under_another_number():
    blocks, index = learned()
    blocks.begin(whole=True)
    blocks.apply(Batch(0.0, (Stored((1, 2), None, TOKENS[:8], SIZE), Stored((1,), None, (), SIZE,
                                                                            1))))
    blocks.suspend()
    assert not index.follows(0)
    blocks.move(5)
    assert index.is_whole(5)
    assert index.match(5, KEYS) == 2.0
    blocks.apply(Batch(0.0, (Removed((1, 2)),)))
    assert index.match(5, KEYS) == 0.8


def test_blocks_beyond_the_limit_are_forgotten():
    blocks, index = learned(most_held=2)
    blocks.apply(Batch(0.0, (Stored((1, 2, 3), None, TOKENS[:12], SIZE),)))
    assert index.num_blocks(0) == 2
    assert index.match(0, KEYS) == 0.0


def test_the_keys_of_removed_blocks_are_known_for_a_while():
    blocks, index = learned(most_gone=1)
    first, second, third = (Stored((n + 1,), n or None, TOKENS[n * SIZE:(n + 1) * SIZE], SIZE)
                            for n in range(3))
    blocks.apply(Batch(0.0, (first, second, Removed((1, 2)), third)))
    assert blocks.num_orphans == 0, "2 was the latest to go"
    blocks.apply(Batch(0.0, (second,)))
    assert blocks.num_orphans == 1, "1 is no longer known"
    assert index.num_blocks(0) == 1


@given(st.lists(st.tuples(st.sampled_from("srm"), st.integers(0, 3), st.integers(0, 1))))
def test_the_index_never_holds_more_than_the_engine(steps):
    """A model of an engine's blocks of one prompt: what it holds is found, nothing else."""
    blocks, index = learned()
    blocks.begin(whole=True)
    held = set()
    known = set()
    for step, number, tier in steps:
        if step == "s" and (number == 0 or number - 1 in known):
            blocks.apply(Batch(0.0, (Stored(
                (number,), number - 1 if number else None,
                TOKENS[number * SIZE:(number + 1) * SIZE], SIZE, tier),)))
            held.add((number, tier))
            known.add(number)
        elif step == "r":
            blocks.apply(Batch(0.0, (Removed((number,), tier),)))
            held.discard((number, tier))
        elif step == "m":
            blocks.suspend()
            blocks.move(blocks.replica_id + 1)
    found = index.match(blocks.replica_id, KEYS)
    expected = 0.0
    for number in range(4):
        worths = [1.0 - 0.2 * tier for tier in (0, 1) if (number, tier) in held]
        if not worths:
            break
        expected += max(worths)
    assert abs(found - expected) < 1e-9
    assert index.num_blocks(blocks.replica_id) == len({number for number, _ in held})


def test_long_prompts_have_keys_up_to_a_limit():
    tokens = list(range(40_000))
    assert len(prompt_keys(tokens, 16)) == 1024
    assert prompt_keys(tokens, 1) == prompt_keys(tokens[:2048], 1)
    assert prompt_keys(tokens[:15], 16) == ()
