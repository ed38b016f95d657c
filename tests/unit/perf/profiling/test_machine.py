"""Where measurements are made, and what NVML says of it."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.perf.profiling.counters import GpuCounters, Gpus
from penstock.perf.profiling.machine import (
    available_memory_bytes,
    circumstances,
    describe_machine,
    package_versions,
    process_memory_bytes,
    process_read_bytes,
    same_subject,
)


def test_the_machine_is_described() -> None:
    found = describe_machine(("numpy", "no-such-package"))
    assert set(found["versions"]) >= {"numpy"}
    assert "no-such-package" not in found["versions"]
    assert found["num_cores"] >= 1
    assert found["host"]
    assert describe_machine(("numpy",)) == describe_machine(("numpy",))
    assert package_versions(()) == {}


def test_circumstances_change_and_are_apart() -> None:
    assert set(circumstances()) == {"load_average", "memory_available_bytes", "cpu_mhz",
                                    "governor"}
    assert not set(circumstances()) & set(describe_machine())


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_memory_is_read_of_the_process() -> None:
    before = process_memory_bytes()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    after = process_memory_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 32 << 20
    assert (available_memory_bytes() or 0.0) > 0.0
    assert process_read_bytes() is None or process_read_bytes() >= 0.0  # type: ignore[operator]


@pytest.mark.parametrize(("was", "now", "said"), [
    ({"a": 1}, {"a": 1}, None), ({}, {}, None), ({"a": 1}, {"a": 2}, "a 1, now 2"),
    ({"a": 1}, {}, "a 1, now None"), ({"v": {"torch": "1"}}, {"v": {"torch": "2"}},
                                      "v.torch '1', now '2'")])
def test_the_first_difference_is_named(was: dict[str, Any], now: dict[str, Any],
                                       said: str | None) -> None:
    assert same_subject(was, now) == said


# -- NVML -----------------------------------------------------------------------------------------


def fake_nvml(num: int, **broken: Any) -> SimpleNamespace:
    def fail(*_: Any) -> Any:
        raise RuntimeError("not supported")

    found = SimpleNamespace(
        NVML_CLOCK_SM=1, NVML_TEMPERATURE_GPU=0, nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: num, nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlSystemGetDriverVersion=lambda: b"550.54",
        nvmlDeviceGetName=lambda handle: f"GPU {handle}",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80, used=10 + handle),
        nvmlDeviceGetMaxClockInfo=lambda handle, kind: 1980,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=50 + 50 * handle),
        nvmlDeviceGetPowerUsage=lambda handle: 300_000,
        nvmlDeviceGetClockInfo=lambda handle, kind: 1500,
        nvmlDeviceGetTemperature=lambda handle, kind: 60 + handle)
    for name in broken:
        setattr(found, name, fail)
    return found


def test_counters_of_all_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(2))
    gpus = Gpus()
    assert len(gpus) == 2
    assert gpus.read() == GpuCounters(0.75, 300.0, 1500.0, 61.0)
    assert gpus.memory_bytes() == 0.0
    described = gpus.describe()
    assert described["driver"] == "550.54"
    assert described["devices"][1] == {"name": "GPU 1", "memory_bytes": 80,
                                       "max_sm_clock_mhz": 1980, "power_limit_w": 700.0}


def test_memory_of_others_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml(2)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    gpus = Gpus()
    library.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(total=80, used=35)
    assert gpus.memory_bytes() == 70.0 - 21.0


def test_a_counter_that_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(1, nvmlDeviceGetPowerUsage=None,
                                                         nvmlDeviceGetMemoryInfo=None))
    gpus = Gpus()
    assert gpus.read().power_w is None
    assert gpus.read().clock_mhz == 1500.0
    assert gpus.memory_bytes() is None


@pytest.mark.parametrize("library", [None, fake_nvml(0), fake_nvml(1, nvmlInit=None)])
def test_without_nvml_there_is_nothing_to_count(library: Any,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library)
    gpus = Gpus()
    assert len(gpus) == 0
    assert gpus.read() == GpuCounters()
    assert gpus.memory_bytes() is None
    assert gpus.describe() == {}
