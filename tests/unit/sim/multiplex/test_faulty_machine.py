"""A machine on which things go wrong, fault by fault."""

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Queued
from penstock.sim.multiplex.machine import Took
from support.faulty_machine import Faults, FaultyMachine
from support.multiplexing_cases import TableMachine

MODELS = [HostedModel("a", 10, BatchTime(1.0, 1.0)), HostedModel("b", 10, BatchTime(2.0, 1.0))]


def machine(**faults: object) -> FaultyMachine:
    return FaultyMachine(TableMachine(MODELS, [4.0, 6.0], after_s=0.5),
                         Faults(**faults),  # type: ignore[arg-type]
                         np.random.default_rng(0))


def batch(model: int, num: int) -> Batch:
    return Batch(model, tuple(Queued(place, model, 0.0) for place in range(num)))


def test_without_faults_it_is_the_machine_itself() -> None:
    plain = machine()
    assert plain.load(0, 1, 0.0) == Took(6.0)
    assert plain.prefetch(0, 0.0) == Took(2.0)
    assert plain.batch(0, batch(1, 3), 0.0) == Took(5.0, after_s=0.5)


def test_loads_fail_by_number_or_by_chance() -> None:
    named = machine(failing={0, 2})
    assert [named.load(0, 0, 0.0).failed for _ in range(4)] == [True, False, True, False]
    often = machine(load_failure=0.3)
    failed = sum(often.load(0, 0, 0.0).failed for _ in range(1000))
    assert 250 < failed < 350
    assert all(machine(load_failure=1.0).load(0, 0, 0.0).failed for _ in range(3))


def test_a_load_that_hangs_takes_that_much_longer() -> None:
    assert machine(hang=1.0, hang_s=100.0).load(0, 0, 0.0) == Took(104.0)
    sometimes = machine(hang=0.5)
    assert {sometimes.load(0, 0, 0.0).seconds for _ in range(20)} == {4.0, 64.0}


def test_the_rate_of_one_fault_does_not_move_another() -> None:
    one, other = machine(hang=0.4), machine(hang=0.4, load_failure=0.9)
    for _ in range(50):
        assert one.load(0, 0, 0.0).seconds == other.load(0, 0, 0.0).seconds


def test_a_batch_above_what_memory_allows_fails_half_way() -> None:
    small = machine(largest_batch=[2, 0])
    assert small.batch(0, batch(0, 2), 0.0) == Took(3.0, after_s=0.5)
    assert small.batch(0, batch(0, 3), 0.0) == Took(2.0, failed=True)
    assert small.batch(0, batch(1, 1), 0.0).failed


def test_beliefs_may_be_off() -> None:
    slow = machine(load_share=1.3, batch_share=0.5)
    assert slow.load(0, 0, 0.0).seconds == pytest.approx(5.2)
    assert slow.batch(0, batch(0, 1), 0.0).seconds == 1.0


@pytest.mark.parametrize("wrong", [{"hang": 1.5}, {"load_failure": -0.1}, {"hang_s": -1.0},
                                   {"load_share": float("inf")}])
def test_faults_that_mean_nothing_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Faults(**wrong)  # type: ignore[arg-type]
