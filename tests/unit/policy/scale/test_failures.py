"""The memory of sizes that failed under a steady load."""

from penstock.policy.scale.failures import FORGET_S, Failures, Steady


def remembered(*loads: Steady) -> Failures:
    memory = Failures()
    for load in loads:
        memory.add(0.0, load)
    return memory


def test_nothing_is_known_at_first() -> None:
    assert Failures().largest(0.0, 10.0, 5.0) == 0.0


def test_the_largest_size_that_failed_at_the_rate_or_a_lower_one_counts() -> None:
    memory = remembered(Steady(8.0, 2.0, 5.0), Steady(10.0, 3.0, 5.0), Steady(30.0, 9.0, 5.0))
    assert memory.largest(60.0, 10.0, 5.0) == 3.0
    assert memory.largest(60.0, 8.0, 5.0) == 2.0
    assert memory.largest(60.0, 7.0, 5.0) == 0.0


def test_a_rate_that_chance_makes_lower_is_the_same_rate() -> None:
    assert remembered(Steady(10.0, 3.0, 5.0)).largest(60.0, 9.6, 5.0) == 3.0


def test_requests_of_other_work_tell_nothing() -> None:
    memory = remembered(Steady(10.0, 3.0, 5.0))
    assert memory.largest(60.0, 10.0, 5.5) == 3.0
    assert memory.largest(60.0, 10.0, 6.0) == 0.0
    assert memory.largest(60.0, 10.0, 4.0) == 0.0


def test_a_failure_is_forgotten_after_a_day() -> None:
    memory = remembered(Steady(10.0, 3.0, 5.0))
    assert memory.largest(FORGET_S, 10.0, 5.0) == 3.0
    assert memory.largest(FORGET_S + 1.0, 10.0, 5.0) == 0.0
