"""Steps of a replica under a mix of requests, by the number n of requests that decode.

With n decodes, a step without prompts takes t(n), and a full step carries c(n) prompt tokens. A
request has P prompt tokens and D decodes, and its prompt adds p(n) to the steps that carry it. So
the replica completes n / (D t(n) + n p(n)) requests per second, and at most c(n) / P prompts pass
per full step. At a given rate, n is the number at which completions reach the rate (Little's law).
All curves depend on n alone and are computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf

import numpy as np
from numpy.typing import NDArray

from penstock.perf.step_time.protocol import StepTimeModel

Array = NDArray[np.float64]

_NUM_POINTS = 48
_FEWEST_SEQS = 0.05
_NUM_SAMPLED = 128
_MOST_IN_ROW = 4
_NUM_FINE = 2048


@dataclass(frozen=True, slots=True)
class RequestMix:
    """Requests in order of arrival, as columns of equal length.

    ``gaps`` are the times since the previous arrival in units of the mean gap; a rate scales them.
    ``turn_tokens`` is the mean number of tokens of a decode's turn, of all requests or of each:
    more than 1 under speculative decoding. ``adapter_index`` numbers the adapters, -1 for the model
    itself; None where no request names one.
    """

    prompt_tokens: Array
    output_tokens: Array
    class_index: NDArray[np.int64]
    gaps: Array
    turn_tokens: Array | float = 1.0
    adapter_index: NDArray[np.int64] | None = None

    @property
    def decodes(self) -> Array:
        """The turns of each request after its first token."""
        return np.maximum(self.output_tokens - 1.0, 0.0) / self.turn_tokens

    @property
    def context_tokens(self) -> Array:
        """Mean KV tokens of each request while it decodes."""
        return self.prompt_tokens + (np.maximum(self.output_tokens - 1.0, 0.0) + 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How an engine forms steps and admits requests.

    A step holds at most ``step_tokens``. With ``by_pace``, it holds fewer where decodes would fall
    behind their pace, and may spend ``slack_spend_fraction`` of the time by which decodes are
    ahead. With ``by_deadline``, prompts go by deadline instead of arrival. With ``relegates``,
    prompts that cannot be in time go behind all others. At most ``max_loras`` adapters have started
    requests, None without a limit; a request waits ``adapter_wait_s`` for its adapter before
    another makes way, None for ever.
    """

    step_tokens: int
    kv_tokens: int
    max_num_seqs: int
    by_pace: bool
    by_deadline: bool
    relegates: bool = False
    slack_spend_fraction: float = 0.0
    max_loras: int | None = None
    adapter_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """The gaps that a class allows: ``mean_gap_s`` in the long run, ``itl_s`` without spending any
    slack. ``bank_s`` is the most slack that a request can have."""

    itl_s: float
    mean_gap_s: float
    bank_s: float

    def ahead(self, gap_s: float) -> float:
        """The mean part of ``bank_s`` that is unspent, 0..1: the nearer the mean gap is to
        ``mean_gap_s``, the less is left."""
        if self.mean_gap_s <= self.itl_s:
            return 0.0
        left = (self.mean_gap_s - gap_s) / (self.mean_gap_s - self.itl_s)
        return min(max(left, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Operation:
    """A replica in its mean state at some rate.

    ``chunk_tokens`` prompt tokens fit into a full step of ``full_step_s``. If every step with
    prompts were full, such steps would take ``prefill_share`` of the time. Steps with prompts take
    ``prompt_step_s``, longest first, and ``prompt_steps_per_s`` of each come per second. A step
    without prompts takes ``decode_step_s``. ``gap_s`` is the mean gap of decodes; ``ahead`` is the
    unspent part of their slack.
    """

    decode_seqs: float
    chunk_tokens: float
    full_step_s: float
    decode_step_s: float
    prefill_share: float
    gap_s: float
    ahead: float
    prompt_step_s: Array
    prompt_steps_per_s: Array

    def gap_quantile_s(self, share: float) -> float:
        """The gap that ``share`` of all gaps do not exceed."""
        longer = np.cumsum(self.prompt_steps_per_s) * self.gap_s > 1.0 - share
        return float(self.prompt_step_s[longer.argmax()]) if longer.any() else self.decode_step_s

    @property
    def step_ends_s(self) -> float:
        """The mean remaining time of the running step, over steps with prompts."""
        return 0.5 * float((self.prompt_steps_per_s * self.prompt_step_s**2).sum())

    @property
    def prompt_time_share(self) -> float:
        """The part of the time in which steps with prompts run."""
        return min(float((self.prompt_steps_per_s * self.prompt_step_s).sum()), 1.0)


class _PromptSteps:
    """The lengths of steps with prompts. Prompts come alone, or several in a row.

    At a load of rho, k prompts come in a row with probability (1 - rho) rho^(k - 1), as in M/M/1.
    They fill steps, and their last tokens make a shorter step.
    """

    def __init__(self, prompt_tokens: Array) -> None:
        starts = np.linspace(0, len(prompt_tokens) - 1, _NUM_SAMPLED).astype(np.int64)
        in_row = (starts[:, None] + np.arange(_MOST_IN_ROW)) % len(prompt_tokens)
        self._tokens = np.cumsum(prompt_tokens[in_row], axis=1)

    def lengths(self, rate_per_s: float, load: float, chunk: float, decode_s: float,
                full_s: float) -> tuple[Array, Array]:
        """The lengths, longest first, and the number of each per second."""
        row = (1.0 - load) * load ** np.arange(_MOST_IN_ROW)
        row[-1] = load ** (_MOST_IN_ROW - 1)
        per_s = rate_per_s / float((row * np.arange(1, _MOST_IN_ROW + 1)).sum())
        num_full = np.floor(self._tokens / chunk)
        left = self._tokens - num_full * chunk
        rows_per_s = np.broadcast_to(per_s * row / len(self._tokens), left.shape)
        lengths = (decode_s + (full_s - decode_s) * left / chunk).ravel()
        order = np.argsort(-lengths)
        return (np.concatenate(([full_s], lengths[order])),
                np.concatenate(([float((rows_per_s * num_full).sum())],
                                (rows_per_s * (left > 0.0)).ravel()[order])))


class StepCurves:
    """The curves t(n), c(n) and the time of a full step on a grid of n, and the mean states.

    A full step is as long as the pace of decodes allows in the long run. A banked step is longer:
    it spends slack of decodes that are ahead of their pace. ``fine`` has four rows over equally
    spaced n: the seconds of a prompt token in a full step and in a banked step (both without
    attention, which takes ``work_s`` per token squared), t(n), and the time of a full step.
    """

    def __init__(self, model: StepTimeModel, engine: EngineLimits, mix: RequestMix,
                 paces: Sequence[Pace]) -> None:
        self._model = model
        self._engine = engine
        self._paces = [pace for pace in paces if not isinf(pace.mean_gap_s)]
        prompt, decodes = mix.prompt_tokens, mix.decodes
        self._prompt = float(prompt.mean())
        self._decodes = float(decodes.mean())
        self._work_per_token = float((prompt * prompt).mean()) / 2.0 / max(self._prompt, 1e-9)
        self.work_s = model.slopes.work_s if model.slopes else 0.0
        self._prompt_steps = _PromptSteps(prompt)
        held = float((decodes * mix.context_tokens).mean())
        self.context_tokens = held / self._decodes if self._decodes else 0.0
        # A prompt waits until all of it fits, so half a prompt of the cache is free on average
        # (more with unequal prompts, because long prompts wait longer).
        stranded = float((prompt * prompt).mean()) / (2.0 * max(self._prompt, 1e-9))
        self.kv_tokens = max(engine.kv_tokens - stranded, 0.0)
        most = min(float(engine.max_num_seqs), engine.step_tokens - 1.0)
        if self.context_tokens > 0.0:
            most = min(most, self.kv_tokens / self.context_tokens)
        self.most_seqs = most
        grid = np.geomspace(_FEWEST_SEQS, max(most, 1.01 * _FEWEST_SEQS), _NUM_POINTS)
        self.seqs = np.concatenate([[0.0], grid])
        columns = [self._at(float(seqs)) for seqs in self.seqs]
        (self.decode_step_s, self.chunk_tokens, self.full_step_s, self._banked_chunk,
         self._banked_step_s) = map(np.array, zip(*columns, strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            token_s = self._token_s(self.chunk_tokens, self.full_step_s)
            banked_token_s = self._token_s(self._banked_chunk, self._banked_step_s)
            self._share = self._prompt * self.full_step_s / self.chunk_tokens
            passed = np.where(self.chunk_tokens >= 1.0, 1.0 / self._share, 0.0)
            prompt_s = self._share * (1.0 - self.decode_step_s / self.full_step_s)
            kept_up = self.seqs / (self._decodes * self.decode_step_s + self.seqs * prompt_s)
        kept_up = np.where(np.isnan(kept_up), inf, kept_up)
        kept_up[0] = inf if self._decodes == 0.0 else 0.0
        fine = np.linspace(0.0, max(most, _FEWEST_SEQS), _NUM_FINE)
        self.fine = np.stack([np.interp(fine, self.seqs, curve) for curve in (
            token_s, banked_token_s, self.decode_step_s, self.full_step_s)])
        self._rate = np.minimum(kept_up, passed)
        if self._decodes == 0.0:
            self._rate[:] = self._rate[0]
        if most <= 0.0:
            self._rate[:] = 0.0
        # Where all room is taken, a prompt enters only when a request leaves.
        full_per_s = float(self._rate[-1])
        self.most_prefill_share = (min(full_per_s * float(self._share[-1]), 1.0)
                                   if 0.0 < full_per_s < inf else 1.0)

    @property
    def saturation_per_s(self) -> float:
        """The rate above which there is no steady state."""
        return float(self._rate.max())

    def operation(self, rate_per_s: float) -> Operation | None:
        """The mean state at a rate, or ``None`` where there is no steady state."""
        enough = self._rate >= rate_per_s
        first = int(enough.argmax())
        if not enough[first] or self._rate[first] <= 0.0:
            return None
        seqs = float(self.seqs[first])
        if first > 0:
            below, above = self._rate[first - 1], self._rate[first]
            part = 1.0 if isinf(above) else (rate_per_s - below) / (above - below)
            seqs = float(self.seqs[first - 1] + part * (seqs - self.seqs[first - 1]))
        decode_s, chunk, full_s, banked_chunk, banked_s = (
            float(np.interp(seqs, self.seqs, curve)) for curve in (
                self.decode_step_s, self.chunk_tokens, self.full_step_s, self._banked_chunk,
                self._banked_step_s))
        full_per_s = rate_per_s * self._prompt / chunk
        share = min(full_per_s * full_s, 1.0)
        per_s = full_per_s + ((1.0 - share) / decode_s if decode_s > 0.0 else inf)
        gap_s = 1.0 / per_s if per_s else inf
        ahead = min((pace.ahead(gap_s) for pace in self._paces), default=0.0)
        chunk += ahead * (banked_chunk - chunk)
        full_s += ahead * (banked_s - full_s)
        share = min(rate_per_s * self._prompt * full_s / chunk, 1.0)
        lengths = self._prompt_steps.lengths(rate_per_s, share, chunk, decode_s, full_s)
        return Operation(seqs, chunk, full_s, decode_s, share, gap_s, ahead, *lengths)

    def token_s(self, seqs: Array, ahead: float) -> Array:
        """Seconds of a prompt token beside ``seqs`` decodes with the part ``ahead`` of slack."""
        full_s, banked_s = self.fine[:2, self.near(seqs)]
        return np.asarray(full_s + ahead * (banked_s - full_s))

    def _token_s(self, chunk: Array, step_s: Array) -> Array:
        return np.asarray(step_s / np.maximum(chunk, 1.0) - self.work_s * self._work_per_token)

    def near(self, seqs: Array) -> NDArray[np.intp]:
        """The columns of ``fine`` for numbers of decodes; larger numbers get the last column."""
        column = seqs * ((_NUM_FINE - 1) / max(self.most_seqs, _FEWEST_SEQS)) + 0.5
        return np.minimum(column, _NUM_FINE - 1.0).astype(np.intp)

    def _at(self, seqs: float) -> tuple[float, ...]:
        """The curves at one n: the time of a step without prompts, then chunk and time of a full
        step, then chunk and time of a banked step."""
        most = self._engine.step_tokens - seqs
        found = [self._seconds(0.0, seqs)]
        paces = self._paces if self._engine.by_pace else []
        for allowed_s in (min((pace.mean_gap_s for pace in paces), default=inf),
                          min((pace.itl_s + self._engine.slack_spend_fraction * pace.bank_s
                               for pace in paces), default=inf)):
            chunk = self._longest_chunk(most, seqs, allowed_s)
            if len(found) > 1 and chunk < found[1]:
                chunk = found[1]
            found += [chunk, self._seconds(max(chunk, 1.0), seqs)]
        return tuple(found)

    def _longest_chunk(self, most: float, seqs: float, allowed_s: float) -> float:
        if most <= 0.0 or isinf(allowed_s) or self._seconds(most, seqs) <= allowed_s:
            return most
        low, high = 0.0, most
        while high - low > 0.125:
            middle = 0.5 * (low + high)
            if self._seconds(middle, seqs) <= allowed_s:
                low = middle
            else:
                high = middle
        return low

    def _seconds(self, chunk: float, seqs: float) -> float:
        # Step-time models take whole sequences; between two numbers they are nearly linear.
        below = int(seqs)
        part = seqs - below
        work, tokens = chunk * self._work_per_token, round(chunk)
        context = round(seqs * self.context_tokens)
        lower = self._model.seconds(tokens, work, below, context)
        if part <= 0.0:
            return lower
        upper = self._model.seconds(tokens, work, below + 1, context)
        return lower + part * (upper - lower)
