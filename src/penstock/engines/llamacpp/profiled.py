"""llama.cpp, batch by batch through its low-level API."""

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.core.units import GIB, ceil_div
from penstock.engines.llamacpp.device import KvPrecision, LlamaDevice, Row
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.gguf_file import FORMATS, write_random_gguf
from penstock.perf.profiling.machine import (
    available_memory_bytes,
    package_versions,
    process_memory_bytes,
)
from penstock.perf.profiling.protocol import BatchTimes, Memory, OutOfMemoryError, Room, batch_times

PACKAGES = ("llama-cpp-python", "gguf")
_KV: Mapping[str, KvPrecision] = {"fp16": "f16", "fp32": "f32"}
_MOST_SEQUENCES = 256  # limit that llama.cpp is compiled with
_SHARE_FOR_KV = 0.5  # of the free memory, where no number of tokens is stated


class LlamaCppEngine:
    """A GGUF file, or random weights of an architecture, written to ``scratch`` as a GGUF file.

    Prompts are computed in batches of at most ``max_step_tokens``, one after the other. Every
    decode step is one call for all sequences.
    """

    def __init__(self, architecture: Architecture, clock: Callable[[], float], *, scratch: Path,
                 num_threads: int, max_step_tokens: int, seed: int = 0,
                 memory_bytes: float | None = None) -> None:
        self._architecture = architecture
        self._clock = clock
        self._scratch = scratch
        self._num_threads = num_threads
        self._most = max_step_tokens
        self._seed = seed
        self._limit_bytes = memory_bytes
        self._device: LlamaDevice | None = None
        self._configuration: ModelConfiguration | None = None

    def describe(self) -> Mapping[str, Any]:
        return {"engine": "llamacpp", "versions": package_versions(PACKAGES), "device": "cpu",
                "num_threads": self._num_threads, "max_step_tokens": self._most}

    def most_accelerators(self) -> int:
        return 1

    def check(self, configuration: ModelConfiguration) -> None:
        if self._architecture.is_gguf:
            if configuration.precision != "gguf":
                raise InputError(f"precision {configuration.precision!r}: a GGUF file has its own; "
                                 "leave --precision out")
        elif configuration.precision not in FORMATS:
            raise InputError(f"precision {configuration.precision!r}: not with llama.cpp"
                             f"{nearest(configuration.precision, FORMATS)}")
        if configuration.kv_precision not in _KV:
            raise InputError(f"kv_precision {configuration.kv_precision!r}: not with llama.cpp"
                             f"{nearest(configuration.kv_precision, _KV)}")
        if configuration.num_accelerators > 1:
            raise InputError("tensor and pipeline: llama.cpp runs as one process here; expected 1 "
                             "of each")

    def prepare(self, configuration: ModelConfiguration) -> Sequence[Path]:
        self.check(configuration)
        if self._architecture.weights is not None and configuration.num_layers == \
                self._architecture.spec.num_layers:
            if not self._architecture.is_gguf:
                raise InputError(f"{self._architecture.weights}: llama.cpp reads GGUF files; "
                                 "expected a .gguf file, or a config.json without weights beside")
            return (self._architecture.weights,)
        path = self._scratch / f"{configuration.label}.gguf"
        if not path.exists():
            cut = self._architecture.cut(configuration.num_layers)
            write_random_gguf(path, cut.spec, configuration.precision, self._seed)
        return (path,)

    def load(self, configuration: ModelConfiguration, room: Room) -> None:
        (path,) = self.prepare(configuration)
        if room.max_batch > _MOST_SEQUENCES:
            raise OutOfMemoryError(f"{room.max_batch} sequences; llama.cpp takes "
                                   f"{_MOST_SEQUENCES} at once")
        spec = self._architecture.cut(configuration.num_layers).spec
        per_token = spec.kv_bytes_per_token(configuration.kv_precision)
        left = self._left_bytes()
        wanted = room.max_batch * room.max_sequence_tokens
        tokens = room.kv_tokens
        if tokens is None:
            tokens = wanted if left is None else min(wanted, int(_SHARE_FOR_KV * left / per_token))
        # One cell of the cache is for the token being computed, and the size is padded.
        tokens = 256 * ceil_div(max(1, tokens) + room.max_batch, 256)
        need = tokens * per_token + path.stat().st_size
        if left is not None and need > left:
            raise OutOfMemoryError(f"model and cache would need about {need / GIB:.2f} GiB; "
                                   f"{left / GIB:.2f} GiB are left (not tried)")
        self._device = LlamaDevice(path, tokens, room.max_batch, max(self._most, room.max_batch),
                                   self._num_threads, _KV[configuration.kv_precision])
        self._configuration = configuration

    def unload(self) -> None:
        if self._device is not None:
            self._device.close()
        self._device = self._configuration = None
        gc.collect()

    def run(self, batch: int, prompt_tokens: int, output_tokens: int) -> BatchTimes:
        device = self._device
        assert device is not None, "nothing is loaded"
        if batch * (prompt_tokens + output_tokens - 1) > device.kv_tokens:
            raise OutOfMemoryError(f"{batch * (prompt_tokens + output_tokens - 1):,} tokens; the "
                                   f"cache holds {device.kv_tokens:,}")
        rng = Random(self._seed)
        prompts = [Row(rng.randrange(3, device.vocabulary_size), place, sequence,
                       place == prompt_tokens - 1)
                   for sequence in range(batch) for place in range(prompt_tokens)]
        most = max(self._most, batch)
        steps: list[tuple[float, Sequence[int]]] = []
        started_s = self._clock()
        try:
            for start in range(0, len(prompts), most):
                rows = prompts[start:start + most]
                device.run(rows)
                steps.append((self._clock() - started_s,
                              [row.sequence for row in rows if row.wanted]))
            for step in range(output_tokens - 1):
                # The cost does not depend on which tokens are fed back.
                device.run([Row(3 + (step + sequence) % 200, prompt_tokens + step, sequence, True)
                            for sequence in range(batch)])
                steps.append((self._clock() - started_s, range(batch)))
        except RuntimeError as error:
            if "status 1" in str(error):  # no free cells
                raise OutOfMemoryError(f"{error}: the cache of {device.kv_tokens:,} tokens is full"
                                       ) from error
            raise
        finally:
            for sequence in range(batch):
                device.forget(sequence)
        return batch_times(steps, batch, output_tokens)

    def memory(self) -> Memory:
        return Memory(process_memory_bytes(), kv_tokens=None if self._device is None
                      else self._device.kv_tokens)

    def _left_bytes(self) -> float | None:
        left = available_memory_bytes()
        if self._limit_bytes is None:
            return left
        limited = max(0.0, self._limit_bytes - (process_memory_bytes() or 0.0))
        return limited if left is None else min(left, limited)
