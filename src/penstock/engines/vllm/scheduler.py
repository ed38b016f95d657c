"""Penstock's scheduler inside vLLM (V1 engine, 0.32); ``--scheduler-cls`` names a class from here.

Penstock's scheduler plans every step and leaves vLLM's scheduler no choice. While vLLM's
``schedule`` runs, its queues have only the requests of the plan, in the plan's order, with the
plan's token budget, and a chunk of a prompt is capped to the planned length. All other requests are
hidden from vLLM and keep their KV cache: a decode that may wait, or a long prompt behind an urgent
one. Where vLLM still deviates (a cached prefix, a preemption of its own), the deviation is reported
to Penstock's scheduler before the next plan. Options: ``--additional-config '{"penstock":
{...}}'``, see ``penstock.engines.embedded.options``.

This is the only module that imports vLLM.
"""

import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import FCFSRequestQueue
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.request import RequestStatus

from penstock.core.decision import Reject
from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.step import StepPlan
from penstock.core.units import ceil_div
from penstock.engines.embedded.calibrate import Calibrator
from penstock.engines.embedded.fields import ServiceClasses, session_of
from penstock.engines.embedded.options import (
    EmbeddedOptions,
    embedded_options,
    limited,
    new_journal,
    schedule_document,
)
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.perf.step_time.store import has_document, step_time_document
from penstock.policy.kv.counting import CountingKv
from penstock.registry.make import build_scheduler

if TYPE_CHECKING:  # the mixin precedes one of vLLM's schedulers and uses its attributes
    from typing import Any as Base
else:
    Base = object

_LONGEST_WAIT_S = 600.0  # clocks of two machines may differ: a longer wait is not believed


class PenstockMixin(Base):
    """Shared part of vLLM's two schedulers.

    ``clock`` is monotonic, in seconds; ``wall`` is the time of day, by which vLLM stamps arrivals.
    """

    clock: ClassVar[Callable[[], float]] = time.monotonic
    wall: ClassVar[Callable[[], float]] = time.time

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _check_supported(self)
        extra = self.vllm_config.additional_config
        options = embedded_options(extra.get("penstock") if isinstance(extra, dict) else None)
        self.scheduler_config.long_prefill_token_threshold = 0  # plans decide the length of chunks
        self._most_step_tokens: int = self.max_num_scheduled_tokens
        self.driver = _embedded_scheduler(self, options)
        self._classes = ServiceClasses(options.classes, options.default_class)
        self._serials = count()
        self._numbers: dict[str, int] = {}
        self._live: dict[int, Any] = {}
        self._blocked: list[Any] = []  # cannot start until their grammar is compiled
        self._in_flight: dict[int, tuple[Any, StepPlan]] = {}
        self._capped: list[tuple[Any, int]] = []
        self._endings: list[tuple[int, EngineCoreOutput]] = []

    # -- requests come and go -------------------------------------------------------------------

    def add_request(self, request: Any) -> None:
        """Add a request. A request that Penstock rejects is answered at the end of the next
        step."""
        super().add_request(request)
        if request.resumable:
            self._refuse(request, "sessions with streamed input are not scheduled by Penstock")
        elif request.status == RequestStatus.WAITING:
            self._submit(request)
        else:
            self._blocked.append(request)

    def _submit(self, request: Any) -> None:
        number = next(self._serials)
        waited_s = min(max(0.0, type(self).wall() - request.arrival_time), _LONGEST_WAIT_S)
        room = self.max_model_len - request.num_prompt_tokens
        said = request.sampling_params.extra_args if request.sampling_params else None
        self._numbers[request.request_id] = number
        self._live[number] = request
        answer = self.driver.add(Request(
            number, self.driver.now_s() - waited_s, request.num_prompt_tokens,
            max(1, min(request.max_tokens, room)),
            self._classes.of(said, request.priority), session=session_of(said)))
        if isinstance(answer, Reject):
            self._refuse(request, answer.reason)

    def _hand_in_unblocked(self) -> None:
        blocked, self._blocked = self._blocked, []
        for request in blocked:
            if request.is_finished():
                continue
            if self._handle_blocked_waiting_request(request):
                self.deferred_waiting.discard(request)
                self._submit(request)
            else:
                self._blocked.append(request)

    def finish_requests(self, request_ids: str | Iterable[str] | None,
                        finished_status: Any) -> list[Any]:
        """End requests from outside: a client disconnected, or a stop string was found."""
        ended: list[Any] = super().finish_requests(request_ids, finished_status)
        for request in ended:
            number = self._forget(request.request_id)
            if number is not None:
                self.driver.abort(number)
        return ended

    def _forget(self, request_id: str) -> int | None:
        number = self._numbers.pop(request_id, None)
        if number is not None:
            del self._live[number]
        return number

    def _refuse(self, request: Any, reason: str) -> None:
        """End a request with a reason that its client sees as ``stop_reason``."""
        self.finish_requests(request.request_id, RequestStatus.FINISHED_ABORTED)
        self._endings.append((request.client_index, EngineCoreOutput(
            request_id=request.request_id, new_token_ids=[], finish_reason=FinishReason.ABORT,
            stop_reason=reason)))

    # -- steps ----------------------------------------------------------------------------------

    def schedule(self, throttle_prefills: bool = False) -> Any:
        """Return the next step: Penstock's plan, carried out by vLLM's scheduler."""
        if self._blocked:
            self._hand_in_unblocked()
        plan = None if self.get_num_unfinished_requests() == 0 else self.driver.plan()
        for number in self.driver.take_preempted():
            request = self._live[number]
            self.running.remove(request)
            self._preempt_request(request, time.monotonic())
        for number, reason in self.driver.take_shed():
            self._refuse(self._live[number], reason)
        output = self._carry_out(plan, throttle_prefills)
        if plan is not None:
            self._in_flight[id(output)] = (output, self._as_run(plan, output))
        return output

    def _carry_out(self, plan: StepPlan | None, throttle_prefills: bool) -> Any:
        """Run vLLM's scheduler with only the plan's requests in its queues."""
        running, unstarted = self._requests_of(plan)
        in_plan = {id(request) for request in running}
        parked = [request for request in self.running if id(request) not in in_plan]
        waiting = self.waiting
        self.running: list[Any] = running
        self.waiting: Any = FCFSRequestQueue(unstarted)
        self.max_num_scheduled_tokens: int = max(1, plan.num_tokens if plan else 0)
        try:
            return super().schedule(throttle_prefills)
        finally:
            self._uncap()
            self.max_num_scheduled_tokens = self._most_step_tokens
            left, self.waiting = self.waiting, waiting
            self.running = [*self.running, *parked]
            started = [r for r in unstarted if r.status == RequestStatus.RUNNING]
            if started:
                waiting.remove_requests(started)
            offered = {id(request) for request in unstarted}
            for request in left:
                if id(request) not in offered:  # vLLM preempted it
                    waiting.prepend_request(request)

    def _requests_of(self, plan: StepPlan | None) -> tuple[list[Any], list[Any]]:
        """Return the plan's requests that hold KV cache, and those that start, each in order."""
        if plan is None:
            return [], []
        running = [self._live[number] for number in plan.decode_ids]
        unstarted = []
        for chunk in plan.chunks:
            request = self._live[chunk.request_id]
            if request.status != RequestStatus.RUNNING:
                unstarted.append(request)
                continue
            running.append(request)
            if not chunk.last:
                self._cap(request, chunk.tokens)
        return running, unstarted

    def _cap(self, request: Any, tokens: int) -> None:
        """Cap the chunk of a started prompt: vLLM would give requests that hold KV cache all tokens
        they can use.

        vLLM computes the missing tokens of a request as its tokens + placeholders - computed
        tokens. So negative placeholders, while vLLM schedules, reduce that number.
        """
        self._capped.append((request, request.num_output_placeholders))
        lacking = request.num_tokens_with_spec - request.num_computed_tokens
        request.num_output_placeholders = min(0, tokens - lacking)

    def _uncap(self) -> None:
        for request, placeholders in self._capped:
            request.num_output_placeholders = placeholders
        self._capped.clear()

    def _make_cached_request_data(self, *args: Any, **kwargs: Any) -> Any:
        """Restore the placeholders: vLLM has scheduled, and needs their true values from here
        on."""
        self._uncap()
        return super()._make_cached_request_data(*args, **kwargs)

    def _as_run(self, plan: StepPlan, output: Any) -> StepPlan:
        """Return the plan as vLLM runs it."""
        tokens = output.num_scheduled_tokens
        ran: dict[int, tuple[int, int]] = {}
        for chunk in plan.chunks:
            request = self._live[chunk.request_id]
            num = tokens.get(request.request_id, 0)
            if num:
                ran[chunk.request_id] = (num, request.num_computed_tokens - num)
        if (len(tokens) == len(plan.decode_ids) + len(plan.chunks)
                and all(ran[chunk.request_id] == (chunk.tokens, chunk.past)
                        for chunk in plan.chunks)):
            return plan
        for number in plan.decode_ids:
            request = self._live[number]
            if request.request_id in tokens:
                ran[number] = (1, request.num_computed_tokens - 1)
        lost = [number for number in plan.tokens_by_request
                if self._live[number].status == RequestStatus.PREEMPTED and number not in ran]
        return self.driver.amend(plan, ran, lost)

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """The step has run: emit its tokens and commit the plan."""
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        _, plan = self._in_flight.pop(id(scheduler_output), (None, None))
        if plan is not None:
            self.driver.commit(plan, self._finished(plan))
        for client_index, ending in self._endings:
            if client_index in outputs:
                outputs[client_index].outputs.append(ending)
            else:
                outputs[client_index] = EngineCoreOutputs(outputs=[ending])
        self._endings.clear()
        return outputs

    def _finished(self, plan: StepPlan) -> tuple[int, ...]:
        """Return the requests of the plan that have ended with this step."""
        ended = [number for number in plan.tokens_by_request
                 if number in self._live and self._live[number].is_finished()]
        for number in ended:
            self._forget(self._live[number].request_id)
        return tuple(ended)

    def reset_prefix_cache(self, reset_running_requests: bool = False, *args: Any,
                           **kwargs: Any) -> bool:
        """Reset vLLM's prefix cache. Preempting running requests for that is not supported."""
        if reset_running_requests and self.running:
            return False
        return bool(super().reset_prefix_cache(False, *args, **kwargs))

    def shutdown(self) -> None:
        """Close the journal and stop."""
        self.driver.close()
        super().shutdown()


class PenstockScheduler(PenstockMixin, Scheduler):
    """The scheduler for engines that wait for a step's tokens before they plan the next step."""


class PenstockAsyncScheduler(PenstockMixin, AsyncScheduler):
    """The scheduler for engines that plan a step while the previous one runs (vLLM's default on
    GPUs)."""


def _check_supported(scheduler: Any) -> None:
    config = scheduler.vllm_config
    unsupported = {
        "speculative decoding": config.speculative_config is not None,
        "a KV connector": config.kv_transfer_config is not None,
        "pipeline parallelism": config.parallel_config.pipeline_parallel_size > 1,
        "pooling models": config.model_config.runner_type != "generate",
        "encoder-decoder models": config.model_config.is_encoder_decoder,
        "prompts in one piece (--no-enable-chunked-prefill)":
            not config.scheduler_config.enable_chunked_prefill,
    }
    for feature, used in unsupported.items():
        if used:
            raise InputError(f"Penstock's scheduler inside vLLM does not go with {feature}; leave "
                             "out --scheduler-cls or that feature")


def _embedded_scheduler(scheduler: Any, options: EmbeddedOptions) -> EmbeddedScheduler:
    """Return the scheduler that plans for this engine, with its journal."""
    groups = len(scheduler.kv_cache_config.kv_cache_groups)
    # vLLM never allocates one of the blocks. Groups of layers with different caches share the rest.
    kv_blocks = (scheduler.cache_config.num_gpu_blocks - 1) // groups
    longest = min(kv_blocks, ceil_div(scheduler.max_model_len, scheduler.block_size))
    schedule = limited(options.schedule, min(scheduler.max_num_running_reqs,
                                             scheduler.max_num_active_reqs),
                       scheduler.max_num_scheduled_tokens, kv_blocks, longest)
    max_in_flight = scheduler.vllm_config.max_concurrent_batches
    planner = build_scheduler(schedule, options.step_time,
                              CountingKv(kv_blocks, scheduler.block_size),
                              max_in_flight=max_in_flight)
    journal = None
    if options.journal is not None:
        rank = scheduler.parallel_config.data_parallel_index
        header = {"replica": options.replica, "schedule": schedule_document(schedule),
                  "kv_tokens": kv_blocks * scheduler.block_size,
                  "block_tokens": scheduler.block_size, "prefix_caching": False,
                  "max_in_flight": max_in_flight}
        if has_document(options.step_time):  # others come from the fleet file on replay
            header["step_time"] = step_time_document(options.step_time)
        journal = new_journal(options.journal, rank, header)
    return EmbeddedScheduler(planner, type(scheduler).clock, journal,
                 Calibrator() if options.calibrate else None)

