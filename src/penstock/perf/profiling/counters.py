"""Counters of NVIDIA's accelerators by NVML, where both are there."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuCounters:
    """Means over the accelerators (the hottest one's temperature); None where nothing says.

    ``utilization`` is NVML's own: the share of its last sampling period (up to a second) in which
    any kernel ran.
    """

    utilization: float | None = None
    power_w: float | None = None
    clock_mhz: float | None = None
    temperature_c: float | None = None


class Gpus:
    """The accelerators that NVML shows; none without the library or its driver."""

    def __init__(self) -> None:
        self._library: Any = None
        self._handles: Sequence[Any] = ()
        with suppress(Exception):  # whatever NVML lacks, there is nothing to count
            import pynvml

            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(index)
                             for index in range(pynvml.nvmlDeviceGetCount())]
            self._library = pynvml
        self._before_bytes = self._used_bytes()

    def __len__(self) -> int:
        return len(self._handles)

    def describe(self) -> dict[str, Any]:
        """Names, memory, driver and clock limits."""
        if not self._handles:
            return {}
        library = self._library
        found: dict[str, Any] = {"devices": [], "driver": _text(
            self._ask(library.nvmlSystemGetDriverVersion))}
        for handle in self._handles:
            memory = self._ask(library.nvmlDeviceGetMemoryInfo, handle)
            found["devices"].append({
                "name": _text(self._ask(library.nvmlDeviceGetName, handle)),
                "memory_bytes": None if memory is None else int(memory.total),
                "max_sm_clock_mhz": self._ask(library.nvmlDeviceGetMaxClockInfo, handle,
                                              library.NVML_CLOCK_SM),
                "power_limit_w": _scaled(self._ask(
                    library.nvmlDeviceGetEnforcedPowerLimit, handle), 1e-3)})
        return found

    def memory_bytes(self) -> float | None:
        """Memory in use on all accelerators together, beyond what was in use when this was made:
        that of others, if they keep to it. None where it cannot be read."""
        used = self._used_bytes()
        return None if used is None or self._before_bytes is None else \
            max(0.0, used - self._before_bytes)

    def _used_bytes(self) -> float | None:
        found = [self._ask(self._library.nvmlDeviceGetMemoryInfo, handle)
                 for handle in self._handles]
        return float(sum(one.used for one in found)) if found and None not in found else None

    def read(self) -> GpuCounters:
        """The counters now."""
        if not self._handles:
            return GpuCounters()
        library = self._library
        utilization = [self._ask(library.nvmlDeviceGetUtilizationRates, handle)
                       for handle in self._handles]
        power = [self._ask(library.nvmlDeviceGetPowerUsage, handle) for handle in self._handles]
        clock = [self._ask(library.nvmlDeviceGetClockInfo, handle, library.NVML_CLOCK_SM)
                 for handle in self._handles]
        degrees = [self._ask(library.nvmlDeviceGetTemperature, handle,
                             library.NVML_TEMPERATURE_GPU) for handle in self._handles]
        return GpuCounters(
            _mean([None if one is None else one.gpu / 100 for one in utilization]),
            _mean([_scaled(one, 1e-3) for one in power]), _mean(clock),
            max((float(one) for one in degrees if one is not None), default=None))

    @staticmethod
    def _ask(function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception:  # a counter that this accelerator does not have
            return None


def _mean(values: Sequence[float | None]) -> float | None:
    found = [float(value) for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else float(value) * factor


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
