"""One engine step: its plan, its cost and its result."""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from penstock.core.value import Value, made_again

CONTEXT_PARTS: Final = 32
"""Parts of a token in which the context of drafted decodes is counted."""


class StepFeatures(NamedTuple):
    """Features of a step that determine its duration.

    ``prefill_attention_work`` is the sum over prompt chunks of chunk * (past + chunk / 2), in
    tokens^2: the number of (query, key) pairs under a causal mask. ``decode_context_tokens`` is the
    sum over decoding sequences of the tokens whose keys and values the step reads.
    """

    prefill_tokens: int
    prefill_attention_work: float
    decode_seqs: int
    decode_context_tokens: int


@dataclass(frozen=True, slots=True)
class StepTime:
    """A predicted duration with its 95 % interval, its parts and whether the inputs were in range.

    ``unmeasured`` names the parts of the replica that no measurement was of.
    """

    total_s: float
    low_s: float
    high_s: float
    parts: dict[str, float] = field(default_factory=dict)
    source: str = ""
    extrapolated: bool = False
    unmeasured: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)


class Chunk(Value):
    """A piece of one prompt: ``tokens`` of it, after ``past`` tokens already in the KV cache."""

    __match_args__ = ("request_id", "tokens", "past", "last")

    def __init__(self, request_id: int, tokens: int, past: int, last: bool) -> None:
        self.request_id: Final = request_id
        self.tokens: Final = tokens
        self.past: Final = past
        self.last: Final = last


class Drafted(NamedTuple):
    """Speculative decoding of a step: each decode verifies ``depth`` drafted tokens.

    A decode gains as many tokens as are believed to be accepted, the same for all of a group.
    ``context_parts`` is the decodes' context, and ``growth_parts`` its growth by the step, both in
    1/``CONTEXT_PARTS`` of a token.
    """

    depth: int
    context_parts: int
    growth_parts: int


class StepPlan(Value):
    """The next step of one replica.

    ``numbers`` are its ``features``, which native code keeps unboxed.
    ``decode_ids`` get one token each; they are not listed for a driver that follows the groups.
    ``joined`` and ``left`` tell an executor which sequences entered or left a decode group since
    the last plan: (request id, group). ``groups`` are the decode groups that run in this step.
    ``shed`` requests are rejected for good, with a reason. ``drafted`` is None without speculative
    decoding; with it, a decode gets one token or more.
    """

    __match_args__ = ("step", "chunks", "decode_ids", "features", "groups", "joined", "left",
                      "preempted", "relegated", "restored", "shed", "drafted")

    def __init__(self, step: int, chunks: tuple[Chunk, ...], decode_ids: tuple[int, ...],
                 features: tuple[int, float, int, int], groups: tuple[int, ...] = (),
                 joined: tuple[tuple[int, int], ...] = (), left: tuple[int, ...] = (),
                 preempted: tuple[int, ...] = (), relegated: tuple[int, ...] = (),
                 restored: tuple[int, ...] = (), shed: tuple[tuple[int, str], ...] = (),
                 drafted: Drafted | None = None) -> None:
        self.step: Final = step
        self.chunks: Final = chunks
        self.decode_ids: Final = decode_ids
        self.numbers: Final = features
        self.groups: Final = groups
        self.joined: Final = joined
        self.left: Final = left
        self.preempted: Final = preempted
        self.relegated: Final = relegated
        self.restored: Final = restored
        self.shed: Final = shed
        self.drafted: Final = drafted

    @property
    def features(self) -> StepFeatures:
        """The numbers that determine the duration of the step."""
        return StepFeatures(*self.numbers)

    @property
    def tokens_by_request(self) -> dict[int, int]:
        """Tokens computed per request in this step; phases are derived, never flagged."""
        tokens = dict.fromkeys(self.decode_ids, 1)
        tokens.update((chunk.request_id, chunk.tokens) for chunk in self.chunks)
        return tokens

    @property
    def num_tokens(self) -> int:
        """Prompt and decode tokens together."""
        prefill_tokens, _, decode_seqs, _ = self.numbers
        return prefill_tokens + decode_seqs


class StepResult(Value):
    """Result of a plan on the device: the requests that ended with this step's token.

    ``num_steps`` > 1 says that the same plan ran that many times in a row (a simulator's jump).
    """

    __match_args__ = ("finished", "num_steps")

    def __init__(self, finished: tuple[int, ...] = (), num_steps: int = 1) -> None:
        self.finished: Final = finished
        self.num_steps: Final = num_steps
