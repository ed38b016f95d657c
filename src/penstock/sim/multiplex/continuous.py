"""Continuous batching on multiplexed devices: the residents of a device run concurrently.

Every resident model has its own iteration scheduler, and the device runs one step at a time. Two
processes on one unpartitioned GPU also share it by time slices, so steps do not overlap.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.errors import InputError
from penstock.core.request import Request
from penstock.core.units import PS_PER_S, to_ps
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.build import build_kv
from penstock.policy.schedule.options import PRESETS, SchedulerOptions
from penstock.policy.schedule.pacing import UNBOUNDED
from penstock.predict.length import HistoryLengths
from penstock.registry.make import build_scheduler
from penstock.sim.kernel import NEVER_PS
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import Ended, ReplicaRecorder
from penstock.sim.replica import SimReplica

_SAMPLE_PS = to_ps(10.0)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Engine settings of a resident model.

    ``step_time`` gives true step durations, ``believed`` those that the scheduler assumes (default:
    the same). The KV cache of ``kv_tokens`` is allocated from load to eviction, as engines do: it
    is part of ``HostedModel.size_bytes``, besides the weights. So memory is divided at load time,
    and no schedule can exceed it. ``adapters`` is an empty store with the room of the model's
    engine, None where the engine takes no adapters; with the model, its adapters go.
    """

    step_time: StepTimeModel
    kv_tokens: int
    schedule: SchedulerOptions = PRESETS["penstock"]
    block_tokens: int = 16
    prefix_caching: bool = False
    believed: StepTimeModel | None = None
    adapters: AdapterStore | None = None

    def __post_init__(self) -> None:
        if self.block_tokens < 1 or self.kv_tokens < self.block_tokens:
            raise InputError(f"kv_tokens {self.kv_tokens}, block_tokens {self.block_tokens}: "
                             "expected room for a block at least")


class Over(NamedTuple):
    """Requests of a model that left its scheduler: answered, or shed for ``reason``."""

    model: int
    request_ids: tuple[int, ...]
    reason: str | None = None


class Residents:
    """The schedulers of a device's resident models, which share the device by time slices.

    While several have work, they run round robin, ``turn_steps`` steps each; a model that was just
    loaded is next. One step is fairest to the pace of tokens; more steps cause fewer events and
    change the ends of requests only slightly. A resident that runs alone jumps over its steady
    steps. Times are whole picoseconds, so a device with one resident behaves exactly like a
    ``SimReplica`` in a cluster.

    ``requests`` and ``output_tokens`` are by request id.
    """

    def __init__(self, specs: Sequence[EngineSpec],
                 requests: Sequence[Request] | Mapping[int, Request],
                 output_tokens: Sequence[int], *, turn_steps: int = 1) -> None:
        if turn_steps < 1:
            raise InputError(f"turn_steps is {turn_steps}, expected at least 1")
        self._specs = specs
        self._requests = requests
        self._outputs = output_tokens
        self._turn_steps = turn_steps
        self.stores: dict[int, AdapterStore] = {}
        """The latest store of adapters of each model with room for them."""
        self._lengths = [HistoryLengths() for _ in specs]
        self._recorders: dict[int, ReplicaRecorder] = {}
        self._replicas: dict[int, SimReplica] = {}
        self._circle: deque[int] = deque()  # round robin; its head runs next
        self._steps_left = turn_steps  # in the present time slice
        self._running = -1  # the model whose steps run
        self._alone = False
        self._refused: list[Over] = []

    @property
    def due_ps(self) -> int:
        """When the present run of steps ends, NEVER_PS while nothing runs."""
        return self._replicas[self._running].end_ps if self._running >= 0 else NEVER_PS

    def load(self, model: int) -> None:
        """Add a resident model with an empty KV cache."""
        spec = self._specs[model]
        kv = build_kv(spec.schedule, spec.kv_tokens // spec.block_tokens, spec.block_tokens,
                      spec.prefix_caching)
        adapters = self.stores.get(model, spec.adapters)
        if adapters is not None:
            adapters = self.stores[model] = adapters.emptied()
        scheduler = build_scheduler(spec.schedule, spec.believed or spec.step_time, kv,
                                    self._lengths[model], lists_decodes=False, adapters=adapters)
        recorder = self._recorders.setdefault(model, ReplicaRecorder(_SAMPLE_PS))
        self._replicas[model] = SimReplica(model, scheduler, StepClock(spec.step_time),
                                           Oracle(self._outputs), recorder, adapters=adapters)
        self._circle.insert(1, model)

    def drop(self, models: Sequence[int]) -> None:
        """Remove residents without requests."""
        for model in models:
            assert not self._replicas[model].scheduler.has_work(), f"model {model} has requests"
            del self._replicas[model]
            if self._circle[0] == model:
                self._next_turn()
            self._circle.remove(model)

    def begin(self, model: int, request_ids: Sequence[int], now_ps: int) -> None:
        """Add requests to a resident. They are computed from the next ``resume`` on."""
        replica = self._replicas[model]
        for request_id in request_ids:
            reason = replica.arrive(self._requests[request_id], now_ps)
            if reason is not None:
                self._refused.append(Over(model, (request_id,), reason))
        if self._alone and self._running not in (-1, model):
            self._replicas[self._running].give_way(now_ps)
            self._alone = False

    def finish(self) -> Over:
        """End the present run of steps now. Returns the requests answered with it."""
        model, self._running = self._running, -1
        replica = self._replicas[model]
        num_steps = replica.recorder.num_steps
        finished = replica.finish()
        self._steps_left -= replica.recorder.num_steps - num_steps
        if self._steps_left <= 0:
            self._next_turn()
        return Over(model, finished)

    def resume(self, now_ps: int) -> list[Over]:
        """Begin the next steps, if none run. Returns requests that were rejected or shed."""
        gone, self._refused = self._refused, []
        if self._running < 0:
            for _ in range(len(self._circle)):
                model = self._circle[0]
                begun = self._begin_steps(model, now_ps)
                gone += self._given_up(model)
                if begun:
                    self._running = model
                    break
                self._next_turn()
        return gone

    def _begin_steps(self, model: int, now_ps: int) -> bool:
        replica = self._replicas[model]
        if not replica.scheduler.has_work():
            return False
        self._alone = not any(other.scheduler.has_work() for other in self._replicas.values()
                              if other is not replica)
        return replica.begin(now_ps, UNBOUNDED if self._alone else self._steps_left)

    def _next_turn(self) -> None:
        self._circle.rotate(-1)
        self._steps_left = self._turn_steps

    def _given_up(self, model: int) -> list[Over]:
        shed, self._replicas[model].shed = self._replicas[model].shed, []
        return [Over(model, (request.request_id,), reason) for request, reason, _ in shed]

    def stop(self, now_ps: int) -> None:
        """End the simulation. Live requests stay unfinished, with their tokens so far."""
        if self._running >= 0:
            self._replicas[self._running].stop(now_ps)
        for recorder in self._recorders.values():
            recorder.cut()
        self._running = -1

    def answers(self) -> dict[int, Ended]:
        """Return times and tokens of the requests that ended since the last call, by model."""
        return {model: recorder.flush() for model, recorder in self._recorders.items()}

    def busy_s(self, model: int) -> float:
        """Return the total duration of a model's steps so far."""
        return self._recorders[model].busy_ps / PS_PER_S if model in self._recorders else 0.0

    def check_integrity(self) -> None:
        """Raise AssertionError unless the books of all residents agree."""
        for replica in self._replicas.values():
            replica.scheduler.check_integrity()
