"""The way up to out of memory, and back."""

import pytest

from penstock.perf.profiles.points import Measurement, Outcome
from penstock.perf.profiles.summary import PointSummary, summary
from penstock.profile.sweep import sweep
from support.scripted_profiling import WHOLE


class Memory:
    """Batches up to ``most`` fit; ``broken`` ones fail otherwise."""

    def __init__(self, most: int, broken: tuple[int, ...] = (),
                 outcome: Outcome = "out_of_memory") -> None:
        self.most, self.broken, self.outcome = most, broken, outcome
        self.tried: list[int] = []

    def __call__(self, size: int) -> PointSummary:
        self.tried.append(size)
        outcome: Outcome = "failed" if size in self.broken else \
            "ok" if size <= self.most else self.outcome
        return summary([Measurement("batch", WHOLE, size, 8, 8, outcome=outcome,
                                    seconds=1.0 if outcome == "ok" else None)])


def test_all_fit() -> None:
    memory = Memory(100)
    assert sweep(memory, 20) == (20, None)
    assert memory.tried == [1, 2, 4, 8, 16, 20]


@pytest.mark.parametrize("outcome", ["out_of_memory", "killed"])
def test_the_edge_is_found_between_the_last_that_fits_and_the_first_that_does_not(
        outcome: Outcome) -> None:
    memory = Memory(11, outcome=outcome)
    assert sweep(memory, 1000) == (11, 12)
    assert memory.tried == [1, 2, 4, 8, 16, 12, 10, 11]


def test_a_large_edge_is_found_to_a_twentieth() -> None:
    memory = Memory(777)
    fits, beyond = sweep(memory, 4096)
    assert fits <= 777 < (beyond or 0) <= fits * 1.06


def test_nothing_fits() -> None:
    memory = Memory(0)
    assert sweep(memory, 64) == (0, 1)
    assert memory.tried == [1]


def test_other_failures_do_not_end_it() -> None:
    assert sweep(Memory(50, broken=(4,)), 32) == (32, None)


def test_sizes_of_ones_own() -> None:
    memory = Memory(5)
    assert sweep(memory, 100, (1, 3, 7, 9)) == (5, 6)
    assert memory.tried == [1, 3, 7, 5, 6]
    beyond = Memory(50)
    assert sweep(beyond, 8, (1, 3, 70)) == (3, None)
    assert beyond.tried == [1, 3]
