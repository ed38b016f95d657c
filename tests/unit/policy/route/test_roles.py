"""Where requests of a fleet with roles begin and go on."""

from penstock.policy.route.roles import BOTH, DECODE, PREFILL, Roles

ALL = [0, 1, 2, 3]


def roles(least=0):
    return Roles([PREFILL, DECODE, BOTH, PREFILL], [least, 0, 0, least])


def test_a_long_prompt_begins_where_prompts_are_computed():
    assert roles().first(500, ALL) == [0, 2, 3]
    assert roles().second(ALL) == [1]
    assert roles().splits(0, ALL)
    assert not roles().splits(2, ALL)
    assert not roles().splits(1, ALL)


def test_a_stated_length_keeps_short_prompts_on_whole_replicas():
    assert roles(500).first(499, ALL) == [2]
    assert roles(500).first(500, ALL) == [0, 3]


def test_a_short_prompt_without_whole_replicas_stays_where_it_is_decoded():
    assert roles(500).first(499, [0, 1, 3]) == [1]
    assert roles(500).first(500, [0, 1, 3]) == [0, 3]


def test_replicas_that_prefill_may_begin_at_other_lengths():
    found = Roles([PREFILL, DECODE, BOTH, PREFILL], [500, 0, 0, 4000])
    assert found.first(499, ALL) == [2]
    assert found.first(500, ALL) == [0]
    assert found.first(4000, ALL) == [0, 3]
    assert found.first(500, [1, 2, 3]) == [2]


def test_the_loss_of_a_role_leaves_the_other_replicas():
    assert roles().first(500, [1, 2]) == [1, 2]  # no prefill
    assert roles().first(500, [0, 2, 3]) == [2]  # no decode, but one that does both
    assert roles().first(500, [0, 3]) == [0, 3]
    assert not roles().splits(0, [0, 3])
    assert roles(500).first(10, [0]) == [0]
    assert roles(500).first(900, [1, 2]) == [1, 2]
    assert roles(500).first(900, [0, 2, 3]) == [2]
    assert roles().first(500, [2]) == [2]
