"""Batches of models that take turns, from step times and lengths."""

import numpy as np
import pytest

from penstock.perf.evidence import Evidence
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.multiplex.beliefs import LoadTable
from penstock.policy.multiplex.values import Batch, BatchTime, Queued
from penstock.sim.multiplex.machine import Variation
from penstock.sim.multiplex.stepped import BatchCost, Lengths, SteppedMachine

STEADY = Variation(None)
# 1 ms per prompt token, 10 ms per step, 1 ms per sequence in it.
STEPS = LinearStepTime(0.010, 0.001, 0.0, 0.001, 0.0, Evidence("test", 0.0, 0.0))


def batch(model: int, *ids: int) -> Batch:
    return Batch(model, tuple(Queued(one, model, 0.0) for one in ids))


def machine() -> SteppedMachine:
    lengths = Lengths([100, 200, 100, 100], [10, 20, 10, 1])
    costs = [[BatchCost(STEPS), BatchCost(STEPS)]] * 4
    return SteppedMachine(LoadTable([5.0, 6.0]), costs, lengths, STEADY)


def test_a_static_batch_goes_on_until_its_longest_answer() -> None:
    one = machine()
    assert one.batch(0, batch(0, 0), 0.0).seconds == pytest.approx(0.110 + 10 * 0.011)
    assert one.batch(0, batch(0, 0, 1), 0.0).seconds == pytest.approx(0.310 + 20 * 0.012)
    assert one.batch(3, batch(0, 2), 0.0).seconds == pytest.approx(0.110 + 10 * 0.011)
    assert one.device_of == {0: 0, 1: 0, 2: 3}


def test_a_stated_line_is_what_batches_take() -> None:
    one = SteppedMachine(LoadTable([5.0]), [[BatchCost(STEPS, BatchTime(2.0, 0.5))]],
                         Lengths([1] * 3, [1] * 3), STEADY)
    assert one.batch(0, batch(0, 0, 1), 0.0).seconds == 3.0


def test_a_load_waits_for_what_is_being_read_ahead() -> None:
    class Slow(LoadTable):
        def prefetch_s(self, model: int) -> float:
            return 4.0

    one = SteppedMachine(Slow([5.0]), [[BatchCost(STEPS)]], Lengths([], []), STEADY)
    assert one.prefetch(0, 10.0).seconds == 4.0
    assert one.load(0, 0, 11.0).seconds == pytest.approx(3.0 + 5.0)
    assert one.load(0, 0, 11.0).seconds == 5.0


def test_batches_vary() -> None:
    rng = np.random.default_rng(0)
    one = SteppedMachine(LoadTable([5.0]), [[BatchCost(STEPS)]], Lengths([1] * 3000, [1] * 3000),
                         Variation(rng, 0.2))
    seconds = {one.batch(0, batch(0, place), 0.0).seconds for place in range(2500)}
    assert len(seconds) > 2000
