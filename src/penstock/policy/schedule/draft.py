"""A step while it is being planned."""

from penstock.core.request import Request
from penstock.core.step import Chunk, Drafted, StepPlan


class StepDraft:
    """Collects the decisions of a plan; ``finished`` turns them into a value. A scheduler clears
    its draft for each step, since most steps need none of these lists."""

    __slots__ = ("chunks", "drafted", "groups", "joined", "left", "moved_context", "num_moved",
                 "preempted", "prefill_tokens", "relegated", "restored", "shed", "work")

    def __init__(self) -> None:
        self.groups: tuple[int, ...] = ()
        self.chunks: list[Chunk] = []
        self.prefill_tokens = 0
        self.work = 0.0  # attention work of the chunks, tokens^2
        self.num_moved = 0  # last tokens of prompts that another replica computed
        self.moved_context = 0
        self.joined: list[tuple[int, int]] = []
        self.left: list[int] = []
        self.preempted: list[int] = []
        self.relegated: list[int] = []
        self.restored: list[int] = []
        self.shed: list[tuple[int, str]] = []
        self.drafted: Drafted | None = None

    def cleared(self) -> "StepDraft":
        """Forget the decisions of the step before. Returns this draft."""
        self.groups, self.prefill_tokens, self.work, self.drafted = (), 0, 0.0, None
        self.num_moved = self.moved_context = 0
        if self.chunks:
            self.chunks = []
        if self.joined:
            self.joined = []
        if self.left:
            self.left = []
        if self.preempted:
            self.preempted = []
        if self.relegated or self.restored or self.shed:
            self.relegated, self.restored, self.shed = [], [], []
        return self

    @property
    def empty(self) -> bool:
        """Whether nothing was decided."""
        return not (self.chunks or self.groups or self.shed or self.preempted or self.relegated
                    or self.restored)

    def add_chunk(self, request: Request, tokens: int, past: int, last: bool) -> None:
        """Add a chunk of a prompt to the step. The last token of a prompt whose other tokens
        another replica computed takes as long as a decode."""
        self.chunks.append(Chunk(request.request_id, tokens, past, last))
        if last and tokens == 1 and 0 < past == request.remote_tokens:
            self.num_moved += 1
            self.moved_context += past
            return
        self.work += tokens * (past + 0.5 * tokens)
        self.prefill_tokens += tokens

    def finished(self, step: int, decode_ids: tuple[int, ...], decode_seqs: int,
                 context_tokens: int) -> StepPlan:
        """The plan."""
        features = (self.prefill_tokens, self.work, decode_seqs + self.num_moved,
                    context_tokens + self.moved_context)
        return StepPlan(step, tuple(self.chunks), decode_ids, features, self.groups,
                        tuple(self.joined), tuple(self.left), tuple(self.preempted),
                        tuple(self.relegated), tuple(self.restored), tuple(self.shed),
                        self.drafted)
