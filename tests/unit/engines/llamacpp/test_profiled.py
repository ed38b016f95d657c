"""How llama.cpp is driven, on a stand-in for its device. ``tests/engines`` has the real one."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from penstock.core.errors import InputError
from penstock.engines.emulated.profiled import VirtualClock
from penstock.engines.llamacpp import profiled as llamacpp
from penstock.engines.llamacpp.device import Row
from penstock.engines.llamacpp.profiled import LlamaCppEngine
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.protocol import OutOfMemoryError, Room
from support.scripted_profiling import ARCHITECTURE, SPEC

WHOLE = ModelConfiguration("small", (8,), "fp32", "fp16")


class FakeDevice:
    """A batch takes a second, and the cache counts tokens by sequence."""

    made: ClassVar[list["FakeDevice"]] = []

    def __init__(self, path: Path, kv_tokens: int, max_num_seqs: int, max_batch_tokens: int,
                 num_threads: int, kv_precision: str) -> None:
        self.path, self.kv_tokens, self.max_num_seqs = path, kv_tokens, max_num_seqs
        self.most, self.kv_precision = max_batch_tokens, kv_precision
        self.vocabulary_size = SPEC.vocab_size
        self.held: dict[int, int] = {}
        self.batches: list[int] = []
        self.closed = False
        self.clock: VirtualClock = FakeDevice.clock  # type: ignore[attr-defined]
        FakeDevice.made.append(self)

    def run(self, rows: Sequence[Row]) -> list[int]:
        assert len(rows) <= self.most
        for row in rows:
            assert row.position == self.held.get(row.sequence, 0)
            assert 0 <= row.sequence < self.max_num_seqs
            assert 0 <= row.token_id < self.vocabulary_size
            self.held[row.sequence] = row.position + 1
        if sum(self.held.values()) > self.kv_tokens:
            raise RuntimeError("llama.cpp could not compute a step (status 1)")
        self.batches.append(len(rows))
        self.clock.sleep(1.0)
        return [0 for row in rows if row.wanted]

    def forget(self, sequence: int) -> None:
        self.held.pop(sequence, None)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    found = VirtualClock()
    monkeypatch.setattr(FakeDevice, "clock", found, raising=False)
    monkeypatch.setattr(FakeDevice, "made", [])
    monkeypatch.setattr(llamacpp, "LlamaDevice", FakeDevice)
    monkeypatch.setattr(llamacpp, "write_random_gguf",
                        lambda path, spec, precision, seed: path.write_bytes(bytes(1000)))
    return found


def engine(clock: VirtualClock, scratch: Path, max_step_tokens: int = 512,
           memory_bytes: float | None = None, architecture: Architecture = ARCHITECTURE
           ) -> LlamaCppEngine:
    return LlamaCppEngine(architecture, clock, scratch=scratch, num_threads=1,
                          max_step_tokens=max_step_tokens, memory_bytes=memory_bytes)


def test_steps_become_times(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path)
    found.load(WHOLE, Room(4, 40, 160))
    for _ in range(2):  # the cache is empty again for the second
        times = found.run(4, 8, 5)
        assert (times.first_token_s, times.end_s, times.num_prefill_steps) == (1.0, 5.0, 1)
        assert times.step_s == (1.0,) * 4
    assert FakeDevice.made[0].batches == [32, 4, 4, 4, 4] * 2
    assert FakeDevice.made[0].held == {}


def test_prompts_longer_than_a_step(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path, max_step_tokens=16)
    found.load(WHOLE, Room(2, 40, 80))
    times = found.run(2, 20, 2)
    assert FakeDevice.made[0].batches == [16, 16, 8, 2]
    assert (times.first_token_s, times.num_prefill_steps) == (3.0, 3)


def test_room_is_what_the_points_need(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path)
    found.load(WHOLE, Room(3, 100, 300))
    device = FakeDevice.made[0]
    assert device.kv_tokens == 512  # 303, padded as llama.cpp does
    assert (device.max_num_seqs, device.kv_precision) == (3, "f16")
    assert found.memory().kv_tokens == 512
    found.unload()
    assert device.closed
    assert found.memory().kv_tokens is None
    found.unload()


def test_a_full_cache_is_out_of_memory(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path)
    found.load(WHOLE, Room(8, 100, 200))
    with pytest.raises(OutOfMemoryError, match="808 tokens; the cache holds 256"):
        found.run(8, 100, 2)
    FakeDevice.made[0].kv_tokens = 1000
    FakeDevice.made[0].held = {9: 900}  # cells that something else holds
    with pytest.raises(OutOfMemoryError, match="is full"):
        found.run(8, 20, 2)
    assert FakeDevice.made[0].held == {9: 900}


@pytest.mark.parametrize(("room", "memory_bytes", "said"), [
    (Room(300, 10, 100), None, "300 sequences; .* takes 256"),
    (Room(4, 10, 100), 1.0, r"would need about .* \(not tried\)"),
    (Room(4, 10, 10**15), None, r"\(not tried\)"),
])
def test_what_does_not_fit(clock: VirtualClock, tmp_path: Path, room: Room,
                           memory_bytes: float | None, said: str) -> None:
    with pytest.raises(OutOfMemoryError, match=said):
        engine(clock, tmp_path, memory_bytes=memory_bytes).load(WHOLE, room)
    assert FakeDevice.made == []


def test_without_a_number_of_tokens_the_cache_takes_a_share_of_what_is_free(
        clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    per_token = SPEC.kv_bytes_per_token("fp16")
    monkeypatch.setattr(llamacpp, "available_memory_bytes", lambda: 2000.0 * per_token)
    engine(clock, tmp_path).load(WHOLE, Room(64, 1000, None))
    assert 1000 <= FakeDevice.made[0].kv_tokens <= 1000 + 64 + 256


def test_files_are_written_once_and_by_depth(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path)
    (whole,) = found.prepare(WHOLE)
    whole.write_bytes(b"kept")
    assert found.prepare(WHOLE) == (whole,)
    assert whole.read_bytes() == b"kept"
    (cut,) = found.prepare(ModelConfiguration("small", (1,), "fp32", "fp16"))
    assert cut != whole


def test_a_checkpoint_that_is_no_gguf_file(clock: VirtualClock, tmp_path: Path) -> None:
    folder = Architecture(SPEC, ARCHITECTURE.config, tmp_path)
    with pytest.raises(InputError, match="reads GGUF files"):
        engine(clock, tmp_path, architecture=folder).prepare(WHOLE)
