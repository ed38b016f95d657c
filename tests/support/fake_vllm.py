"""What Penstock's classes use of vLLM's V1 scheduler, small enough to read: a stand-in for tests.

Requests that hold KV are served first, in the order of a list, each as much as the step's budget
lets; then waiting ones start. ``cached``, ``refuse`` and ``take_away`` make it do otherwise.
"""

import sys
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any


class RequestStatus(Enum):
    WAITING = 1
    WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR = 2
    RUNNING = 3
    PREEMPTED = 4
    FINISHED_LENGTH = 5
    FINISHED_ABORTED = 6


class FinishReason(Enum):
    LENGTH = 1
    ABORT = 2


@dataclass
class EngineCoreOutput:
    request_id: str
    new_token_ids: list[int]
    finish_reason: FinishReason | None = None
    stop_reason: str | None = None


@dataclass
class EngineCoreOutputs:
    outputs: list[EngineCoreOutput]


class FCFSRequestQueue(deque):  # type: ignore[type-arg]
    def remove_requests(self, requests: Any) -> None:
        kept = [request for request in self if request not in requests]
        self.clear()
        self.extend(kept)

    def prepend_request(self, request: Any) -> None:
        self.appendleft(request)


@dataclass(eq=False)
class Request:
    request_id: str
    num_prompt_tokens: int
    max_tokens: int
    extra_args: dict[str, Any] | None = None
    priority: int = 0
    arrival_time: float = 0.0
    resumable: bool = False
    client_index: int = 0
    cached: int = 0
    status: RequestStatus = RequestStatus.WAITING
    num_output_tokens: int = 0
    num_computed_tokens: int = 0
    num_output_placeholders: int = 0
    sampling_params: Any = None

    def __post_init__(self) -> None:
        self.sampling_params = SimpleNamespace(extra_args=self.extra_args)

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens

    @property
    def num_tokens_with_spec(self) -> int:
        return self.num_tokens

    def is_finished(self) -> bool:
        return self.status.name.startswith("FINISHED")


@dataclass
class SchedulerOutput:
    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)
    num_output_tokens: dict[str, int] = field(default_factory=dict)


def configuration(penstock: Any = None, **changes: Any) -> SimpleNamespace:
    values = {"additional_config": {} if penstock is None else {"penstock": penstock},
              "speculative_config": None, "kv_transfer_config": None, "max_concurrent_batches": 1,
              "parallel_config": SimpleNamespace(pipeline_parallel_size=1, data_parallel_index=0),
              "model_config": SimpleNamespace(runner_type="generate", is_encoder_decoder=False),
              "scheduler_config": SimpleNamespace(long_prefill_token_threshold=7,
                                                  enable_chunked_prefill=True),
              "cache_config": SimpleNamespace(num_gpu_blocks=65)}
    return SimpleNamespace(**{**values, **changes})


class Scheduler:
    placeholders = 0  # an asynchronous one counts tokens that are on their way

    def __init__(self, vllm_config: Any) -> None:
        self.vllm_config = vllm_config
        self.scheduler_config = vllm_config.scheduler_config
        self.parallel_config = vllm_config.parallel_config
        self.cache_config = vllm_config.cache_config
        self.kv_cache_config = SimpleNamespace(kv_cache_groups=["all layers"])
        self.block_size = 16
        self.max_model_len = 512
        self.max_num_running_reqs = self.max_num_active_reqs = 8
        self.max_num_scheduled_tokens = 64
        self.requests: dict[str, Request] = {}
        self.waiting: FCFSRequestQueue = FCFSRequestQueue()
        self.running: list[Request] = []
        self.deferred_waiting: set[Request] = set()
        self.refuse: set[str] = set()
        self.take_away: set[str] = set()
        self.grammars: set[str] = set()
        self.stopped = False

    def add_request(self, request: Request) -> None:
        self.requests[request.request_id] = request
        self.waiting.append(request)
        if request.status != RequestStatus.WAITING:
            self.deferred_waiting.add(request)

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        if request.request_id not in self.grammars:
            return False
        request.status = RequestStatus.WAITING
        return True

    def get_num_unfinished_requests(self) -> int:
        return len(self.running) + len(self.waiting)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        budget = self.max_num_scheduled_tokens
        given: dict[str, int] = {}
        preempted = False
        for request in list(self.running):
            if request.request_id in self.take_away:
                self.running.remove(request)
                self._preempt_request(request, 0.0)
                preempted = True
                continue
            at_end = request.num_output_placeholders > 0 and request.num_output_tokens \
                + request.num_output_placeholders >= request.max_tokens
            tokens = min(budget, request.num_tokens_with_spec + request.num_output_placeholders
                         - request.num_computed_tokens)
            if tokens > 0 and not at_end:
                given[request.request_id] = tokens
                budget -= tokens
        while budget and self.waiting and not preempted:
            request = self.waiting[0]
            if request.request_id in self.refuse:
                break
            self.waiting.popleft()
            request.num_computed_tokens = min(request.cached, request.num_tokens - 1)
            request.status = RequestStatus.RUNNING
            self.running.append(request)
            tokens = min(budget, request.num_tokens - request.num_computed_tokens)
            given[request.request_id] = tokens
            budget -= tokens
        output = self._make_cached_request_data(given)
        for name, tokens in given.items():
            request = self.requests[name]
            request.num_computed_tokens += tokens
            if request.num_computed_tokens >= request.num_tokens + request.num_output_placeholders:
                request.num_output_placeholders += self.placeholders
        self.take_away = set()
        return output

    def _make_cached_request_data(self, given: dict[str, int]) -> SchedulerOutput:
        requests = {name: self.requests[name] for name in given}
        return SchedulerOutput(given, {
            name: request.num_output_tokens + request.num_output_placeholders
            for name, request in requests.items()})

    def _preempt_request(self, request: Request, timestamp: float) -> None:
        assert request.status == RequestStatus.RUNNING
        request.status = RequestStatus.PREEMPTED
        request.num_computed_tokens = request.num_output_placeholders = 0
        self.waiting.appendleft(request)

    def finish_requests(self, request_ids: Any, status: RequestStatus) -> list[Request]:
        names = [request_ids] if isinstance(request_ids, str) else list(request_ids)
        found = [self.requests.pop(name) for name in names if name in self.requests]
        for request in found:
            if request.status == RequestStatus.RUNNING:
                self.running.remove(request)
            else:
                self.waiting.remove(request)
            request.status = status
        return found

    def update_from_output(self, output: SchedulerOutput, _: Any) -> dict[int, EngineCoreOutputs]:
        outputs: list[EngineCoreOutput] = []
        for name in output.num_scheduled_tokens:
            request = self.requests.get(name)
            if request is None or request.num_computed_tokens < request.num_tokens:
                continue
            request.num_output_tokens += 1
            request.num_output_placeholders -= self.placeholders
            outputs.append(EngineCoreOutput(name, [0]))
            if request.num_output_tokens == request.max_tokens:
                request.status = RequestStatus.FINISHED_LENGTH
                self.running.remove(request)
                del self.requests[name]
                outputs[-1].finish_reason = FinishReason.LENGTH
        return {0: EngineCoreOutputs(outputs)} if outputs else {}

    def reset_prefix_cache(self, reset_running_requests: bool = False) -> bool:
        return True

    def shutdown(self) -> None:
        self.stopped = True


class AsyncScheduler(Scheduler):
    placeholders = 1


def modules() -> dict[str, ModuleType]:
    """Everything that an import of vLLM must find in ``sys.modules``."""
    here = sys.modules[__name__]
    contents = {"vllm": (), "vllm.v1": (), "vllm.v1.core": (), "vllm.v1.core.sched": (),
                "vllm.v1.core.sched.scheduler": ("Scheduler",),
                "vllm.v1.core.sched.async_scheduler": ("AsyncScheduler",),
                "vllm.v1.core.sched.request_queue": ("FCFSRequestQueue",),
                "vllm.v1.engine": ("EngineCoreOutput", "EngineCoreOutputs", "FinishReason"),
                "vllm.v1.request": ("RequestStatus",)}
    found = {}
    for name, members in contents.items():
        found[name] = ModuleType(name)
        for member in members:
            setattr(found[name], member, getattr(here, member))
    return found
