"""vLLM's own scheduler without a model: random requests in, plans out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MAX_MODEL_LEN = 4096


class Limits(NamedTuple):
    """Settings of one scheduler. ``num_blocks`` are those that requests can hold."""

    step_tokens: int
    max_num_seqs: int
    num_blocks: int
    block_tokens: int = 16
    prefix_caching: bool = False
    plans_ahead: bool = False
    whole_prompt_fits: bool = True


class Ask(NamedTuple):
    """A request: when the scheduler reads it, its prompt, and the length of its answer."""

    number: int
    step: int
    prompt: tuple[int, ...]
    output_tokens: int


class Planned(NamedTuple):
    """One step: (tokens, tokens before) by request, and the requests that lost their KV cache."""

    tokens: dict[int, tuple[int, int]]
    preempted: tuple[int, ...]


class Configured:
    """vLLM's configuration for a tiny model, of which every scheduler gets a changed copy."""

    def __init__(self, model: Path) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import init_none_hash

        self.config: Any = EngineArgs(
            model=str(model), skip_tokenizer_init=True, enforce_eager=True, dtype="float32",
            max_model_len=MAX_MODEL_LEN, seed=0, disable_log_stats=True).create_engine_config()
        self.hash_of = sha256
        init_none_hash(sha256)

    def scheduler(self, limits: Limits) -> Any:
        """A fresh scheduler of vLLM's."""
        import torch
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.kv_cache_interface import (
            FullAttentionSpec,
            KVCacheConfig,
            KVCacheGroupSpec,
        )
        from vllm.v1.structured_output import StructuredOutputManager

        config = self.config
        config.scheduler_config.max_num_batched_tokens = limits.step_tokens
        config.scheduler_config.max_num_scheduled_tokens = limits.step_tokens
        config.scheduler_config.max_num_seqs = limits.max_num_seqs
        config.scheduler_config.scheduler_reserve_full_isl = limits.whole_prompt_fits
        config.scheduler_config.async_scheduling = limits.plans_ahead
        config.cache_config.enable_prefix_caching = limits.prefix_caching
        config.cache_config.block_size = limits.block_tokens
        config.cache_config.num_gpu_blocks = limits.num_blocks + 1  # one is the null block
        spec = FullAttentionSpec(block_size=limits.block_tokens, num_kv_heads=2, head_size=32,
                                 dtype=torch.float32)
        kv = KVCacheConfig(num_blocks=limits.num_blocks + 1, kv_cache_tensors=[],
                           kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)])
        kind = AsyncScheduler if limits.plans_ahead else Scheduler
        return kind(vllm_config=config, kv_cache_config=kv, block_size=limits.block_tokens,
                    structured_output_manager=StructuredOutputManager(config))

    def request(self, ask: Ask, limits: Limits) -> Any:
        """A request of vLLM's."""
        from vllm import SamplingParams
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher
        from vllm.v1.request import Request

        params = SamplingParams(temperature=0.0, max_tokens=ask.output_tokens, ignore_eos=True)
        return Request(str(ask.number), list(ask.prompt), params, None, arrival_time=0.0,
                       block_hasher=get_request_block_hasher(limits.block_tokens, self.hash_of)
                       if limits.prefix_caching else None)


class Vllm:
    """One scheduler of vLLM's, stepped as its engine core steps it."""

    def __init__(self, configured: Configured, limits: Limits) -> None:
        self._configured = configured
        self._limits = limits
        self.scheduler = configured.scheduler(limits)
        self._in_flight: list[Any] = []

    def add(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            self.scheduler.add_request(self._configured.request(ask, self._limits))

    def plan(self) -> Planned:
        """Plan the next step, of which the results come with ``commit``."""
        before = {request.request_id: request.num_preemptions
                  for request in self.scheduler.requests.values()}
        output = self.scheduler.schedule()
        self._in_flight.append(output)
        past = dict(zip(output.scheduled_cached_reqs.req_ids,
                        output.scheduled_cached_reqs.num_computed_tokens, strict=True))
        past |= {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        return Planned(
            {int(name): (num, past[name]) for name, num in output.num_scheduled_tokens.items()},
            tuple(sorted(int(name) for name, num in before.items()
                         if self.scheduler.requests[name].num_preemptions > num)))

    def commit(self) -> tuple[int, ...]:
        """Give every request of the oldest step in flight a token, where one is sampled. Returns
        these requests."""
        from vllm.v1.outputs import ModelRunnerOutput

        output = self._in_flight.pop(0)
        names = list(output.num_scheduled_tokens)
        past = dict(zip(output.scheduled_cached_reqs.req_ids,
                        output.scheduled_cached_reqs.num_computed_tokens, strict=True))
        past |= {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        sampled = []
        for name in names:
            request = self.scheduler.requests[name]
            done = past[name] + output.num_scheduled_tokens[name]
            # Answers repeat nothing, so that no two requests share blocks of them.
            token = 1_000_000 * (int(name) + 1) + len(request.output_token_ids)
            sampled.append([token] if done >= self._known(request) else [])
        self.scheduler.update_from_output(output, ModelRunnerOutput(
            names, {name: place for place, name in enumerate(names)}, sampled))
        return tuple(int(name) for name, got in zip(names, sampled, strict=True) if got)

    def _known(self, request: Any) -> int:
        """Tokens that a request must have computed when it is given a token."""
        return int(request.num_prompt_tokens + len(request.output_token_ids))

    @property
    def in_flight(self) -> int:
        """Steps that are planned and not committed."""
        return len(self._in_flight)

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.requests)
