"""The oracle against counting tokens one by one."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.step import Chunk, StepFeatures, StepPlan
from penstock.sim.oracle import Oracle
from support.scaled_examples import unit_examples

NONE = StepFeatures(0, 0.0, 0, 0)


def prompt(step: int, request_id: int, group: int) -> StepPlan:
    return StepPlan(step, (Chunk(request_id, 5, 0, True),), (), NONE,
                    joined=((request_id, group),))


def decode(step: int, *groups: int, joined: tuple[tuple[int, int], ...] = (),
           left: tuple[int, ...] = ()) -> StepPlan:
    return StepPlan(step, (), (), NONE, groups, joined, left)


def test_one_token_ends_with_the_prompt() -> None:
    oracle = Oracle({7: 1})
    plan = prompt(0, 7, 0)
    assert oracle.begin(plan) == 0
    assert oracle.settle(plan, 1) == (7,)


def test_counts_down_to_the_next_ending() -> None:
    oracle = Oracle({1: 10, 2: 4})
    for number, request_id in enumerate((1, 2)):
        oracle.begin(plan := prompt(number, request_id, 0))
        oracle.settle(plan, 1)
    # Neither decoded yet: no plan ran the group.
    assert oracle.begin(decode(2, 0)) == 3
    assert oracle.settle(decode(2, 0), 3) == (2,)
    assert oracle.begin(decode(3, 0)) == 6
    assert oracle.settle(decode(3, 0), 6) == (1,)
    assert oracle.begin(decode(4, 0)) == 0


def test_the_nearest_ending_of_all_running_groups_counts() -> None:
    oracle = Oracle({1: 10, 2: 4})
    oracle.settle(prompt(0, 1, 0), 1)
    oracle.settle(prompt(1, 2, 1), 1)
    assert oracle.begin(decode(2, 0)) == 9
    assert oracle.begin(decode(2, 0, 1)) == 3


def test_a_bench_stops_the_count() -> None:
    oracle = Oracle({1: 10})
    oracle.settle(prompt(0, 1, 0), 1)
    oracle.settle(decode(1, 0), 4)
    oracle.begin(away := decode(2, joined=((1, 3),), left=(1,)))
    assert oracle.settle(away, 1) == ()
    oracle.begin(back := decode(3, 0, joined=((1, 0),), left=(1,)))
    assert oracle.begin(decode(3, 0)) == 5
    assert oracle.settle(back, 5) == (1,)


def test_a_preempted_request_goes_on_where_it_was() -> None:
    oracle = Oracle({1: 10})
    oracle.settle(prompt(0, 1, 0), 1)
    oracle.settle(decode(1, 0), 4)
    oracle.begin(decode(2, left=(1,)))
    oracle.begin(again := prompt(3, 1, 0))
    assert oracle.settle(again, 1) == ()  # its sixth token
    assert oracle.begin(decode(4, 0)) == 4


def test_the_forgotten_never_end() -> None:
    oracle = Oracle({1: 3, 2: 5})
    oracle.settle(prompt(0, 1, 0), 1)
    oracle.settle(prompt(1, 2, 0), 1)
    oracle.forget(1)
    assert oracle.begin(decode(2, 0)) == 4
    assert oracle.settle(decode(2, 0), 4) == (2,)


@unit_examples(200)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), min_size=1, max_size=8),
       st.lists(st.tuples(st.sets(st.integers(0, 2), min_size=1), st.integers(1, 9)), max_size=20))
def test_endings_equal_brute_force(rows: list[tuple[int, int]],
                                   runs: list[tuple[set[int], int]]) -> None:
    oracle = Oracle(dict(enumerate(output for output, _ in rows)))
    left = {}
    for number, (output, group) in enumerate(rows):
        oracle.begin(plan := prompt(number, number, group))
        assert oracle.settle(plan, 1) == ((number,) if output == 1 else ())
        if output > 1:
            left[number] = output - 1
    for groups, most in runs:
        members = [i for i in left if rows[i][1] in groups]
        used = {rows[i][1] for i in members}
        if not members:
            continue
        plan = decode(0, *sorted(used))
        assert oracle.begin(plan) == min(left[i] for i in members)
        steps = min(most, oracle.begin(plan))
        expected = {i for i in members if left[i] == steps}
        assert set(oracle.settle(plan, steps)) == expected
        left = {i: n - steps * (i in members) for i, n in left.items() if i not in expected}


CHANGES = st.tuples(st.sampled_from(["run", "run", "move", "preempt", "forget"]),
                    st.integers(0, 7), st.integers(0, 1), st.integers(1, 9))


@unit_examples(300)
@given(st.lists(st.tuples(st.integers(2, 12), st.integers(0, 1)), min_size=4, max_size=8),
       st.lists(CHANGES, min_size=4, max_size=40))
def test_members_that_go_and_come_back_end_on_time(rows: list[tuple[int, int]],
                                                   changes: list[tuple[str, int, int, int]]
                                                   ) -> None:
    oracle = Oracle(dict(enumerate(output for output, _ in rows)))
    left = {}
    group_of = {}  # of those that decode
    for number, (output, group) in enumerate(rows):
        assert oracle.settle(prompt(number, number, group), 1) == ()
        left[number], group_of[number] = output - 1, group
    for change, number, group, most in changes:
        if change == "run":
            members = [i for i, own in group_of.items() if own == group]
            if not members:
                continue
            plan = decode(0, group)
            assert oracle.begin(plan) == min(left[i] for i in members)
            steps = min(most, min(left[i] for i in members))
            ended = {i for i in members if left[i] == steps}
            assert set(oracle.settle(plan, steps)) == ended
            left.update({i: left[i] - steps for i in members})
            for i in ended:
                del left[i], group_of[i]
        elif number not in left:
            continue
        elif change == "forget":
            oracle.forget(number)
            del left[number]
            group_of.pop(number, None)
        elif number not in group_of:  # its prompt is computed once more
            left[number] -= 1
            ends = () if left[number] else (number,)
            assert oracle.settle(prompt(0, number, group), 1) == ends
            group_of[number] = group
            if ends:
                del left[number], group_of[number]
        elif change == "move":
            oracle.begin(decode(0, joined=((number, group),), left=(number,)))
            group_of[number] = group
        else:
            oracle.begin(decode(0, left=(number,)))
            del group_of[number]
