"""How long a request would take on a replica: a prior from step times, corrected while it runs.

The prior says what a step costs at the replica's present load. A correction learns as requests end
what the prior leaves out (prompts still to come, drift, a wrong fit), and the residuals that remain
give the chance that a target is kept: split conformal prediction over a sliding window (Vovk et
al., 2005), on the logarithm of observed / predicted.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass, field
from math import ceil, exp, inf, log
from typing import Any, ClassVar, Final, NamedTuple

from penstock.core.snapshot import ReplicaSnapshot
from penstock.core.value import Value, made_again
from penstock.perf.step_time.decode_times import DecodeTimes
from penstock.perf.step_time.protocol import StepTimeModel

TTFT, TPOT, E2E = range(3)
_LEAST_S = 1e-9  # a step's time: ratios to a prediction need one


class Pace(Value):
    """Latency terms that follow from a replica's present load, for any request.

    ``wait_s`` passes before its prompt gets its first share of a step; each started chunk of
    ``chunk_tokens`` costs ``chunk_s``, each prompt token ``token_s``; an output token ``tpot_s``.
    ``seq_s`` is what one more sequence adds to every step, ``context_s`` one more token of context.
    ``factors`` correct TTFT and TPOT.
    """

    __match_args__ = ("wait_s", "queued_tokens", "chunk_tokens", "chunk_s", "token_s", "tpot_s",
                      "seq_s", "context_s", "factors")

    def __init__(self, wait_s: float, queued_tokens: int, chunk_tokens: int, chunk_s: float,
                 token_s: float, tpot_s: float, seq_s: float, context_s: float,
                 factors: tuple[float, float] = (1.0, 1.0)) -> None:
        self.wait_s: Final = wait_s
        self.queued_tokens: Final = queued_tokens
        self.chunk_tokens: Final = chunk_tokens
        self.chunk_s: Final = chunk_s
        self.token_s: Final = token_s
        self.tpot_s: Final = tpot_s
        self.seq_s: Final = seq_s
        self.context_s: Final = context_s
        self.factors: Final = factors

    def corrected(self, factors: tuple[float, float]) -> "Pace":
        """Return the same pace with other factors."""
        return Pace(self.wait_s, self.queued_tokens, self.chunk_tokens, self.chunk_s, self.token_s,
                    self.tpot_s, self.seq_s, self.context_s, factors)

    def ttft_s(self, prompt_tokens: int) -> float:
        """Time to the first token of a prompt of which so many tokens are to be computed."""
        tokens = self.queued_tokens + max(1, prompt_tokens)
        chunks = -(-tokens // self.chunk_tokens)
        return (self.wait_s + chunks * self.chunk_s + tokens * self.token_s) * self.factors[TTFT]

    def tpot_of(self, context_tokens: float) -> float:
        """Time per output token at that context."""
        return (self.tpot_s + self.context_s * context_tokens) * self.factors[TPOT]


@dataclass(frozen=True, slots=True)
class LatencyPrior:
    """Latency from what a step costs, before anything was observed.

    ``chunk_tokens`` is how much of prompts a step takes, ``max_num_seqs`` how many sequences run.
    """

    step: StepTimeModel
    max_num_seqs: int
    chunk_tokens: int = 512
    _decodes: DecodeTimes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_decodes", DecodeTimes(self.step))

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)

    def pace(self, replica: ReplicaSnapshot) -> Pace:
        """The pace at a replica's load. Those who wait will decode beside the newcomer.

        Fits that fall below 0 outside their range (published ones do) count as no time at all.
        """
        seconds = self.step.seconds
        running, waiting = replica.num_running, replica.num_waiting
        context = replica.kv_used_tokens
        together = min(running + waiting, self.max_num_seqs - 1)
        chunk_s = max(_LEAST_S, seconds(0, 0.0, running, context))
        full_s = seconds(self.chunk_tokens, 0.5 * self.chunk_tokens**2, running, context)
        alone_s = self._decodes.seconds(1, 0)
        tpot_s = max(_LEAST_S, seconds(0, 0.0, together + 1,
                                       context + replica.queued_prompt_tokens))
        slopes = self.step.slopes
        context_s = slopes.context_s if slopes is not None else 0.0
        seq_s = max(0.0, self._decodes.seconds(together + 2, 0) - alone_s) / (together + 1)
        wait_s = replica.load_s + self._seat_wait_s(replica, tpot_s)
        return Pace(wait_s + 0.5 * chunk_s * (running > 0),
                    replica.queued_prompt_tokens, self.chunk_tokens, max(chunk_s, alone_s),
                    max(0.0, full_s - chunk_s) / self.chunk_tokens, tpot_s, seq_s, context_s)

    def _seat_wait_s(self, replica: ReplicaSnapshot, tpot_s: float) -> float:
        """How long until enough sequences have ended for the newcomer to run.

        Those who run are somewhere in the middle of answers of length n, so the k-th of r ends
        after nk/(r+1). Those who wait have all of it before them: once as many as run have ended,
        seats are taken for whole answers.
        """
        running, present = replica.num_running, replica.num_running + replica.num_waiting
        if not present:
            return 0.0
        mean_kv = (replica.kv_used_tokens + replica.queued_prompt_tokens) / present
        seats = float(self.max_num_seqs)
        if mean_kv > 0.0:
            seats = min(seats, max(1.0, replica.kv_total_tokens / mean_kv))
        must_end = present + 1 - seats
        if must_end <= 0.0:
            return 0.0
        answer_s = tpot_s * replica.pending_output_tokens / (0.5 * running + replica.num_waiting)
        if must_end <= running:
            return answer_s * must_end / (running + 1)
        return answer_s * max(1.0, must_end / seats)


class Correction:
    """ln(observed / predicted) as a line in the load, by least squares with forgetting.

    The features are 1, the share of seats taken and a share of queued prompt tokens. Forgetting
    keeps about ``1 / (1 - FORGETTING)`` observations in mind, and leads back to the prior (no
    correction) in directions of the load that are seen no more: without that, a load that stays the
    same for long would leave the other weights undetermined. One observation moves the line by at
    most what a ratio of ``e ** MOST`` would.
    """

    __slots__ = ("_information", "_seen", "_weights")

    FORGETTING: ClassVar[float] = 0.99
    MOST: ClassVar[float] = 2.0
    # How many observations hold each weight to 0: one for the level, more for slopes; and how much
    # of that is never forgotten.
    PRIOR: ClassVar[tuple[float, float, float]] = (1.0, 4.0, 4.0)
    KEPT: ClassVar[float] = 0.05

    def __init__(self) -> None:
        level, seats, queue = self.PRIOR
        self._weights = (0.0, 0.0, 0.0)
        # Sums of products of features (the upper half of a symmetric matrix, row by row), and of
        # observations by feature.
        self._information = (level, 0.0, 0.0, seats, 0.0, queue)
        self._seen = (0.0, 0.0, 0.0)

    def log_factor(self, load: tuple[float, float]) -> float:
        """The correction at a load: (share of seats, share of queue), both 0 to 1."""
        level, seats, queue = self._weights
        value = level + seats * load[0] + queue * load[1]
        return min(self.MOST, max(-self.MOST, value))

    def update(self, load: tuple[float, float], log_ratio: float) -> None:
        """Learn ln(observed / prior) at a load."""
        x, y = load
        seen = min(self.MOST, max(-self.MOST, log_ratio))
        keep = self.FORGETTING
        level, seats, queue = self.PRIOR
        back = (1.0 - keep) * self.KEPT
        one, one_x, one_y, xx, xy, yy = self._information
        self._information = (keep * one + 1.0 + back * level, keep * one_x + x, keep * one_y + y,
                             keep * xx + x * x + back * seats, keep * xy + x * y,
                             keep * yy + y * y + back * queue)
        sum_one, sum_x, sum_y = self._seen
        self._seen = (keep * sum_one + seen, keep * sum_x + x * seen, keep * sum_y + y * seen)
        self._weights = _solved(self._information, self._seen)


def _solved(upper: tuple[float, float, float, float, float, float],
            right: tuple[float, float, float]) -> tuple[float, float, float]:
    """The solution of three equations with a symmetric, positive definite matrix (elimination)."""
    a, b, c, d, e, f = upper
    p, q, r = right
    d, e, f = d - b * b / a, e - b * c / a, f - c * c / a
    y, z = q - b * p / a, r - c * p / a
    last = (z - e * y / d) / (f - e * e / d)
    middle = (y - e * last) / d
    return (p - b * middle - c * last) / a, middle, last


class Residuals:
    """The last residuals ln(observed / predicted), for quantiles and chances.

    At first, ``PRIOR`` stands in: a spread of a factor of about two either way at one in twenty. It
    leaves when the window is full, being the oldest.
    """

    __slots__ = ("_recent", "_sorted")

    WINDOW: ClassVar[int] = 256
    PRIOR: ClassVar[tuple[float, ...]] = (-0.7, -0.4, -0.25, -0.1, 0.0, 0.1, 0.25, 0.4, 0.7)

    def __init__(self) -> None:
        self._recent: deque[float] = deque(self.PRIOR)
        self._sorted = list(self.PRIOR)

    def add(self, residual: float) -> None:
        """Remember one, forget the oldest."""
        if len(self._recent) >= self.WINDOW:
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._recent.append(residual)
        insort(self._sorted, residual)

    def chance(self, log_room: float) -> float:
        """The chance that a residual is at most ``log_room`` (conformal: one more than seen)."""
        num = len(self._sorted)
        # Mostly there is ample room.
        below = num if log_room >= self._sorted[num - 1] else bisect_right(self._sorted, log_room)
        return (below + 0.5) / (num + 1)

    def quantile(self, share: float) -> float:
        """The residual that a new one stays below with at least that chance; inf where too few
        were seen to say so."""
        rank = max(0, ceil(share * (len(self._sorted) + 1)) - 1)
        return self._sorted[rank] if rank < len(self._sorted) else inf


class Asked(NamedTuple):
    """A request as it was predicted when it was sent: what is learned from when it has ended."""

    load: tuple[float, float]
    prior_ttft_s: float
    prior_tpot_s: float
    ttft_s: float
    tpot_s: float
    e2e_s: float


class LatencyPredictor:
    """The prior of one kind of replica with what was learned about it."""

    QUEUE_TOKENS: ClassVar[float] = 4096.0  # a queue of this many prompt tokens is half full

    def __init__(self, prior: LatencyPrior) -> None:
        self.prior = prior
        self._corrections = (Correction(), Correction())
        self._residuals = (Residuals(), Residuals(), Residuals())

    def load(self, replica: ReplicaSnapshot) -> tuple[float, float]:
        """The features of the correction."""
        seats = (replica.num_running + replica.num_waiting) / self.prior.max_num_seqs
        queued = replica.queued_prompt_tokens
        return min(1.0, seats), queued / (queued + self.QUEUE_TOKENS)

    def pace(self, replica: ReplicaSnapshot) -> Pace:
        """The corrected pace at a replica's load."""
        return self.corrected(replica, self.prior.pace(replica))

    def corrected(self, replica: ReplicaSnapshot, pace: Pace) -> Pace:
        """Return the pace at a replica's load with the present corrections."""
        load = self.load(replica)
        ttft, tpot = self._corrections
        return pace.corrected((exp(ttft.log_factor(load)), exp(tpot.log_factor(load))))

    def chance(self, what: int, predicted_s: float, limit_s: float) -> float:
        """The chance that TTFT, TPOT or E2E stays within a limit, given its prediction."""
        if predicted_s <= 0.0:
            return 1.0
        if limit_s <= 0.0:
            return 0.0
        return self._residuals[what].chance(log(limit_s / predicted_s))

    def upper_s(self, what: int, predicted_s: float, share: float) -> float:
        """Return the latency that is not exceeded with at least that chance, seconds (may be
        inf)."""
        return predicted_s * exp(self._residuals[what].quantile(share))

    def asked(self, replica: ReplicaSnapshot, pace: Pace, prompt_tokens: int,
              output_tokens: float) -> Asked:
        """Note a request that is sent to a replica of this kind."""
        ttft_s = pace.ttft_s(prompt_tokens)
        tpot_s = pace.tpot_of(prompt_tokens + 0.5 * output_tokens)
        return Asked(self.load(replica), ttft_s / pace.factors[TTFT], tpot_s / pace.factors[TPOT],
                     ttft_s, tpot_s, ttft_s + output_tokens * tpot_s)

    def ended(self, asked: Asked, ttft_s: float, e2e_s: float, output_tokens: int) -> None:
        """Learn from a request that came to its natural end."""
        if ttft_s <= 0.0 or e2e_s < ttft_s:
            return
        self._corrections[TTFT].update(asked.load, log(ttft_s / asked.prior_ttft_s))
        self._residuals[TTFT].add(log(ttft_s / asked.ttft_s))
        self._residuals[E2E].add(log(e2e_s / asked.e2e_s))
        if output_tokens > 1 and e2e_s > ttft_s:
            tpot_s = (e2e_s - ttft_s) / (output_tokens - 1)
            self._corrections[TPOT].update(asked.load, log(tpot_s / asked.prior_tpot_s))
            self._residuals[TPOT].add(log(tpot_s / asked.tpot_s))
