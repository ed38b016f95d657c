"""A profiled engine without hardware: a step-time model gives durations, on a virtual clock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.units import GIB
from penstock.perf.memory import check_precision, weight_bytes_per_accelerator
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.protocol import BatchTimes, Memory, OutOfMemoryError, Room
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.roofline import roofline_step_time

_CONTEXT_BYTES = int(0.8 * GIB)  # memory of a process on each accelerator besides the model
_UNLOAD_S = 0.02
_START_S = 2.0  # besides loading the weights


@dataclass(slots=True)
class VirtualClock:
    """A clock that advances only by ``sleep``."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class SimulatedEngine:
    """Behaves like an engine whose steps take the model's predicted time, times a random factor.

    ``noise`` is the factor's standard deviation. ``step_time`` builds the model for a configuration
    of a (cut) architecture; the default is the roofline. Results are not measurements, and
    ``describe`` says so.
    """

    def __init__(self, architecture: Architecture, accelerator: Accelerator,
                 num_accelerators: int, clock: VirtualClock, rng: Random, noise: float = 0.01,
                 step_time: Callable[[Architecture, ModelConfiguration], StepTimeModel] | None
                 = None) -> None:
        self._architecture = architecture
        self._accelerator = accelerator
        self._num = num_accelerators
        self._clock = clock
        self._rng = rng
        self._noise = noise
        self._step_time = self._roofline if step_time is None else step_time
        self._held: tuple[StepTimeModel, ModelConfiguration, Architecture] | None = None
        self._kv_bytes = 0.0
        self._peak_bytes = 0.0

    def describe(self) -> Mapping[str, Any]:
        return {"engine": "sim", "simulated": True, "device": self._accelerator.name,
                "num_accelerators": self._num, "noise": self._noise,
                "note": "no engine was measured: times are those of a step-time model"}

    def most_accelerators(self) -> int:
        return self._num

    def check(self, configuration: ModelConfiguration) -> None:
        for precision in (configuration.precision, configuration.kv_precision):
            check_precision(precision)
        why = self._architecture.spec.indivisible(configuration.tensor)
        if why:
            raise InputError(why)

    def prepare(self, configuration: ModelConfiguration) -> Sequence[Path]:
        return ()

    def load(self, configuration: ModelConfiguration, room: Room) -> None:
        self.check(configuration)
        cut = self._architecture.cut(configuration.num_layers)
        weights = self._weight_bytes(cut, configuration)
        if weights + _CONTEXT_BYTES > self._accelerator.memory_bytes:
            raise OutOfMemoryError(f"{weights / GIB:.1f} GiB of weights per accelerator; it has "
                                   f"{self._accelerator.memory_bytes / GIB:.1f} GiB")
        self._clock.sleep(self._factor() * (_START_S
                                            + weights / self._accelerator.pcie_bytes_per_s))
        self._held = self._step_time(cut, configuration), configuration, cut
        self._kv_bytes = 0.0

    def unload(self) -> None:
        if self._held is not None:
            self._clock.sleep(self._factor() * _UNLOAD_S)
        self._held = None
        self._kv_bytes = self._peak_bytes = 0.0

    def run(self, batch: int, prompt_tokens: int, output_tokens: int) -> BatchTimes:
        assert self._held is not None, "nothing is loaded"
        model, configuration, cut = self._held
        per_token = cut.spec.kv_bytes_per_token(configuration.kv_precision)
        kv_bytes = float(batch * (prompt_tokens + output_tokens) * per_token)
        room = configuration.num_accelerators * (
            self._accelerator.memory_bytes - _CONTEXT_BYTES
            - self._weight_bytes(cut, configuration))
        if kv_bytes > room:
            raise OutOfMemoryError(f"{kv_bytes / GIB:.1f} GiB of keys and values; "
                                   f"{room / GIB:.1f} GiB are left beside the weights")
        self._kv_bytes = kv_bytes
        self._peak_bytes = max(self._peak_bytes, self._kv_bytes)
        tokens = batch * prompt_tokens
        first_s = self._factor() * model.seconds(tokens, 0.5 * tokens * prompt_tokens, 0, 0)
        steps = tuple(self._factor() * model.seconds(0, 0.0, batch, batch * (prompt_tokens + more))
                      for more in range(1, output_tokens))
        end_s = first_s + sum(steps)
        self._clock.sleep(end_s)
        return BatchTimes(first_s, end_s, steps, 1)

    def memory(self) -> Memory:
        if self._held is None:
            return Memory(0.0)
        _, configuration, cut = self._held
        fixed = configuration.num_accelerators * (
            _CONTEXT_BYTES + self._weight_bytes(cut, configuration))
        return Memory(fixed + self._kv_bytes, fixed + self._peak_bytes)

    def _roofline(self, cut: Architecture, configuration: ModelConfiguration) -> StepTimeModel:
        return roofline_step_time(cut.spec, self._accelerator, _parallelism(configuration),
                                  configuration.precision, configuration.kv_precision)

    def _weight_bytes(self, cut: Architecture, configuration: ModelConfiguration) -> float:
        return weight_bytes_per_accelerator(cut.spec, _parallelism(configuration),
                                            configuration.precision)

    def _factor(self) -> float:
        return float(self._rng.lognormvariate(0.0, self._noise))


def _parallelism(configuration: ModelConfiguration) -> Parallelism:
    return Parallelism(configuration.tensor, configuration.pipeline)
