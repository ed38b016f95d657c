"""The oracle under speculative decoding: turns give several tokens, as many as it alone knows."""

from collections.abc import Mapping, Sequence

from penstock.core.step import StepPlan
from penstock.sim.drafts import TrueDrafts
from penstock.sim.oracle import Oracle, TrueLengths


class DraftedOracle(Oracle):
    """Determines which requests end with a turn, by the true acceptance of their drafts.

    A member that joins with r tokens left ends after as many turns as give r tokens at the group's
    depth. Where the depth changes, the ends of all members are computed anew.
    """

    def __init__(self, output_tokens: TrueLengths | Mapping[int, int] | Sequence[int],
                 drafts: TrueDrafts, depth: int) -> None:
        super().__init__(output_tokens)
        self._drafts = drafts
        self._usual = depth
        self._depths: list[int] = []  # of each group
        self._joined: dict[int, tuple[int, int]] = {}  # member -> (turn, tokens left) at joining
        self._done: dict[int, int] = {}  # turns before that

    def begin(self, plan: StepPlan) -> int:
        """Follow a plan that is about to run; see ``Oracle.begin``."""
        assert plan.drafted is not None
        for group in plan.groups:
            self._room(group)
            if self._depths[group] != plan.drafted.depth:
                self._deepen(group, plan.drafted.depth)
        return super().begin(plan)

    def settle(self, plan: StepPlan, num_steps: int) -> tuple[int, ...]:
        """The plan ran ``num_steps`` times; see ``Oracle.settle``."""
        finished = super().settle(plan, num_steps)
        for request_id in finished:
            self._joined.pop(request_id, None)
            self._done.pop(request_id, None)
        return finished

    def _room(self, group: int) -> None:
        super()._room(group)
        while len(self._depths) <= group:
            self._depths.append(self._usual)

    def _join(self, request_id: int, group: int, remaining: int) -> None:
        self._room(group)
        depth, done = self._depths[group], self._done.get(request_id)
        if done is None and depth == self._usual:
            self._done[request_id] = 0
            turns = self._drafts.whole_turns(request_id)
        else:
            done = self._done.setdefault(request_id, 0)
            turns = self._drafts.turns([request_id], [done], [remaining], depth)[0]
        self._begin_turns(request_id, group, remaining, turns)

    def _begin_turns(self, request_id: int, group: int, remaining: int, turns: int) -> None:
        self._joined[request_id] = (self._turns[group], remaining)
        self._enter(request_id, group, self._turns[group] + turns)

    def _leave(self, request_id: int) -> None:
        for group, ends in enumerate(self._ends):
            if ends.pop(request_id, -1) >= 0:
                self._num_gone += 1
                self._remaining[request_id] = self._part(request_id, group)

    def _part(self, request_id: int, group: int) -> int:
        """Take note of the turns that a member has had. Returns its tokens left."""
        turn, remaining = self._joined.pop(request_id)
        num_turns, done = self._turns[group] - turn, self._done[request_id]
        self._done[request_id] = done + num_turns
        return remaining - self._drafts.tokens(request_id, done, num_turns, self._depths[group])

    def _deepen(self, group: int, depth: int) -> None:
        """Let the turns of a group be of another depth."""
        members = list(self._ends[group])
        left = [self._part(request_id, group) for request_id in members]
        self._depths[group] = depth
        self._num_gone -= len(self._heaps[group]) - len(members)
        self._heaps[group] = []
        turns = self._drafts.turns(members, [self._done[one] for one in members], left, depth)
        for request_id, remaining, num_turns in zip(members, left, turns, strict=True):
            self._begin_turns(request_id, group, remaining, num_turns)

    def forget(self, request_id: int) -> None:
        """Forget a request that was aborted or shed."""
        super().forget(request_id)
        self._joined.pop(request_id, None)
        self._done.pop(request_id, None)
