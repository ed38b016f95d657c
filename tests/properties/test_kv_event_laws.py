"""Laws of following KV events, whatever is lost: the index never claims a block that the engine
did not hold at the latest message; a replay that answers makes up for every loss."""

import asyncio
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.engines.kv_events.decode import Cleared, Removed, Stored, written
from penstock.engines.kv_events.follow import Follower, Message, Source
from penstock.engines.kv_events.keys import prompt_keys
from penstock.engines.kv_events.learned import LearnedBlocks
from penstock.policy.route.live_index import LiveIndex

SIZE, NUM_BLOCKS = 2, 3
PROMPTS = [tuple(range(first, first + SIZE * NUM_BLOCKS)) for first in (0, 100)]
KEYS = [prompt_keys(one, SIZE) for one in PROMPTS]


class Engine:
    """A cache of two prompts' blocks that publishes every change, and may be started anew."""

    def __init__(self):
        self.starts, self.clock = count(), count()
        self.start()

    def start(self):
        self.salt = 1000 * next(self.starts)  # hashes of another process
        self.held, self.log = set(), []

    def do(self, kind, prompt, block):
        """Change the cache, and return the message that tells of it."""
        name = self.salt + 10 * prompt + block + 1
        if kind == "clear":
            self.held.clear()
            event = Cleared()
        elif kind == "store" and (not block or (prompt, block - 1) in self.held):
            self.held.add((prompt, block))
            tokens = PROMPTS[prompt][block * SIZE:(block + 1) * SIZE]
            event = Stored((name,), name - 1 if block else None, tokens, SIZE)
        else:
            self.held.discard((prompt, block))
            event = Removed((name,))
        self.log.append(written(next(self.clock), [event]))
        return Message(len(self.log) - 1, self.log[-1])

    def matches(self):
        found = []
        for prompt in range(len(PROMPTS)):
            held = 0
            while (prompt, held) in self.held:
                held += 1
            found.append(held)
        return found


class FollowerOf(Follower):
    """A follower whose replay is the engine's own log, of which only the end may be left."""

    def __init__(self, engine, index, replay, kept):
        super().__init__(Source("events", replay), LearnedBlocks(index, 0), None, lambda: 0.0)
        self.engine, self.kept = engine, kept

    async def _replayed(self, first):
        log = self.engine.log
        start = max(first, len(log) - self.kept)
        return [Message(seq, log[seq]) for seq in range(start, len(log))]


STEP = st.tuples(st.sampled_from(["store", "store", "store", "remove", "clear", "start", "cut"]),
                 st.integers(0, 1), st.integers(0, NUM_BLOCKS - 1), st.booleans())


def followed(steps, replay, kept, check):
    """Run steps of an engine, of which some messages are lost, and check after every message that
    arrives."""
    async def run():
        engine, index = Engine(), LiveIndex()
        follower = FollowerOf(engine, index, replay, kept)
        for kind, prompt, block, is_lost in steps:
            if kind == "start":
                engine.start()
                follower.cut_off()  # its connection breaks
                assert not index.follows(0)
            elif kind == "cut":
                follower.cut_off()
                await follower._connected()
            else:
                message = engine.do(kind, prompt, block)
                if not is_lost:
                    await follower.heard((b"", message.seq.to_bytes(8, "big"), message.payload))
                    check(engine, index, follower)

    asyncio.run(run())


def found(index):
    return [int(index.match(0, keys)) for keys in KEYS]


@given(st.lists(STEP, max_size=25), st.sampled_from([None, "replay"]), st.integers(0, 4))
@settings(max_examples=300)
def test_no_block_is_claimed_that_the_engine_does_not_hold(steps, replay, kept):
    def check(engine, index, follower):
        assert all(one <= truth for one, truth in zip(found(index), engine.matches(), strict=True))
        assert index.num_blocks(0) <= len(engine.held)
        if index.is_whole(0):
            assert found(index) == engine.matches()

    followed(steps, replay, kept, check)


@given(st.lists(STEP, max_size=25))
@settings(max_examples=200)
def test_a_replay_of_everything_makes_up_for_every_loss(steps):
    def check(engine, index, follower):
        assert index.is_whole(0)
        assert found(index) == engine.matches()
        assert follower.counts.drops == 0

    followed(steps, "replay", 10_000, check)
