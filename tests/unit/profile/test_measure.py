"""Repeats until settled, within a budget, and what becomes of failures."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from penstock.core.errors import InputError
from penstock.engines.emulated.profiled import VirtualClock
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.points import Measurement, ModelConfiguration
from penstock.perf.profiling.protocol import Room
from penstock.profile.measure import Effort, OutOfTimeError
from support.scripted_profiling import WHOLE, ScriptedEngine, point, profiler, record

ROOM = Room(8, 100, 800)


def noisy(sigma: float, seed: int = 1) -> Callable[[int, int], float]:
    rng = Random(seed)
    return lambda _batch, _run: rng.lognormvariate(0.0, sigma)


def test_what_is_steady_needs_the_least_number_of_repeats(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    found = profiler(tmp_path, engine).measure(point(), ROOM)
    assert found.num_repeats == 5
    assert len(engine.runs) == 5 + 2
    assert found.seconds is not None
    assert found.seconds.median == pytest.approx(0.01)


def test_what_is_noisy_is_repeated_until_it_is_as_sure(tmp_path: Path) -> None:
    numbers = []
    for place, sigma in enumerate((0.01, 0.1, 0.2)):
        engine = ScriptedEngine(VirtualClock(), seconds=noisy(sigma))
        found = profiler(tmp_path / str(place), engine, Effort(max_repeats=1000)).measure(
            point(), ROOM)
        assert found.seconds is not None
        assert found.seconds.relative_half_width <= 0.05
        numbers.append(found.num_repeats)
    assert numbers[0] < numbers[1] < numbers[2] < 1000


def test_it_gives_up_at_the_most_repeats(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), seconds=noisy(1.0))
    assert profiler(tmp_path, engine, Effort(max_repeats=12)).measure(
        point(), ROOM).num_repeats == 12


def test_warm_ups_are_kept_and_not_counted(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), seconds=lambda _batch, run: 9.0 if run <= 2 else 1.0)
    found = profiler(tmp_path, engine).measure(point(), ROOM)
    assert found.seconds is not None
    assert found.seconds.high == 1.0
    rows = read_profile(tmp_path).measurements
    assert [one.seconds for one in rows if one.warm_up] == [9.0, 9.0]
    assert [one.repeat for one in rows if not one.warm_up] == [0, 1, 2, 3, 4]


def test_rows_hold_what_was_measured(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    profiler(tmp_path, engine).measure(point(4, 8, 3), ROOM)
    row = read_profile(tmp_path).counted[0]
    assert (row.kind, row.batch, row.prompt_tokens, row.output_tokens) == ("batch", 4, 8, 3)
    assert row.configuration == WHOLE
    assert row.seconds == pytest.approx(0.04)
    assert row.first_token_s == pytest.approx(0.036)
    assert row.decode_step_s == pytest.approx(0.002)
    assert row.num_prefill_steps == 1
    assert (row.memory_loaded_bytes, row.memory_bytes) == (8000.0, 8000.0)
    assert (row.memory_peak_bytes, row.kv_tokens) == (2000.0, 64)
    assert row.cpu_s == pytest.approx(0.04)
    assert row.started_s is not None
    assert row.started_s > 1.7e9


def test_a_point_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    first = ScriptedEngine(VirtualClock())
    profiler(tmp_path, first).measure(point(), ROOM)
    second = ScriptedEngine(VirtualClock())
    again = profiler(tmp_path, second)
    assert again.measure(point(), ROOM).num_repeats == 5
    assert second.runs == []
    again.measure(point(2), ROOM)
    assert set(second.runs) == {2}


def test_more_is_measured_when_more_is_asked(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    profiler(tmp_path, engine).measure(point(), ROOM)
    wanted = Effort(min_repeats=8)
    assert profiler(tmp_path, engine, wanted).measure(point(), ROOM).num_repeats == 8
    rows = read_profile(tmp_path).counted
    assert [one.repeat for one in rows] == list(range(8))
    assert {one.session for one in rows} == {0, 1}


def test_want_of_memory_is_a_row_and_the_engine_is_loaded_anew(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), most=4)
    measuring = profiler(tmp_path, engine)
    measuring.measure(point(4), ROOM)
    failed = measuring.measure(point(8), ROOM)
    assert failed.outcome == "out_of_memory"
    assert failed.example.reason == "no room for 8"
    assert failed.seconds is None
    assert measuring.measure(point(2), ROOM).outcome == "ok"
    assert len(engine.loads) == 2
    assert profiler(tmp_path, engine).measure(point(8), ROOM).outcome == "out_of_memory"
    assert len(engine.loads) == 2


def test_a_model_that_does_not_fit_is_tried_once(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), most_layers=4)
    measuring = profiler(tmp_path, engine)
    for batch in (1, 2, 4):
        assert measuring.measure(point(batch), ROOM).outcome == "out_of_memory"
    assert len(engine.loads) == 1
    small = replace(WHOLE, layers_by_stage=(2,))
    assert measuring.measure(point(configuration=small), ROOM).outcome == "ok"


def test_a_fault_of_the_engine_is_a_row(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())

    def fault(batch: int) -> None:
        if batch == 2:
            raise RuntimeError("kernel\nlaunch failed")

    engine.on_run = fault
    measuring = profiler(tmp_path, engine)
    assert measuring.measure(point(1), ROOM).outcome == "ok"
    found = measuring.measure(point(2), ROOM)
    assert found.outcome == "failed"
    assert found.example.reason == "RuntimeError: kernel launch failed"
    assert measuring.measure(point(4), ROOM).outcome == "ok"


def test_what_the_user_did_wrong_is_no_row(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())

    def refuse(_batch: int) -> None:
        raise InputError("no such thing")

    engine.on_run = refuse
    with pytest.raises(InputError, match="no such thing"):
        profiler(tmp_path, engine).measure(point(), ROOM)
    assert read_profile(tmp_path).measurements == ()
    assert read_profile(tmp_path).document["under_way"] is None


def test_the_budget_ends_it_and_nothing_is_lost(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), seconds=lambda _batch, _run: 1.0)
    points = [point(batch) for batch in range(1, 9)]
    with pytest.raises(OutOfTimeError):
        profiler(tmp_path, engine, Effort(budget_s=20.5)).measure_all([points])
    assert len(engine.runs) == 20
    first = {one.key for one in read_profile(tmp_path).counted}
    for _ in range(3):
        try:
            profiler(tmp_path, engine, Effort(budget_s=20.5)).measure_all([points])
        except OutOfTimeError:
            continue
    rows = read_profile(tmp_path).counted
    assert first < {one.key for one in rows} == {one.key for one in points}
    assert len(rows) == 5 * len(points)


def test_a_budget_is_shared_among_points_that_do_not_settle(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), seconds=noisy(2.0))
    effort = Effort(max_repeats=10_000, num_warm_ups=0, budget_s=2000.0)
    groups = [[point(batch, configuration=replace(WHOLE, layers_by_stage=(layers,)))
               for batch in (1, 2)] for layers in (1, 2)]
    with suppress(OutOfTimeError):
        profiler(tmp_path, engine, effort).measure_all(groups)
    spent: dict[str, float] = {}
    for one in read_profile(tmp_path).counted:
        spent[one.key] = spent.get(one.key, 0.0) + (one.seconds or 0.0)
    assert len(spent) == 4
    assert min(spent.values()) > 200.0


def test_it_leaves_the_machine_to_others(tmp_path: Path) -> None:
    busy = ScriptedEngine(VirtualClock(), seconds=lambda _batch, _run: 1.0)
    profiler(tmp_path / "all", busy).measure(point(), ROOM)
    polite = ScriptedEngine(VirtualClock(), seconds=lambda _batch, _run: 1.0)
    profiler(tmp_path / "quarter", polite, Effort(share=0.25)).measure(point(), ROOM)
    assert polite.clock() == pytest.approx(4 * busy.clock())


def test_a_point_in_which_processes_die_is_left_out_after_two(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    for _ in range(2):
        record(tmp_path).begin(point(8).key)  # and the process is killed
    found = profiler(tmp_path, engine).measure(point(8), ROOM)
    assert found.outcome == "killed"
    assert "ended twice" in found.example.reason
    assert engine.runs == []
    record(tmp_path).begin(point(4).key)
    assert profiler(tmp_path, engine).measure(point(4), ROOM).outcome == "ok"


def test_an_interrupt_keeps_the_repeats_so_far(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())

    def interrupt(_batch: int) -> None:
        if len(engine.runs) == 5:
            raise KeyboardInterrupt

    engine.on_run = interrupt
    with pytest.raises(KeyboardInterrupt):
        profiler(tmp_path, engine).measure(point(), ROOM)
    profile = read_profile(tmp_path)
    assert len(profile.counted) == 3
    assert profile.document["under_way"] is None


def test_every_row_is_told_of(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    seen: list[tuple[Measurement, float]] = []
    measuring = profiler(tmp_path, engine, on_row=lambda one, done: seen.append((one, done)))
    measuring.measure_all([[point(1), point(2)]])
    assert len(seen) == 2 * 7
    assert sum(one.warm_up for one, _ in seen) == 4
    assert [done for _, done in seen] == [0.0] * 7 + [0.5] * 7


def test_another_configuration_or_room_is_another_load(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    measuring = profiler(tmp_path, engine)
    other = ModelConfiguration("small", (4, 4), "fp32", "fp32")
    measuring.measure_all([[point(1), point(2)], [point(1, configuration=other)]])
    assert engine.loads == [WHOLE, other]
    measuring.measure(point(3, configuration=other), ROOM)
    assert len(engine.loads) == 3
    assert engine.unloads == 2


def test_passes_go_there_and_back_through_the_configurations(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    other = replace(WHOLE, layers_by_stage=(2,))
    effort = Effort(min_repeats=6, passes=3, num_warm_ups=1)
    groups = [[point(1), point(2)], [point(1, configuration=other)]]
    profiler(tmp_path, engine, effort).measure_all(groups)
    # The end of one pass is the beginning of the next: nothing is loaded between.
    assert engine.loads == [WHOLE, other, WHOLE, other]
    rows = read_profile(tmp_path).counted
    assert {key: len([one for one in rows if one.key == key]) for key in {one.key for one in rows}
            } == dict.fromkeys((point(1).key, point(2).key,
                                point(1, configuration=other).key), 6)
    assert [one.repeat for one in rows if one.key == point(2).key] == list(range(6))
    num = len(engine.runs)
    profiler(tmp_path, engine, effort).measure_all(groups)
    assert len(engine.runs) == num


def test_only_the_last_pass_repeats_until_it_is_sure(tmp_path: Path) -> None:
    assert Effort(min_repeats=5, max_repeats=30, passes=2).of_pass(0) == Effort(
        min_repeats=3, max_repeats=3, passes=2)
    whole = Effort(min_repeats=5, max_repeats=30, passes=2)
    assert whole.of_pass(1) is whole
