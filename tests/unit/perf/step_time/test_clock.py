"""Clocks of long runs keep few durations, and give the same ones."""

import tracemalloc

from penstock.perf.evidence import Evidence
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.linear import LinearStepTime

EVIDENCE = Evidence("test", 0.0, 0.0)


def test_a_clock_does_not_keep_a_duration_for_every_kind_of_step():
    clock = StepClock(LinearStepTime(0.01, 1e-5, 0.0, 1e-6, 1e-9, EVIDENCE))

    def durations(num):
        return [clock.base_ps(tokens, 0.0, 1) for tokens in range(num)]

    first = durations(100)
    durations(50_000)
    tracemalloc.start()
    try:
        durations(200_000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert durations(100) == first
    assert held < 5_000_000
