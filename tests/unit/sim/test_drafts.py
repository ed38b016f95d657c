"""The truth of drafts: draws that depend on no order, at the stated rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.perf.speculation.acceptance import Acceptance
from penstock.sim.drafts import TrueDrafts, segments
from support.strategies import acceptances_of_drafts

RATES = Acceptance((0.8, 0.6, 0.45))


def drafts(outputs: list[int], acceptance: Acceptance = RATES, depth: int = 3,
           seed: int = 0) -> TrueDrafts:
    found = TrueDrafts([acceptance], depth, max(depth, acceptance.depth), seed)
    found.add(np.array(outputs, dtype=np.int64), np.zeros(len(outputs), np.int64))
    return found


def test_drafts_are_accepted_at_the_stated_rates() -> None:
    num = 40_000
    ids, turns = np.zeros(num, np.int64), np.arange(num)
    given = drafts([num])._given(ids, turns, 3)
    for position, rate in enumerate(RATES.rates, 1):
        assert (given > position).mean() == pytest.approx(rate, abs=0.01)
    assert given.mean() == pytest.approx(RATES.tokens_per_turn(3), abs=0.02)
    # Turns are independent of each other, and so are requests.
    accepted = (given > 1).astype(float)
    assert abs(np.corrcoef(accepted[:-1], accepted[1:])[0, 1]) < 0.02
    other = drafts([9] * num)._given(np.arange(num), np.zeros(num, np.int64), 3)
    assert other.mean() == pytest.approx(RATES.tokens_per_turn(3), abs=0.02)


def test_a_turn_at_a_smaller_depth_has_a_part_of_the_same_drafts() -> None:
    found = drafts([200])
    deep = [found.tokens(0, turn, 1, 3) for turn in range(50)]
    assert [found.tokens(0, turn, 1, 1) for turn in range(50)] == [min(num, 2) for num in deep]
    assert [found.tokens(0, turn, 1, 0) for turn in range(50)] == [1] * 50


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), acceptances_of_drafts(),
       st.integers(0, 5), st.integers(0, 3))
def test_turns_are_the_fewest_that_give_the_tokens(
        outputs: list[int], acceptance: Acceptance, done: int, depth: int) -> None:
    found = drafts(outputs, acceptance)
    ids = list(range(len(outputs)))
    for request_id, turns, tokens in zip(ids, found.turns(ids, [done] * len(ids), outputs, depth),
                                         outputs, strict=True):
        assert found.tokens(request_id, done, turns, depth) >= tokens
        assert found.tokens(request_id, done, turns - 1, depth) < tokens
    assert [found.whole_turns(i) for i in ids] == found.turns(
        ids, [0] * len(ids), [num - 1 for num in outputs], 3)


def test_draws_depend_on_no_order_and_no_block() -> None:
    one = drafts([30, 40, 50])
    other = TrueDrafts([RATES], 3, 3, 0)
    for tokens in (30, 40, 50):
        other.add(np.array([tokens]), np.zeros(1, np.int64))
    assert [one.whole_turns(i) for i in range(3)] == [other.whole_turns(i) for i in (0, 1, 2)]
    other.forget_before(2)
    assert other.whole_turns(2) == one.whole_turns(2)
    assert [drafts([300], seed=seed).whole_turns(0) for seed in (1, 1)] * 2 == [
        drafts([300], seed=1).whole_turns(0)] * 4
    assert len({drafts([300], seed=seed).whole_turns(0) for seed in range(9)}) > 3


def test_each_service_class_has_its_own_acceptance() -> None:
    found = TrueDrafts([Acceptance((1.0,)), Acceptance((0.0,))], 1, 1, 0)
    found.add(np.array([21, 21]), np.array([0, 1]))
    assert (found.whole_turns(0), found.whole_turns(1)) == (10, 20)


def test_segments_of_ragged_rows() -> None:
    rows, places = segments(np.array([2, 0, 3]))
    assert rows.tolist() == [0, 0, 2, 2, 2]
    assert places.tolist() == [0, 1, 0, 1, 2]
