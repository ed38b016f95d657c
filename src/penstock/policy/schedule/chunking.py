"""Chunking: how many prompt tokens a step may take, besides its decodes."""

from typing import Final, Protocol

from penstock.core.value import Value
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.schedule.options import SchedulerOptions
from penstock.policy.schedule.sequence import Sequence


class DecodeLoad(Value):
    """The decodes of the step being planned; ``slack_s`` is the tightest (inf when none binds).
    ``drafts`` are the drafted tokens that all decodes together verify."""

    __match_args__ = ("seqs", "context_tokens", "slack_s", "free_tokens", "drafts")

    def __init__(self, seqs: int, context_tokens: int, slack_s: float, free_tokens: int,
                 drafts: int = 0) -> None:
        self.seqs: Final = seqs
        self.context_tokens: Final = context_tokens
        self.slack_s: Final = slack_s
        self.free_tokens: Final = free_tokens
        self.drafts: Final = drafts

    @property
    def tokens(self) -> int:
        """Tokens of the step that are not of prompts."""
        return self.seqs + self.drafts


class Chunking(Protocol):
    """Shares out one step's prompt tokens: ``begin`` once a step, then ``limit`` per prompt."""

    steady: bool  # the budget depends only on the number of decodes
    needs_head: bool  # whether ``begin`` uses the best prompt

    def begin(self, load: DecodeLoad, head: Sequence | None) -> None:
        """Open a step with these decodes; ``head`` is the best prompt that could be processed."""

    def limit(self, sequence: Sequence, prefill_tokens: int, attention_work: float) -> int:
        """Return the tokens of this prompt that the step may take, in addition to its present
        tokens."""

    def believe(self, step_time: StepTimeModel) -> None:
        """From now on, steps are expected to take what this model says."""


class FixedChunks(Chunking):
    """Sarathi-Serve (OSDI 2024): a fixed token budget per step, decodes first."""

    __slots__ = ("_chunk_tokens", "_left", "needs_head", "steady")

    def __init__(self, chunk_tokens: int) -> None:
        self.steady = True
        self.needs_head = False
        self._chunk_tokens = chunk_tokens
        self._left = 0

    def begin(self, load: DecodeLoad, head: Sequence | None) -> None:
        self._left = max(0, self._chunk_tokens - load.tokens)

    def limit(self, sequence: Sequence, prefill_tokens: int,
              attention_work: float) -> int:
        return self._left - prefill_tokens

    def believe(self, step_time: StepTimeModel) -> None:
        """Do nothing, since step times are not used."""


class WholePrompts(Chunking):
    """Orca and vLLM's first scheduler: prompts are never cut; one longer than a step runs alone."""

    __slots__ = ("_left", "_max_step_tokens", "needs_head", "steady")

    def __init__(self, max_step_tokens: int) -> None:
        self.steady = False
        self.needs_head = False
        self._max_step_tokens = max_step_tokens
        self._left = 0

    def begin(self, load: DecodeLoad, head: Sequence | None) -> None:
        self._left = max(0, self._max_step_tokens - load.tokens)

    def limit(self, sequence: Sequence, prefill_tokens: int,
              attention_work: float) -> int:
        left = self._left - prefill_tokens
        needed = sequence.prompt_target - sequence.computed
        if needed <= left or prefill_tokens == 0:
            return needed
        return 0

    def believe(self, step_time: StepTimeModel) -> None:
        """Do nothing, since step times are not used."""


# Candidate step totals of the artefact (niyama_asplos2026, scheduler of the DEADLINE class).
GRID: tuple[int, ...] = (128, *range(256, 2049, 256), 2552)
GRID_LOW_MEMORY: tuple[int, ...] = (128, 256, 384, 512)
LOW_MEMORY_TOKENS = 32_000


class GridChunks(Chunking):
    """Niyama's dynamic chunk: the largest grid total whose padded time fits the tightest slack.

    The artefact searches its grid by bisection and estimates prompt context from the best prompt
    alone; both are kept, because they decide which total is found.
    """

    __slots__ = ("_left", "_safety_factor", "_step_time", "needs_head", "steady")

    def __init__(self, step_time: StepTimeModel, safety_factor: float) -> None:
        self.steady = False
        self.needs_head = True
        self._step_time = step_time
        self._safety_factor = safety_factor
        self._left = 0

    def begin(self, load: DecodeLoad, head: Sequence | None) -> None:
        total = self.total_tokens(load, head.computed if head else 0)
        self._left = max(0, total - load.tokens)

    def limit(self, sequence: Sequence, prefill_tokens: int,
              attention_work: float) -> int:
        return self._left - prefill_tokens

    def believe(self, step_time: StepTimeModel) -> None:
        self._step_time = step_time

    def total_tokens(self, load: DecodeLoad, head_context_tokens: int) -> int:
        """Return the step total (prompt and decode tokens) for these decodes and this slack."""
        grid = GRID_LOW_MEMORY if load.free_tokens < LOW_MEMORY_TOKENS else GRID
        if load.slack_s <= 0:
            return grid[0]
        best, low, high = 0, 0, len(grid) - 1
        while low <= high:
            middle = (low + high) // 2
            if self._padded_s(grid[middle], load, head_context_tokens) <= load.slack_s:
                best, low = middle, middle + 1
            else:
                high = middle - 1
        return grid[best]

    def _padded_s(self, total: int, load: DecodeLoad, head_context_tokens: int) -> float:
        prefill = max(0, total - load.tokens)
        work = prefill * (head_context_tokens + prefill / 2)
        return self._safety_factor * self._step_time.seconds(
            prefill, work, load.seqs, load.context_tokens)


class SolvedChunks(Chunking):
    """Penstock's chunk: the largest whole number of tokens whose predicted time fits.

    The allowed time is the slack of the step's decodes. A request that is ahead of its pace has
    banked slack, and one step may spend only ``slack_spend_fraction`` of it. So steps stay large
    throughout long outputs, instead of spending all slack at once.
    """

    __slots__ = ("_load", "_max_step_tokens", "_step_time", "allowed_s", "needs_head", "steady")

    def __init__(self, step_time: StepTimeModel, options: SchedulerOptions) -> None:
        self.steady = False
        self.needs_head = False
        self._step_time = step_time
        self._max_step_tokens = options.max_step_tokens
        self._load = DecodeLoad(0, 0, float("inf"), 0)
        self.allowed_s = float("inf")

    def begin(self, load: DecodeLoad, head: Sequence | None) -> None:
        self._load = load
        self.allowed_s = load.slack_s

    def limit(self, sequence: Sequence, prefill_tokens: int, attention_work: float) -> int:
        load = self._load
        most = min(sequence.prompt_target - sequence.computed,
                   self._max_step_tokens - load.tokens - prefill_tokens)
        if most <= 0 or self._fits(most, sequence, prefill_tokens, attention_work):
            return max(most, 0)
        low, high = 0, most  # low fits (or nothing does), high does not
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(middle, sequence, prefill_tokens, attention_work):
                low = middle
            else:
                high = middle
        return low

    def believe(self, step_time: StepTimeModel) -> None:
        self._step_time = step_time

    def _fits(self, tokens: int, sequence: Sequence, prefill_tokens: int,
              attention_work: float) -> bool:
        work = attention_work + tokens * (sequence.computed + 0.5 * tokens)
        return self._step_time.seconds(prefill_tokens + tokens, work, self._load.seqs,
                                       self._load.context_tokens) <= self.allowed_s
