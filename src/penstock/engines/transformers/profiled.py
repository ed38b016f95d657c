"""transformers and torch, one forward pass at a time, on an accelerator or on the CPU."""

import gc
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.core.units import GIB
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.checkpoint import (
    DTYPES,
    drawn_model,
    libraries,
    random_checkpoint,
    read_model,
    weight_files,
)
from penstock.perf.profiling.counters import Gpus
from penstock.perf.profiling.machine import (
    available_memory_bytes,
    package_versions,
    process_memory_bytes,
)
from penstock.perf.profiling.protocol import BatchTimes, Memory, OutOfMemoryError, Room, batch_times

PACKAGES = ("torch", "transformers", "safetensors")


class TorchEngine:
    """A model of transformers. Every step is one forward pass with the model's own KV cache.

    Random weights come from ``seed``. With ``scratch`` they are first written there and loaded like
    a checkpoint. Each prompt is computed in one step. On a CPU, ``memory_bytes`` limits the
    expected memory of a batch, because the kernel would kill the process instead of refusing
    memory.
    """

    def __init__(self, architecture: Architecture, clock: Callable[[], float], *, device: str = "",
                 num_threads: int = 0, seed: int = 0, scratch: Path | None = None,
                 memory_bytes: float | None = None) -> None:
        """Raises InputError without the extra, and for a missing device."""
        self._gpus = Gpus()
        self._torch, _ = libraries("--engine transformers")
        if architecture.is_gguf:
            raise InputError(f"{architecture.weights}: transformers does not run GGUF files; use "
                             "--engine llamacpp")
        self._architecture = architecture
        self._clock = clock
        self._device = device or ("cuda" if self._torch.cuda.is_available() else "cpu")
        if self._device not in ("cpu", "cuda") or (
                self._device == "cuda" and not self._torch.cuda.is_available()):
            raise InputError(f"--device {self._device[:40]!r}: torch has no such device here; "
                             "expected cpu" + (" or cuda" if self._torch.cuda.is_available()
                                               else ""))
        if num_threads:
            self._torch.set_num_threads(num_threads)
        self._seed = seed
        self._scratch = scratch
        self._limit_bytes = memory_bytes
        self._model: Any = None
        self._configuration: ModelConfiguration | None = None

    def describe(self) -> Mapping[str, Any]:
        torch = self._torch
        found: dict[str, Any] = {
            "engine": "transformers", "versions": package_versions(PACKAGES),
            "device": self._device, "num_threads": torch.get_num_threads(),
            "kv_cache": "grows with each batch"}
        if self._device == "cuda":
            found |= {"accelerator": torch.cuda.get_device_name(),
                      "cuda": torch.version.cuda}
        return found

    def most_accelerators(self) -> int:
        return 1

    def check(self, configuration: ModelConfiguration) -> None:
        if configuration.precision not in DTYPES:
            raise InputError(f"precision {configuration.precision!r}: not with transformers"
                             f"{nearest(configuration.precision, DTYPES)}")
        if configuration.kv_precision != configuration.precision:
            raise InputError(f"kv_precision {configuration.kv_precision!r}: transformers keeps "
                             f"keys and values in the model's own, {configuration.precision}")
        if configuration.num_accelerators > 1:
            raise InputError("tensor and pipeline: transformers runs on one device here; expected "
                             "1 of each")

    def prepare(self, configuration: ModelConfiguration) -> Sequence[Path]:
        cut = self._architecture.cut(configuration.num_layers)
        folder = cut.weights
        if folder is None:
            if self._scratch is None:
                return ()
            folder = self._scratch / configuration.label
            random_checkpoint(cut, configuration.precision, self._seed, folder)
        return weight_files(folder)

    def load(self, configuration: ModelConfiguration, room: Room) -> None:
        self.check(configuration)
        cut = self._architecture.cut(configuration.num_layers)
        self._expect(cut.spec.weight_bytes(configuration.precision), "weights")
        try:
            self._model = self._found(cut, configuration).to(self._device).eval()
        except Exception as error:
            raise self._as_out_of_memory(error) from error
        self._configuration = configuration
        self._wait()

    def unload(self) -> None:
        self._model = self._configuration = None
        gc.collect()
        if self._device == "cuda":
            self._torch.cuda.empty_cache()
            self._wait()

    def run(self, batch: int, prompt_tokens: int, output_tokens: int) -> BatchTimes:
        configuration = self._configuration
        assert configuration is not None, "nothing is loaded"
        cut = self._architecture.cut(configuration.num_layers)
        self._expect(batch * (prompt_tokens + output_tokens)
                     * cut.spec.kv_bytes_per_token(configuration.kv_precision)
                     + self._activation_bytes(cut, configuration, batch, prompt_tokens),
                     f"a batch of {batch}")
        try:
            return self._steps(batch, prompt_tokens, output_tokens)
        except Exception as error:
            raise self._as_out_of_memory(error) from error

    def _steps(self, batch: int, prompt_tokens: int, output_tokens: int) -> BatchTimes:
        torch = self._torch
        generator = torch.Generator().manual_seed(self._seed)
        tokens = torch.randint(3, self._architecture.spec.vocab_size, (batch, prompt_tokens),
                               generator=generator).to(self._device)
        everyone = range(batch)
        # Logits of the last position only, as engines compute them, where the model family supports
        # it.
        fewer = {"logits_to_keep": 1} if "logits_to_keep" in signature(
            self._model.forward).parameters else {}
        steps = []
        cache = None
        self._wait()
        started_s = self._clock()
        with torch.inference_mode():
            for _ in range(output_tokens):
                answer = self._model(input_ids=tokens, past_key_values=cache, use_cache=True,
                                     **fewer)
                cache = answer.past_key_values
                tokens = answer.logits[:, -1:].argmax(dim=-1)
                self._wait()
                steps.append((self._clock() - started_s, everyone))
        return batch_times(steps, batch, output_tokens)

    def memory(self) -> Memory:
        if self._device != "cuda":
            return Memory(process_memory_bytes())
        cuda = self._torch.cuda
        peak = float(cuda.max_memory_reserved())
        cuda.reset_peak_memory_stats()
        held = self._gpus.memory_bytes()  # including the driver's memory for the process
        return Memory(float(cuda.memory_reserved()) if held is None else held, peak)

    # -- parts ----------------------------------------------------------------------------------

    def _found(self, cut: Architecture, configuration: ModelConfiguration) -> Any:
        """Load the model of the checkpoint or of the scratch folder, or create one in memory."""
        folder = cut.weights
        if folder is None and self._scratch is not None:
            folder = self._scratch / configuration.label
        if folder is not None:
            return read_model(folder, configuration.precision)
        return drawn_model(cut, configuration.precision, self._seed, self._device)

    def _wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()

    def _activation_bytes(self, cut: Architecture, configuration: ModelConfiguration, batch: int,
                          prompt_tokens: int) -> float:
        """Return a rough estimate: the widest tensor of a feed-forward layer and the logits, in the
        model's format."""
        spec = cut.spec
        width = 4.0 if configuration.precision == "fp32" else 2.0
        widest = 2 * max(spec.intermediate_size, spec.hidden_size) * prompt_tokens
        return batch * width * (widest + spec.vocab_size)

    def _expect(self, need_bytes: float, what: str) -> None:
        """Check on a CPU that the memory suffices, since the kernel would kill the process. Raises
        OutOfMemoryError."""
        if self._device != "cpu":
            return
        left = available_memory_bytes()
        if self._limit_bytes is not None:
            used = process_memory_bytes() or 0.0
            left = min(left if left is not None else float("inf"), self._limit_bytes - used)
        if left is not None and need_bytes > left:
            raise OutOfMemoryError(f"{what} would need about {need_bytes / GIB:.2f} GiB; "
                                   f"{max(0.0, left) / GIB:.2f} GiB are left (not tried)")

    def _as_out_of_memory(self, error: Exception) -> Exception:
        text = str(error)
        if isinstance(error, self._torch.cuda.OutOfMemoryError) or "can't allocate memory" in text \
                or "out of memory" in text.lower():
            return OutOfMemoryError(text)
        return error
