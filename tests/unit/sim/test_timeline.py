"""Runs of steps as closed forms."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.sim.inbox import is_too_long, steps_until
from penstock.sim.timeline import StepSamples, TurnLog

RUNS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 10**9), st.integers(1, 10**10),
                          st.integers(0, 10**6)), min_size=1, max_size=8)


def ends_ps(num: int, start: int, duration: int, growth: int) -> list[int]:
    ends = []
    for step in range(num):
        start += duration + step * growth
        ends.append(start)
    return ends


def logged(runs: list[tuple[int, int, int, int]]) -> tuple[TurnLog, list[int]]:
    log, ends, clock = TurnLog(), [], 0
    for num, pause, duration, growth in runs:
        log.extend((0,), num, clock + pause, duration, growth)
        ends += ends_ps(num, clock + pause, duration, growth)
        clock = ends[-1]
    return log, ends


@given(RUNS, st.data())
def test_ends_equal_step_by_step_sums(runs: list[tuple[int, int, int, int]],
                                      data: st.DataObject) -> None:
    log, ends = logged(runs)
    assert log.turns == [len(ends)]
    first = data.draw(st.integers(0, len(ends) - 1))
    base, seconds = log.ends_s(0, first)
    assert base <= first
    assert len(seconds) == len(ends) - base
    assert np.array_equal(seconds, np.array(ends[base:]) / 1e12)


@given(RUNS, st.data())
def test_forgetting_keeps_what_is_asked_for_later(runs: list[tuple[int, int, int, int]],
                                                  data: st.DataObject) -> None:
    log, ends = logged(runs)
    turn = data.draw(st.integers(0, len(ends)))
    log.forget_before([turn])
    base, seconds = log.ends_s(0, turn)
    assert base <= turn
    assert seconds[turn - base:].tolist() == [end / 1e12 for end in ends[turn:]]
    log.extend((0,), 3, ends[-1], 7, 0)
    base, seconds = log.ends_s(0, turn)
    assert len(seconds) - (turn - base) == len(ends) + 3 - turn


def test_an_empty_log_has_no_turns() -> None:
    log = TurnLog()
    log.open(0)
    base, seconds = log.ends_s(0, 0)
    assert base == 0
    assert len(seconds) == 0


GROUPS = st.sampled_from([(0,), (1,), (0, 1), (0, 2), (2, 3, 70)])


@given(st.lists(st.tuples(GROUPS, st.integers(1, 5)), min_size=1, max_size=12), st.data())
def test_each_group_has_the_turns_of_its_own_runs(runs: list[tuple[tuple[int, ...], int]],
                                                  data: st.DataObject) -> None:
    log, clock = TurnLog(), 0
    ends: list[list[float]] = [[] for _ in range(71)]
    for number, (groups, num) in enumerate(runs):
        log.extend(groups, num, clock, 10, 3)
        for group in groups:
            ends[group] += [end / 1e12 for end in ends_ps(num, clock, 10, 3)]
        clock = ends_ps(num, clock, 10, 3)[-1]
        if number == len(runs) // 2:
            turns = [data.draw(st.integers(0, num)) for num in log.turns]
            log.forget_before(turns)
    turns += [0] * (len(log.turns) - len(turns))
    assert log.turns == [len(times) for times in ends[:len(log.turns)]]
    for group, turn in enumerate(turns):
        base, seconds = log.ends_s(group, turn)
        assert base <= turn
        assert seconds[turn - base:].tolist() == ends[group][turn:]
        base, seconds = log.ends_s(group, turn, 2)
        assert seconds[turn - base:turn - base + 2].tolist() == ends[group][turn:turn + 2]


def test_times_of_a_long_run_fit_into_64_bits() -> None:
    assert not is_too_long(100_000, 10**11, 10**6)
    assert is_too_long(100_000, 10**14, 0)
    assert is_too_long(1 << 60, 10**10, 10**6)


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.integers(0, 100), st.integers(1, 200))
def test_steps_until_is_the_fewest(gap: int, duration: int, growth: int, most: int) -> None:
    ends = ends_ps(most, 0, duration, growth)
    enough = [number for number, end in enumerate(ends, 1) if end >= gap]
    assert steps_until(gap, duration, growth, most) == (enough[0] if enough else most)


def test_samples_thin_out_when_there_are_many() -> None:
    samples = StepSamples(period_ps=10)
    first = StepSamples.WHOLE
    for step in range(first + 100):
        assert samples.every_step or step > first
        if samples.due(step):
            samples.add(step, 1, 0, 1, 0, 0)
    assert not samples.every_step
    later = samples.columns()[first:, 0]
    assert np.all(np.diff(later) >= 10)
    assert len(later) == 10
    assert samples.columns().shape[1] == StepSamples.COLUMNS
