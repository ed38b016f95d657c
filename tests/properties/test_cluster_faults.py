"""Random faults of controllers and of their cluster, in simulated time."""

import pytest

from support.cluster_schedule import KINDS, World, extra_changes
from support.long_params import with_long


@pytest.mark.parametrize("seed", with_long(range(14), range(5, 14)))
def test_the_desired_state_is_reached_and_nobody_acts_twice(seed, tmp_path):
    world = World(seed)
    assert world.run(tmp_path) == []
    assert world.num_double == 0
    assert world.num_extra <= sum(2 for one in world.moved if one.is_late)
    assert set(world.faults) <= set(KINDS)
    assert world.moved


def test_the_same_seed_is_the_same_schedule(tmp_path):
    first, second = World(2), World(2)
    first.run(tmp_path / "first")
    second.run(tmp_path / "second")
    assert first.moved == second.moved
    assert first.faults == second.faults


@pytest.mark.parametrize(("wanted", "found", "number"), [
    ([2, 4, 1], [2, 4, 1], 0), ([2, 4, 1], [2, 1], 0), ([2, 4], [2, 4, 2, 4], 2),
    ([2, 4], [4, 2], 1), ([2], [], 0), ([2, 2], [2, 2], 0)])
def test_changes_are_counted_that_nobody_wanted(wanted, found, number):
    assert extra_changes(wanted, found) == number
