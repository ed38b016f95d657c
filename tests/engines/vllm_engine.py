"""A real vLLM engine on the CPU, stepped in this process, with a tiny model of random weights."""

import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

VOCABULARY = 512


def prepare() -> None:
    """What vLLM reads from the environment when it is imported: one process, no network."""
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1",
                      HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", VLLM_LOGGING_LEVEL="WARNING",
                      VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_NO_USAGE_STATS="1")


def tiny_model(folder: Path) -> Path:
    """A Llama of 0.4 million random weights, large enough for answers that depend on the prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=128, intermediate_size=256,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=4096, initializer_range=0.15)
    LlamaForCausalLM(config).float().save_pretrained(folder)
    return folder


class Ticks:
    """A clock that moves by a millisecond whenever it is read."""

    def __init__(self) -> None:
        self._ticks = count()

    def __call__(self) -> float:
        return next(self._ticks) / 1000


def scheduler_class(base: str = "PenstockScheduler") -> type:
    """One of Penstock's classes, with clocks that make runs repeatable."""
    from penstock.engines.vllm import scheduler as vllm_plugin

    return type("Timed", (getattr(vllm_plugin, base),), {"clock": Ticks(), "wall": lambda: 0.0})


class Engine:
    """One engine for many runs, each with a scheduler of its own, keeping what requests got."""

    def __init__(self, model: Path) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        self.engine = LLMEngine.from_engine_args(EngineArgs(
            model=str(model), skip_tokenizer_init=True, enforce_eager=True, dtype="float32",
            max_model_len=2048, max_num_batched_tokens=512, max_num_seqs=16, seed=0,
            enable_prefix_caching=True, num_gpu_blocks_override=512, block_size=32,
            disable_log_stats=True))
        self._core: Any = self.engine.engine_core.engine_core
        self.vllm_config = self._core.scheduler.vllm_config
        self.scheduler: Any = self._core.scheduler
        self.tokens: dict[str, list[int]] = {}
        self.ends: dict[str, tuple[str | None, Any]] = {}
        self.steps: list[dict[str, int]] = []

    def begin(self, scheduler: type | None = None, penstock: Mapping[str, Any] | None = None, *,
              num_blocks: int = 512, prefix_caching: bool = False,
              queue: str = "fcfs") -> None:
        """Start afresh, with a scheduler class or vLLM's own."""
        from vllm.v1.core.sched.scheduler import Scheduler

        assert not self.engine.has_unfinished_requests()
        while self._core.scheduler.has_requests():
            self._core.step()  # the workers forget what has ended
        config, old = self.vllm_config, self._core.scheduler
        old.shutdown()
        config.additional_config = {"penstock": dict(penstock or {})}
        config.scheduler_config.policy = queue
        config.cache_config.enable_prefix_caching = prefix_caching
        config.cache_config.num_gpu_blocks = num_blocks
        self.scheduler = self._core.scheduler = (scheduler or Scheduler)(
            vllm_config=config, kv_cache_config=replace(old.kv_cache_config,
                                                        num_blocks=num_blocks),
            structured_output_manager=old.structured_output_manager, block_size=old.block_size)
        self.tokens, self.ends, self.steps = {}, {}, []
        inner = self.scheduler.schedule

        def watched(*args: Any) -> Any:
            output = inner(*args)
            if output.num_scheduled_tokens:  # others only tell the workers who has ended
                self.steps.append({name.rsplit("-", 1)[0]: num for name, num
                                   in output.num_scheduled_tokens.items()})
            return output

        self.scheduler.schedule = watched

    def add(self, name: str, prompt: list[int], max_tokens: int, priority: int = 0,
            **said: Any) -> None:
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True,
                                detokenize=False, extra_args=dict(said) or None)
        self.engine.add_request(name, {"prompt_token_ids": prompt}, params, arrival_time=0.0,
                                priority=priority)

    def step(self) -> None:
        for output in self.engine.step():
            (answer,) = output.outputs
            self.tokens[output.request_id] = list(answer.token_ids)
            if output.finished:
                self.ends[output.request_id] = answer.finish_reason, answer.stop_reason

    def abort(self, name: str) -> None:
        self.engine.abort_request([name])

    def run(self) -> None:
        while self.engine.has_unfinished_requests():
            self.step()

    def first_step(self, name: str) -> int:
        """Number of the first step that computed something of a request."""
        return next(number for number, step in enumerate(self.steps) if name in step)


def prompt(length: int, seed: int) -> list[int]:
    """Tokens that look random and are the same every time."""
    state, tokens = seed * 2654435761 % 2**32 + 1, []
    for _ in range(length):
        state = (1103515245 * state + 12345) % 2**31
        tokens.append(3 + (state >> 12) % (VOCABULARY - 3))
    return tokens
