"""What equal replicas sustain: requests of all sizes and classes before engines with a step budget.

Prompts queue for the part of each step that decodes leave; answers grow beside them. Means come
from a fixed point (Little's law over the decodes), waiting times from an exponential tail whose
mean is Kingman's (1961) and whose weight is Erlang's C formula. A schedule that goes by deadlines
lets a class wait only behind classes that are due no later.

What is approximated: the number of decodes is taken at its mean; arrivals are a renewal process;
requests are routed as if all replicas shared one queue; preemption for lack of KV cache is left
out, and the rate at which the cache fills counts as saturation. Simulation has the last word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isinf, lgamma, log, nan

import numpy as np
from numpy.typing import NDArray

from penstock.perf.protocol import StepTimeModel

Array = NDArray[np.float64]
_GRID = 48


@dataclass(frozen=True, slots=True)
class ClassTargets:
    """Targets of one class, seconds (infinite where there is none); ``percentile`` binds all."""

    name: str
    ttft_s: float = inf
    itl_s: float = inf
    e2e_s: float = inf
    paced: bool = True
    percentile: float = 99.0

    @property
    def due_s(self) -> float:
        """By when the first token is wanted, as far as this class says."""
        return min(self.ttft_s, self.e2e_s)


@dataclass(frozen=True, slots=True)
class RequestMix:
    """Requests as columns of equal length; ``gap_scv`` is the squared coefficient of variation of
    the time between arrivals (1 for a Poisson process)."""

    prompt_tokens: Array
    output_tokens: Array
    class_index: NDArray[np.int64]
    gap_scv: float = 1.0


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How an engine forms steps: their most tokens, whether that budget shrinks to keep the pace
    of decodes (``by_pace``), and whether prompts go by deadline rather than by arrival."""

    step_tokens: int
    kv_tokens: int
    max_num_seqs: int
    by_pace: bool
    by_deadline: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """A replica in its mean state at some rate.

    ``chunk_tokens`` prompt tokens fit into a full step of ``full_step_s``; ``prefill_share`` of the
    time has one; a step without takes ``decode_step_s``; ``gap_s`` is the mean gap of decodes.
    """

    decode_seqs: float
    chunk_tokens: float
    full_step_s: float
    decode_step_s: float
    prefill_share: float
    gap_s: float

    def gap_quantile_s(self, share: float) -> float:
        """The gap that ``share`` of all gaps do not exceed."""
        if self.prefill_share <= 0.0:
            return self.decode_step_s
        full_rate = self.prefill_share / self.full_step_s
        is_full = full_rate * self.gap_s
        return self.full_step_s if is_full > 1.0 - share else self.decode_step_s


class ReplicaQueue:
    """Equal replicas of one kind, before a mix of requests."""

    def __init__(self, model: StepTimeModel, engine: EngineLimits, mix: RequestMix,
                 targets: Sequence[ClassTargets]) -> None:
        self._model = model
        self._engine = engine
        self._mix = mix
        self._targets = tuple(targets)
        prompt, decodes = mix.prompt_tokens, np.maximum(mix.output_tokens - 1.0, 0.0)
        self._decodes = decodes
        self._mean_prompt = float(prompt.mean())
        self._mean_decodes = float(decodes.mean())
        context = float((decodes * (prompt + (decodes + 1.0) / 2.0)).mean())
        self._context_per_decode = context / self._mean_decodes if self._mean_decodes else 0.0
        self._half_squares = 0.5 * prompt * prompt
        self._work_per_token = float(self._half_squares.mean()) / max(self._mean_prompt, 1e-9)
        self._pace_s = [self._pace(index) for index in range(len(self._targets))]
        self._least_pace_s = min(self._pace_s, default=inf)
        slopes = model.slopes
        self._work_s = slopes.work_s if slopes else 0.0

    def _pace(self, index: int) -> float:
        """The mean gap that a class allows. Paced tokens are due from ``ttft_s`` on, so a first
        token that is early leaves its slack to the others; of the requests that decode at an
        instant, the longer ones, which have less of it per token, are the more."""
        target = self._targets[index]
        decodes = self._decodes[self._mix.class_index == index]
        if not target.paced or isinf(target.ttft_s) or not decodes.any():
            return target.itl_s
        mean_seen = float((decodes * decodes).mean() / decodes.mean())
        return target.itl_s + target.ttft_s / mean_seen

    def operation(self, rate_per_s: float) -> Operation | None:
        """The mean state at a rate per replica, or ``None`` where there is no steady one."""
        most = min(float(self._engine.max_num_seqs), self._engine.step_tokens - 1.0)
        if self._context_per_decode > 0.0:
            most = min(most, self._engine.kv_tokens / self._context_per_decode)
        low, high = 0.0, -1.0
        for seqs in (0.0, *np.geomspace(0.05, max(most, 0.06), _GRID).tolist()):
            if seqs > most:
                break
            if self._growth(rate_per_s, seqs) <= seqs:
                high = seqs
                break
            low = seqs
        if high < 0.0:
            return None
        for _ in range(12):
            middle = 0.5 * (low + high)
            if self._growth(rate_per_s, middle) <= middle:
                high = middle
            else:
                low = middle
        return self._state(rate_per_s, high)

    def _growth(self, rate_per_s: float, seqs: float) -> float:
        """Decodes that a rate would keep alive if ``seqs`` of them set the pace."""
        state = self._state(rate_per_s, seqs)
        return inf if state is None else rate_per_s * self._mean_decodes * state.gap_s

    def _state(self, rate_per_s: float, seqs: float) -> Operation | None:
        context = seqs * self._context_per_decode
        decode_s = self._seconds(0.0, seqs, context)
        chunk = float(int(self._chunk_tokens(seqs, context)))
        if chunk < 1.0:
            return None
        full_s = self._seconds(chunk, seqs, context)
        share = rate_per_s * self._mean_prompt * full_s / chunk
        if share >= 1.0:
            return None
        idle_steps = (1.0 - share) / decode_s if decode_s > 0.0 else inf
        full_steps = rate_per_s * self._mean_prompt / chunk
        return Operation(seqs, chunk, full_s, decode_s, share, 1.0 / (full_steps + idle_steps))

    def _chunk_tokens(self, seqs: float, context: float) -> float:
        most = self._engine.step_tokens - seqs
        if not self._engine.by_pace or isinf(self._least_pace_s):
            return most
        if self._seconds(most, seqs, context) <= self._least_pace_s:
            return most
        low, high = 0.0, most
        while high - low > 0.125:
            middle = 0.5 * (low + high)
            if self._seconds(middle, seqs, context) <= self._least_pace_s:
                low = middle
            else:
                high = middle
        return low

    def _seconds(self, chunk: float, seqs: float, context: float) -> float:
        # Models count whole sequences; between two whole numbers they are nearly linear.
        below = int(seqs)
        part = seqs - below
        work = chunk * self._work_per_token
        tokens = round(chunk)
        lower = self._model.seconds(tokens, work, below, round(context))
        if part <= 0.0:
            return lower
        upper = self._model.seconds(tokens, work, below + 1, round(context))
        return lower + part * (upper - lower)

    def prefill_s(self, state: Operation) -> Array:
        """Per request, the time in which its prompt is processed once its turn has come."""
        per_token = (state.full_step_s - self._work_s * state.chunk_tokens * self._work_per_token)
        return (self._mix.prompt_tokens * (per_token / state.chunk_tokens)
                + self._work_s * self._half_squares)

    def saturation_per_s(self) -> float:
        """The rate beyond which a replica has no steady state."""
        low, high = 0.0, 1.0
        while self.operation(high) is not None and high < 1e6:
            low, high = high, 2.0 * high
        for _ in range(24):
            middle = 0.5 * (low + high)
            if self.operation(middle) is not None:
                low = middle
            else:
                high = middle
        return low

    def misses(self, rate_per_s: float, num_replicas: int = 1) -> list[tuple[float, str]]:
        """Per class, the share of its requests that miss a target, and which target binds most."""
        state = self.operation(rate_per_s)
        if state is None:
            one_s = self._seconds(0.0, 1.0, self._context_per_decode)
            return [(1.0, "itl" if one_s > pace_s else "throughput") for pace_s in self._pace_s]
        prefill_s = self.prefill_s(state)
        return [self._class_misses(index, rate_per_s, num_replicas, state, prefill_s)
                for index in range(len(self._targets))]

    def _class_misses(self, index: int, rate_per_s: float, num_replicas: int, state: Operation,
                      prefill_s: Array) -> tuple[float, str]:
        target = self._targets[index]
        if self._gap_misses(index, state):
            return 1.0, "itl"
        rows = self._mix.class_index == index
        wait = self._wait(index, rate_per_s, num_replicas, state, prefill_s)
        shares = {"ttft": wait.exceeds(target.ttft_s - prefill_s[rows] - state.gap_s)}
        if not isinf(target.e2e_s):
            rest_s = self._decodes[rows] * state.gap_s
            shares["e2e"] = wait.exceeds(target.e2e_s - prefill_s[rows] - state.gap_s - rest_s)
        binding = max(shares, key=lambda name: shares[name])
        return shares[binding], binding

    def _gap_misses(self, index: int, state: Operation) -> bool:
        target = self._targets[index]
        if isinf(target.itl_s):
            return False
        if target.paced:
            return state.gap_s > self._pace_s[index] * (1.0 + 1e-9)
        return state.gap_quantile_s(target.percentile / 100.0) > target.itl_s * (1.0 + 1e-9)

    def _wait(self, index: int, rate_per_s: float, num_replicas: int, state: Operation,
              prefill_s: Array) -> "WaitTail":
        ahead = np.ones(len(prefill_s), dtype=np.bool_)
        if self._engine.by_deadline:
            due_s = self._targets[index].due_s
            first = [i for i, t in enumerate(self._targets) if t.due_s <= due_s]
            ahead = np.isin(self._mix.class_index, first)
        work = prefill_s[ahead]
        share = len(work) / len(prefill_s)
        mean_s = float(work.mean()) if len(work) else 0.0
        if mean_s <= 0.0:
            return WaitTail(0.0, 1.0)
        load = rate_per_s * share * mean_s
        work_scv = float(work.var()) / (mean_s * mean_s)
        gap_scv = 1.0 + share * (self._mix.gap_scv - 1.0)
        if load >= 1.0:
            return WaitTail(1.0, inf)
        mean_wait_s = mean_s * 0.5 * (gap_scv + work_scv) / (num_replicas * (1.0 - load))
        if mean_wait_s <= 0.0:  # equal requests at equal distances
            return WaitTail(0.0, 1.0)
        return WaitTail(erlang_c(num_replicas, num_replicas * load), mean_wait_s)

    def ttft_quantile_s(self, index: int, share: float, rate_per_s: float,
                        num_replicas: int = 1) -> float:
        """The time to first token that ``share`` of a class's requests do not exceed; NaN for a
        class without any."""
        state = self.operation(rate_per_s)
        if state is None:
            return inf
        prefill_s = self.prefill_s(state)
        own = prefill_s[self._mix.class_index == index] + state.gap_s
        if not len(own):
            return nan
        wait = self._wait(index, rate_per_s, num_replicas, state, prefill_s)
        if isinf(wait.mean_s):
            return inf
        late = max(1.0 - share, 1e-12)
        low, high = 0.0, float(own.max()) + wait.mean_s * max(1.0, -2.0 * log(late))
        for _ in range(40):
            middle = 0.5 * (low + high)
            if wait.exceeds(middle - own) <= late:
                high = middle
            else:
                low = middle
        return high

    def capacity_per_s(self, num_replicas: int = 1) -> tuple[float, str]:
        """The highest rate per replica at which every class meets its targets, and what binds.

        0 where a target cannot be met even by an idle replica.
        """
        low, high = 0.0, self.saturation_per_s()
        missed = self.first_miss(high, num_replicas)
        if missed is None:
            return high, "throughput"
        for _ in range(30):
            middle = 0.5 * (low + high)
            found = self.first_miss(middle, num_replicas)
            if found is None:
                low = middle
            else:
                high, missed = middle, found
        binding = " ".join(missed)
        return (low, binding) if low > 1e-6 else (0.0, binding)

    def first_miss(self, rate_per_s: float, num_replicas: int = 1) -> tuple[str, str] | None:
        """The first class that misses its objective, and the target that binds it; ``None`` where
        every class meets it. Targets of latency go before want of throughput, their effect."""
        found = [(target.name, name) for (missed, name), target
                 in zip(self.misses(rate_per_s, num_replicas), self._targets, strict=True)
                 if missed > 1.0 - target.percentile / 100.0 + 1e-12]
        return min(found, key=lambda item: item[1] == "throughput", default=None)


@dataclass(frozen=True, slots=True)
class WaitTail:
    """P(wait > t) = weight * exp(-t / mean_s)."""

    weight: float
    mean_s: float

    def exceeds(self, slack_s: Array) -> float:
        """Mean probability of waiting longer than each slack, which may be negative or infinite."""
        if not len(slack_s):
            return 0.0
        late = slack_s < 0.0
        if isinf(self.mean_s):
            return 1.0 if self.weight >= 1.0 else float(late.mean())
        tail = self.weight * np.exp(-np.where(late, 0.0, slack_s) / self.mean_s)
        return float(np.where(late, 1.0, tail).mean())


def erlang_c(servers: int, load: float) -> float:
    """Probability that an arrival waits, ``load`` = arrival rate x mean service (Erlang 1917)."""
    if load <= 0.0:
        return 0.0
    if load >= servers:
        return 1.0
    log_terms = [n * log(load) - lgamma(n + 1.0) for n in range(servers + 1)]
    last = log_terms[-1] - log(1.0 - load / servers)
    peak = max(last, max(log_terms[:-1]))
    return exp(last - peak) / (sum(exp(term - peak) for term in log_terms[:-1])
                               + exp(last - peak))
