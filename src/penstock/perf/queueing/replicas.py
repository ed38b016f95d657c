"""The path: the load that equal replicas sustain, for requests of all sizes and classes.

Requests are followed in order of arrival, each with its own size and gap. A request waits for room
in the KV cache, then for its turn to be processed; each wait is for the work that arrived before
(``waits``). The time of a prompt depends on the number of decodes beside it, which depends on when
prompts are done. So the path is computed a few times. The mean state at a rate, and the rates that
have a steady state, come from the curves of ``steps``.

Under a schedule by deadline, prompts of a class that is due earlier go first. Where prompts that
cannot be in time go behind all others, the others no longer wait for them: a late share P becomes
P (1 - rho) / (1 - rho P) (impatient customers: Boots and Tijms 1999).

A request for an adapter waits for a place of the adapter, too (``adapter_places``). This wait is
added to the others, since other requests start meanwhile.

Approximations: replicas share one queue, as if routing were perfect, and preemption for lack of KV
cache is left out. A plan is always checked by simulation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isinf, nan

import numpy as np

from penstock.core.slo import ItlMode
from penstock.perf.queueing.adapter_places import place_waits_s
from penstock.perf.queueing.steps import (
    Array,
    EngineLimits,
    Operation,
    Pace,
    RequestMix,
    StepCurves,
)
from penstock.perf.queueing.waits import Presence, num_others, overtaken_s, queue_wait_s
from penstock.perf.step_time.protocol import StepTimeModel

__all__ = ["ClassTargets", "EngineLimits", "Operation", "ReplicaQueue", "RequestMix"]

_ROUNDS = 2
_NEARLY = 0.8
_MOST_RELIEF = 0.95
_LEAST_RATE = 1e-9  # per second
_RELATIVE_ERROR = 5e-4


@dataclass(frozen=True, slots=True)
class ClassTargets:
    """Targets of one class, seconds (infinite where there is none); ``percentile`` binds all."""

    name: str
    ttft_s: float = inf
    itl_s: float = inf
    e2e_s: float = inf
    itl: ItlMode = "paced"
    percentile: float = 99.0

    @property
    def due_s(self) -> float:
        """The time from arrival by which the first token is due."""
        return min(self.ttft_s, self.e2e_s)


@dataclass(frozen=True, slots=True)
class _Path:
    """The times of every request in seconds: ``first_s`` from arrival to first token, ``rest_s``
    from first to last token. ``load`` is, by class, the load of the requests that are due no later
    than the class. ``place_s`` is the part of ``first_s`` that a request waits for a place of its
    adapter."""

    state: Operation
    first_s: Array
    rest_s: Array
    load: tuple[float, ...]
    place_s: Array


class ReplicaQueue:
    """Equal replicas of one kind under a mix of requests."""

    def __init__(self, model: StepTimeModel, engine: EngineLimits, mix: RequestMix,
                 targets: Sequence[ClassTargets]) -> None:
        self._engine = engine
        self._mix = mix
        self._targets = tuple(targets)
        self._decodes = mix.decodes
        self._paces = [self._pace(index) for index in range(len(self._targets))]
        self._curves = StepCurves(model, engine, mix, self._paces)
        # A request takes its context of KV cache and one of ``max_num_seqs`` slots. The scarcer of
        # the two counts.
        mean_tokens = self._curves.context_tokens
        by_cache = self._curves.most_seqs * mean_tokens >= 0.999 * self._curves.kv_tokens > 0.0
        self._places_each = (mix.context_tokens / mean_tokens if by_cache and mean_tokens
                             else np.ones(len(mix.gaps)))
        self._attention_s = 0.5 * self._curves.work_s * mix.prompt_tokens**2
        self._one_s = model.seconds(0, 0.0, 1, round(self._curves.context_tokens))
        self._at = np.cumsum(mix.gaps)
        self._rows = [np.flatnonzero(mix.class_index == i) for i in range(len(self._targets))]
        bank_s = np.array([pace.bank_s for pace in self._paces])[mix.class_index]
        self._paced = np.flatnonzero(bank_s > 0.0)
        self._paced_ttft_s = bank_s[self._paced]
        due_s = np.array([target.due_s for target in self._targets])
        self._sooner = [np.flatnonzero((due_s < due)[mix.class_index]) for due in due_s]
        self._no_later = [np.flatnonzero((due_s <= due)[mix.class_index]) for due in due_s]
        self._last: tuple[float, int, _Path | None] = (nan, 0, None)

    def _pace(self, index: int) -> Pace:
        """The gaps that a class allows.

        Paced tokens are due from ``ttft_s`` on, so an early first token leaves its slack to the
        later tokens. Longer answers have less slack per token and are found decoding more often, so
        the slack is divided by the mean length of the answers that are found.
        """
        target = self._targets[index]
        decodes = self._decodes[self._mix.class_index == index]
        if target.itl != "paced" or isinf(target.ttft_s) or not decodes.any():
            return Pace(target.itl_s, target.itl_s, 0.0)
        mean_seen = float((decodes * decodes).mean() / decodes.mean())
        return Pace(target.itl_s, target.itl_s + target.ttft_s / mean_seen, target.ttft_s)

    def operation(self, rate_per_s: float) -> Operation | None:
        """The mean state at a rate per replica, or ``None`` where there is no steady state."""
        return self._curves.operation(rate_per_s)

    def saturation_per_s(self) -> float:
        """The rate beyond which a replica has no steady state."""
        return self._curves.saturation_per_s

    # -- the path of requests ----------------------------------------------------------------------

    def _path(self, rate_per_s: float, num_replicas: int) -> _Path | None:
        """The times of every request at a rate per replica; ``None`` without a steady state."""
        if self._last[:2] != (rate_per_s, num_replicas):
            state = self.operation(max(rate_per_s, _LEAST_RATE))
            found = None if state is None else self._followed(
                state, max(rate_per_s, _LEAST_RATE), num_replicas)
            self._last = (rate_per_s, num_replicas, found)
        return self._last[2]

    def _followed(self, state: Operation, rate_per_s: float, num_replicas: int) -> _Path:
        curves = self._curves
        at_s = self._at / (rate_per_s * num_replicas)
        token_s = curves.token_s(np.array(state.decode_seqs), state.ahead)
        prefill_s = self._mix.prompt_tokens * token_s + self._attention_s
        rest_s = self._decodes * state.gap_s
        wait_s = queue_wait_s(at_s, prefill_s, num_replicas)
        first_s = wait_s + prefill_s
        room_s = np.zeros_like(at_s)
        for _ in range(_ROUNDS):
            seqs, gap_s = self._beside(at_s + first_s, rest_s, prefill_s, num_replicas)
            token_s = curves.token_s(seqs, state.ahead * self._early_share(first_s))
            prefill_s = self._mix.prompt_tokens * token_s + self._attention_s
            rest_s = self._decodes * gap_s
            # The start is arrival plus the last round's wait. The last round's first token less
            # this round's prompt might be before the arrival.
            start_s = at_s + wait_s
            wants_room = self._wants_room(start_s, start_s + prefill_s + rest_s, num_replicas)
            if wants_room:
                room_s = self._room_wait_s(at_s, prefill_s + rest_s, self._places_each,
                                           num_replicas)
            wait_s = room_s + self._turn_wait_s(
                at_s + room_s, at_s + first_s, prefill_s, num_replicas)
            first_s = wait_s + prefill_s
        load = [rate_per_s * float(prefill_s.mean())] * len(self._targets)
        if self._engine.by_deadline and len(self._targets) > 1:
            for index in range(len(self._targets)):
                rows = self._rows[index]
                delay_s, load[index] = self._by_deadline(
                    index, at_s, prefill_s, prefill_s + rest_s, wants_room, num_replicas)
                first_s[rows] = delay_s
        if wants_room:  # relegation gives up a turn, but frees no room
            load = [0.0] * len(load)
        place_s = self._place_wait_s(at_s, prefill_s + rest_s, num_replicas)
        return _Path(state, first_s + self._step_ends_s(state) + place_s, rest_s, tuple(load),
                     place_s)

    def _place_wait_s(self, at_s: Array, stay_s: Array, num_replicas: int) -> Array:
        """Waits for places of adapters."""
        index, places = self._mix.adapter_index, self._engine.max_loras
        if index is None or places is None:
            return np.zeros_like(at_s)
        return place_waits_s(at_s, stay_s, index, places, num_replicas,
                             self._engine.adapter_wait_s)

    def _early_share(self, first_s: Array) -> float:
        """The mean part of the TTFT target by which first tokens of paced classes are early."""
        if not self._paced_ttft_s.size:
            return 0.0
        return float(np.maximum(1.0 - first_s[self._paced] / self._paced_ttft_s, 0.0).mean())

    def _turn_wait_s(self, at_s: Array, done_s: Array, work_s: Array,
                     num_replicas: int) -> Array:
        """Waits for a replica to process the prompt; 0 while a replica has no prompt to process."""
        wait_s = queue_wait_s(at_s, work_s, num_replicas)
        if num_replicas > 1:
            wait_s[num_others(at_s, done_s) < num_replicas] = 0.0
        return wait_s

    def _wants_room(self, at_s: Array, end_s: Array, num_replicas: int) -> bool:
        """Whether requests that are processed or decode ever take nearly all of the room."""
        grid = Presence(end_s, len(at_s))
        wanted = grid.present(grid.cell(at_s), grid.cell(end_s), self._places_each)
        return float(wanted.max()) > _NEARLY * self._curves.most_seqs * num_replicas

    def _room_wait_s(self, at_s: Array, stay_s: Array, places_each: Array,
                     num_replicas: int) -> Array:
        """Waits for room: in the KV cache, or for one of the slots of running sequences."""
        return queue_wait_s(at_s, stay_s * places_each, self._curves.most_seqs * num_replicas)

    def _beside(self, join_s: Array, rest_s: Array, prefill_s: Array,
                num_replicas: int) -> tuple[Array, Array]:
        """For each request that begins to decode at ``join_s``: the decodes beside it, and the mean
        gap of its tokens."""
        curves = self._curves
        grid = Presence(join_s + rest_s, len(join_s))
        join, end = grid.cell(join_s), grid.cell(join_s + rest_s)
        present = grid.present(join, end) / num_replicas
        decode_s, full_s = curves.fine[2:, curves.near(present)[join]]
        work_s = grid.accumulated(join, prefill_s / num_replicas)
        share = (work_s[end] - work_s[join]) / np.maximum(rest_s, 1e-9)
        share = np.minimum(share, curves.most_prefill_share)
        per_s = share / np.maximum(full_s, 1e-12) + (1.0 - share) / np.maximum(decode_s, 1e-12)
        return present[join], 1.0 / per_s

    def _by_deadline(self, index: int, at_s: Array, prefill_s: Array, stay_s: Array,
                     wants_room: bool, num_replicas: int) -> tuple[Array, float]:
        """For a class that lets requests due earlier pass: the delays until its prompts are done,
        and the load of all requests that are due no later."""
        rows, due_s = self._no_later[index], self._targets[index].due_s
        at, work_s = at_s[rows], prefill_s[rows]
        delay_s = np.zeros_like(at)
        if wants_room:
            delay_s = self._room_wait_s(at, stay_s[rows], self._places_each[rows], num_replicas)
        delay_s += work_s + queue_wait_s(at + delay_s, work_s, num_replicas)
        own = self._mix.class_index[rows] == index
        at, delay_s = at[own], delay_s[own]
        sooner_s = [target.due_s for target in self._targets if target.due_s < due_s]
        if sooner_s:
            urgent = self._sooner[index]
            delay_s = overtaken_s(at, delay_s, at_s[urgent], prefill_s[urgent] / num_replicas,
                                  due_s - max(sooner_s))
        span_s = max(float(at_s[-1] - at_s[0]), 1e-12)
        return delay_s, float(work_s.sum()) / (num_replicas * span_s)

    def _step_ends_s(self, state: Operation) -> Array:
        """The seconds that an arrival waits for ends of steps: the rest of the running step, and of
        the prompt's last step. Where steps are full, other prompts use the rest of the last step;
        else it costs the time of a step."""
        steps = self._mix.prompt_tokens / max(state.chunk_tokens, 1e-9)
        running = 0.5 * (1.0 - np.exp(-state.decode_seqs))
        alone_s = state.decode_step_s * (running + np.ceil(steps) - steps)
        return np.asarray(state.step_ends_s + (1.0 - state.prompt_time_share) * alone_s)

    # -- latencies and capacity --------------------------------------------------------------------

    def ttft_quantile_s(self, index: int, share: float, rate_per_s: float,
                        num_replicas: int = 1) -> float:
        """The time to first token that ``share`` of a class's requests do not exceed; NaN for a
        class without requests."""
        rows = self._rows[index]
        path = self._path(rate_per_s, num_replicas)
        if path is None:
            return inf
        if not len(rows):
            return nan
        first_s = np.sort(path.first_s[rows])
        late = float((first_s > self._targets[index].due_s).mean())
        still_late = self._still_late(late, path.load[index])
        if share <= 1.0 - still_late:
            level = share * (1.0 - late) / (1.0 - still_late)
        else:
            level = 1.0 - late + late * (share - 1.0 + still_late) / still_late
        return float(first_s[min(max(ceil(level * len(rows) - 1e-9), 1), len(rows)) - 1])

    def adapter_waits_s(self, rate_per_s: float, num_replicas: int = 1) -> Array | None:
        """Return how long each request waits for a place of its adapter, None without a steady
        state."""
        path = self._path(rate_per_s, num_replicas)
        return None if path is None else path.place_s

    def _still_late(self, late: float, load: float) -> float:
        """The share that is still late once late requests go behind all others."""
        if not self._engine.relegates or late <= 0.0 or late >= 1.0:
            return late
        load = min(load, _MOST_RELIEF)
        return late * (1.0 - load) / (1.0 - load * late)

    def misses(self, rate_per_s: float, num_replicas: int = 1) -> list[tuple[float, str]]:
        """By class, the share of requests that miss a target, and the target that most miss."""
        path = self._path(rate_per_s, num_replicas)
        if path is None:
            return [(1.0, "itl" if self._one_s > pace.mean_gap_s else "throughput")
                    for pace in self._paces]
        return [self._class_misses(index, path) for index in range(len(self._targets))]

    def _class_misses(self, index: int, path: _Path) -> tuple[float, str]:
        target, rows = self._targets[index], self._rows[index]
        if self._gap_misses(index, path.state):
            return 1.0, "itl"
        if not len(rows):
            return 0.0, "ttft"
        first_s = path.first_s[rows]
        late = {"ttft": float((first_s > target.ttft_s).mean())}
        if not isinf(target.e2e_s):
            late["e2e"] = float((first_s + path.rest_s[rows] > target.e2e_s).mean())
        binding = max(late, key=lambda name: late[name])
        missed = self._still_late(late[binding], path.load[index])
        due_s = target.ttft_s if binding == "ttft" else target.e2e_s - path.rest_s[rows]
        without = float((first_s - path.place_s[rows] > due_s).mean())
        return missed, binding if 2.0 * without >= late[binding] else "adapters"

    def _gap_misses(self, index: int, state: Operation) -> bool:
        target = self._targets[index]
        if isinf(target.itl_s):
            return False
        if target.itl != "strict":
            return state.gap_s > self._paces[index].mean_gap_s * (1.0 + 1e-9)
        return state.gap_quantile_s(target.percentile / 100.0) > target.itl_s * (1.0 + 1e-9)

    def capacity_per_s(self, num_replicas: int = 1) -> tuple[float, str]:
        """The highest rate per replica at which every class meets its targets, and its limit.

        The rate is 0 where even an idle replica misses a target.
        """
        low, high = 0.0, self.saturation_per_s()
        missed = self.first_miss(high, num_replicas)
        if missed is None:
            return high, "throughput"
        while high - low > max(_RELATIVE_ERROR * high, 1e-6):
            middle = 0.5 * (low + high)
            found = self.first_miss(middle, num_replicas)
            if found is None:
                low = middle
            else:
                high, missed = middle, found
        binding = " ".join(missed)
        return (low, binding) if low > 1e-6 else (0.0, binding)

    def first_miss(self, rate_per_s: float, num_replicas: int = 1) -> tuple[str, str] | None:
        """The first class that misses its objective, and the target that it misses; ``None`` where
        every class meets its objective. Latency targets are named before throughput, because they
        are the reason that throughput is too low."""
        found = [(target.name, name) for (missed, name), target
                 in zip(self.misses(rate_per_s, num_replicas), self._targets, strict=True)
                 if missed > 1.0 - target.percentile / 100.0 + 1e-12]
        return min(found, key=lambda item: item[1] == "throughput", default=None)
