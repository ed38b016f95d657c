"""Loading with files in the page cache and without."""

from pathlib import Path

import pytest

from penstock.engines.emulated.profiled import VirtualClock
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiling.protocol import Room
from penstock.profile import loading
from penstock.profile.loading import measure_loads
from penstock.profile.measure import Effort, OutOfTimeError
from penstock.profile.page_cache import cached_share
from support.scripted_profiling import WHOLE, ScriptedEngine, profiler

ROOM = Room(1, 2, 2)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(4 << 20))
    return path


def test_cold_and_warm_take_turns_after_a_warm_up(tmp_path: Path, weights: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), files=(weights,))
    measure_loads(profiler(tmp_path / "p", engine), WHOLE, ROOM, 3)
    rows = read_profile(tmp_path / "p").measurements
    loads = [one for one in rows if one.kind == "load" and not one.warm_up]
    assert [one.repeat for one in loads] == list(range(6))
    assert len([one for one in rows if one.kind == "unload" and not one.warm_up]) == 6
    assert [one.warm_up for one in rows[:3]] == [True, True, False]
    assert {one.file_bytes for one in loads} == {float(4 << 20)}
    for one in loads:
        # What the system could not drop is not called cold.
        assert one.cached_share is None or (one.cache == "cold") == (one.cached_share < 0.05)
        assert one.seconds == pytest.approx(1.0)
        assert one.first_token_s == pytest.approx(1.01)
        assert one.memory_bytes == 8000.0
        assert one.read_bytes is None or one.read_bytes >= 0.0


def test_a_cache_that_does_not_let_go_is_not_called_cold(
        tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "evict", lambda files: None)
    weights.read_bytes()
    if cached_share([weights]) is None:
        pytest.skip("this system does not say what its page cache holds")
    measure_loads(profiler(tmp_path / "p", ScriptedEngine(VirtualClock(), files=(weights,))),
                  WHOLE, ROOM, 1)
    loads = [one for one in read_profile(tmp_path / "p").counted if one.kind == "load"]
    assert [one.cache for one in loads] == ["warm", "warm"]
    assert loads[0].reason == "the cache was to be cold"
    assert loads[1].reason == ""


def test_where_nobody_can_look_a_cold_cache_is_unknown(
        tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "cached_share", lambda files: None)
    measure_loads(profiler(tmp_path / "p", ScriptedEngine(VirtualClock(), files=(weights,))),
                  WHOLE, ROOM, 1)
    loads = [one for one in read_profile(tmp_path / "p").counted if one.kind == "load"]
    assert [one.cache for one in loads] == ["unknown", "warm"]
    assert loads[0].cached_share is None


def test_weights_without_files_have_one_state(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    measure_loads(profiler(tmp_path, engine), WHOLE, ROOM, 4)
    loads = [one for one in read_profile(tmp_path).counted if one.kind == "load"]
    assert [(one.cache, one.file_bytes) for one in loads] == [("in_memory", None)] * 4


def test_loops_are_gone_on_with(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock())
    with pytest.raises(OutOfTimeError):
        measure_loads(profiler(tmp_path, engine, Effort(budget_s=2.5)), WHOLE, ROOM, 6)
    before = len([one for one in read_profile(tmp_path).counted if one.kind == "load"])
    assert 0 < before < 6
    measure_loads(profiler(tmp_path, engine), WHOLE, ROOM, 6)
    loads = [one for one in read_profile(tmp_path).counted if one.kind == "load"]
    assert [one.repeat for one in loads] == list(range(6))
    num = len(engine.loads)
    measure_loads(profiler(tmp_path, engine), WHOLE, ROOM, 6)
    assert len(engine.loads) == num


def test_a_model_that_does_not_fit_is_one_row(tmp_path: Path) -> None:
    engine = ScriptedEngine(VirtualClock(), most_layers=2)
    for _ in range(2):
        measure_loads(profiler(tmp_path, engine), WHOLE, ROOM, 3)
    (row,) = read_profile(tmp_path).measurements
    assert (row.kind, row.outcome, row.reason) == ("load", "out_of_memory", "too many layers")
    assert len(engine.loads) == 1
