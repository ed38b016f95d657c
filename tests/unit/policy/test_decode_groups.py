"""Decode groups against a model that keeps every member's tokens one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.request import Request
from penstock.core.slo import ServiceClass
from penstock.core.units import ceil_div
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.sequence import Sequence


def sequence(number: int, prompt_tokens: int, generated: int = 1) -> Sequence:
    request = Request(number, 0.0, prompt_tokens, 1000, ServiceClass("any"))
    made = Sequence(request, number, 0.0, 0)
    made.generated = generated
    return made


ACTIONS = st.lists(st.one_of(
    st.tuples(st.just("join"), st.integers(1, 40)),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(st.just("advance"), st.integers(1, 30))), max_size=25)


@given(st.sampled_from((1, 3, 4, 16)), ACTIONS, st.integers(0, 40))
def test_counters_equal_brute_force(block_tokens: int, actions: list[tuple[str, int]],
                                    ahead: int) -> None:
    group = DecodeGroup(block_tokens, None, strict=False)
    members: list[Sequence] = []
    stored: dict[int, int] = {}  # tokens in the KV cache, counted one by one
    made = 0
    for action, value in actions:
        if action == "join":
            members.append(sequence(made, value))
            group.join(members[-1])
            stored[made] = value
            made += 1
        elif action == "advance":
            group.advance(value)
            for member in members:
                stored[member.request_id] += value
        elif members:
            gone = members.pop(value % len(members))
            before = gone.generated
            group.leave(gone)
            assert gone.generated - before == stored[gone.request_id] - gone.request.prompt_tokens
            del stored[gone.request_id]
    assert group.ids() == tuple(member.request_id for member in members)
    assert group.context_tokens == sum(tokens + 1 for tokens in stored.values())
    assert group.generated_tokens == sum(  # the first token came before its member joined
        stored[member.request_id] + 1 - member.request.prompt_tokens for member in members)
    for member in members:
        assert group.stored_tokens(member) == stored[member.request_id]
    blocks = [ceil_div(tokens + ahead, block_tokens) - ceil_div(tokens, block_tokens)
              for tokens in stored.values()]
    if ahead:
        assert group.growth(ahead) == sum(blocks)
    assert sum(map(group.growth_of, members)) == group.growth(1)


def test_reserved_members_do_not_grow() -> None:
    group = DecodeGroup(4, None, strict=False)
    member = sequence(0, 8)
    member.reserved_blocks = 100
    group.join(member)
    assert group.growth(50) == group.growth_of(member) == 0
    group.leave(member)
    assert group.growth(50) == 0


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5)), min_size=1, max_size=12),
       st.data())
def test_tightest_due_time_is_the_minimum(watched: list[tuple[float, int]],
                                          data: st.DataObject) -> None:
    group = DecodeGroup(16, 0.5, strict=False)
    due: dict[int, float] = {}
    for number, (due_s, turns) in enumerate(watched):
        member = sequence(number, 10)
        group.join(member)
        group.watch(member, due_s)
        group.advance(turns)
        due = {i: s + 0.5 * turns for i, s in {**due, number: due_s}.items()}
    for number in data.draw(st.lists(st.sampled_from(sorted(due)), unique=True)):
        group.leave(group.members[number])
        del due[number]
    if due:
        assert group.next_due_s() == pytest.approx(min(due.values()))
        tightest_s = due.pop(group.give_up_tightest().request_id)
        assert all(tightest_s <= due_s + 1e-9 for due_s in due.values())
    assert (group.next_due_s() is None) == (not due)


def test_pace_moves_with_the_turns() -> None:
    group = DecodeGroup(16, 0.25, strict=False)
    group.join(member := sequence(0, 5))
    group.watch(member, 3.0)
    group.advance(4)
    assert group.next_due_s() == pytest.approx(4.0)


def test_a_rejoined_member_is_held_to_its_new_due_time_only() -> None:
    group = DecodeGroup(16, 1.0, strict=False)
    group.join(member := sequence(0, 5))
    group.watch(member, 1.0)
    group.advance(1)
    group.leave(member)
    group.join(member)
    assert group.next_due_s() is None
    group.watch(member, 9.0)
    assert group.next_due_s() == 9.0


def test_a_member_of_another_group_does_not_bind() -> None:
    home, bench = DecodeGroup(16, 1.0, strict=False), DecodeGroup(16, 1.0, strict=False)
    home.join(member := sequence(0, 5))
    home.watch(member, 1.0)
    home.leave(member)
    bench.join(member)  # at turn 0 there, as it had joined at turn 0 here
    assert home.next_due_s() is None


def test_strict_group_is_due_one_gap_after_its_last_turn() -> None:
    group = DecodeGroup(16, 0.03, strict=True)
    assert group.next_due_s() is None
    group.join(sequence(0, 5))
    group.last_turn_s = 2.0
    assert group.next_due_s() == pytest.approx(2.03)
