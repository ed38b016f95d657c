"""Sessions of coding agents, drawn: contexts that grow turn by turn, tools and people between."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log, sqrt

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.links import links
from penstock.workload.trace import Labels, Prefixes, Trace, offsets_of
from penstock.workload.workload import IntColumn

BLOCK_TOKENS = 512
"""Tokens of a prompt that one prefix hash stands for."""


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A lognormal distribution by its mean and its median, cut at ``most``."""

    mean: float
    median: float
    most: float = float("inf")

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        sigma = sqrt(2.0 * log(self.mean / self.median))
        return min(float(rng.lognormal(log(self.median), sigma)), self.most)


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """Lengths in tokens, times in seconds.

    A prompt begins with ``shared`` tokens of all sessions, ``project`` tokens of a project (of
    ``num_projects``, with popularity by Zipf's law) and the session's ``own``; each turn adds the
    answer before and ``new`` tokens. The context falls back to a summary with probability
    ``reset_probability`` / (1 - context / limit), surely at the limit. ``restart_share`` of the
    sessions begin again at a turn within ``restart_turns``. ``human_share`` of the waits between
    turns are a person's, the others a tool's. ``output`` is the answer that later prompts have.
    Reasoning comes before the answer, as ``reasoning_share`` of all output tokens; later prompts
    omit it, as chat templates of reasoning models do.
    """

    new: LogNormal
    output: LogNormal
    tool_s: LogNormal
    human_s: LogNormal
    human_share: float
    shared: int
    project: int
    num_projects: int
    zipf: float
    own: LogNormal
    context_limit: int
    reset_probability: float
    restart_share: float
    restart_turns: tuple[int, int]
    mean_turns: float
    reasoning_share: float = 0.0

    def scaled(self, factor: float) -> "AgentProfile":
        """Return the profile with all lengths times ``factor``."""
        def times(one: LogNormal) -> LogNormal:
            return LogNormal(one.mean * factor, one.median * factor, one.most * factor)

        return replace(
            self, new=times(self.new), output=times(self.output), own=times(self.own),
            shared=round(self.shared * factor), project=round(self.project * factor),
            context_limit=round(self.context_limit * factor))


PROFILES: Mapping[str, AgentProfile] = {
    # Parameters of AIPerf's synthetic trace of that name (ai-dynamo/aiperf 988d33bc, docs/traces).
    # The rise of the reset probability towards the limit is ours: the source gives its ends only.
    "inference-day-2026": AgentProfile(
        new=LogNormal(6_000, 4_000, 50_000), output=LogNormal(1_000, 800, 10_000),
        tool_s=LogNormal(5.0, 2.0), human_s=LogNormal(30.0, 15.0), human_share=0.3,
        shared=32_000, project=10_000, num_projects=100, zipf=0.6, own=LogNormal(15_000, 5_000),
        context_limit=200_000, reset_probability=0.05, restart_share=0.3, restart_turns=(5, 15),
        mean_turns=11.6)}


@dataclass(frozen=True, slots=True)
class AgentTraffic:
    """Sessions that begin as a Poisson process of ``sessions_per_s``."""

    profile: AgentProfile
    sessions_per_s: float = 0.1
    num_sessions: int = 100

    def check(self) -> None:
        """Raise InputError for what cannot be drawn."""
        if not 0.0 < self.sessions_per_s < np.inf:
            raise InputError(f"sessions_per_s is {self.sessions_per_s:g}; expected a positive "
                             "number")
        if self.num_sessions < 1:
            raise InputError(f"num_sessions is {self.num_sessions}; expected at least 1")
        if self.profile.mean_turns < 1.0:
            raise InputError(f"mean_turns is {self.profile.mean_turns:g}; expected at least 1")
        if self.profile.context_limit < 2 * BLOCK_TOKENS:
            raise InputError("the context limit of the sessions is "
                             f"{self.profile.context_limit:,} tokens; expected at least "
                             f"{2 * BLOCK_TOKENS:,} (raise token_scale)")

    def trace(self, rng: np.random.Generator) -> Trace:
        """Draw the sessions. The first of them do not depend on their number."""
        drawing = _Drawing(self.profile, rng)
        start_s = 0.0
        for number in range(self.num_sessions):
            start_s += rng.exponential(1.0 / self.sessions_per_s)
            drawing.session(number, start_s)
        return drawing.trace()


@dataclass(slots=True)
class _Turns:
    """Columns of all turns drawn so far."""

    session: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    delay_s: list[float] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    hashes: list[IntColumn] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Context:
    """The tokens of a prompt's beginning, and the hashes of its full blocks."""

    tokens: int
    hashes: IntColumn


class _Drawing:
    """Draws session after session. Each new block of tokens has a number of its own."""

    def __init__(self, profile: AgentProfile, rng: np.random.Generator) -> None:
        self._profile = profile
        self._rng = rng
        self._num_blocks = 0
        self._turns = _Turns()
        shares = np.arange(1, profile.num_projects + 1, dtype=np.float64) ** -profile.zipf
        self._popularity = np.cumsum(shares) / shares.sum()
        self._shared = self._longer(_Context(0, np.zeros(0, np.int64)), profile.shared)
        self._projects: dict[int, _Context] = {}

    def session(self, number: int, start_s: float) -> None:
        """Draw the turns of one session."""
        profile, rng, turns = self._profile, self._rng, self._turns
        num = int(rng.geometric(1.0 / profile.mean_turns))
        project = self._project(int(np.searchsorted(self._popularity, rng.random())))
        first = context = self._longer(project, self._tokens(profile.own))
        restart = int(rng.integers(*profile.restart_turns, endpoint=True)) \
            if rng.random() < profile.restart_share else 0
        at_s = start_s
        for turn in range(1, num + 1):
            delay_s = 0.0
            if turn > 1:
                human = rng.random() < profile.human_share
                delay_s = (profile.human_s if human else profile.tool_s).draw(rng)
            new, answer = self._tokens(profile.new), self._tokens(profile.output)
            output = round(answer / (1.0 - profile.reasoning_share))
            if turn == restart:
                context = first
            elif self._resets(context.tokens + new + output):
                context = self._longer(project, self._tokens(profile.own))
            context = self._longer(context, new)
            at_s += delay_s
            turns.session.append(number)
            turns.at_s.append(at_s)
            turns.delay_s.append(delay_s)
            turns.prompt.append(context.tokens)
            turns.output.append(output)
            turns.hashes.append(context.hashes)
            context = self._longer(context, answer)

    def trace(self) -> Trace:
        """Return all turns in order of their earliest times."""
        turns = self._turns
        session = np.array(turns.session, np.int64)
        counts = np.array([len(one) for one in turns.hashes], np.int64)
        row = np.flatnonzero(np.diff(session, prepend=-1) == 0)
        names = Labels(tuple(str(number) for number in range(int(session.max()) + 1)), session)
        times_s = np.array(turns.at_s)
        found = Trace(
            times_s, np.array(turns.prompt, np.int64),
            np.array(turns.output, np.int64), None, None, None,
            Prefixes(offsets_of(counts), np.concatenate(turns.hashes), BLOCK_TOKENS),
            source="agents", session=names, timed=False,
            links=links(row, row - 1, np.array(turns.delay_s)[row], on_dispatch=False))
        return found.take(np.argsort(times_s, kind="stable"))

    def _tokens(self, lengths: LogNormal) -> int:
        return max(1, round(lengths.draw(self._rng)))

    def _resets(self, tokens: int) -> bool:
        profile = self._profile
        left = 1.0 - tokens / profile.context_limit
        return left <= 0.0 or self._rng.random() < profile.reset_probability / left

    def _project(self, number: int) -> _Context:
        if number not in self._projects:
            self._projects[number] = self._longer(self._shared, self._profile.project)
        return self._projects[number]

    def _longer(self, context: _Context, tokens: int) -> _Context:
        """Return a context with more tokens at its end, at most up to the limit."""
        total = min(context.tokens + tokens, self._profile.context_limit)
        more = total // BLOCK_TOKENS - len(context.hashes)
        added = np.arange(self._num_blocks, self._num_blocks + more)
        self._num_blocks += more
        return _Context(total, np.concatenate((context.hashes, added)))
