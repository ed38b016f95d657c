"""The scheduler of one replica: what its next step computes.

One mechanism serves every policy. A policy is a choice of order, of chunking and of relegation,
plus which decode groups run. Time is a parameter and ties break by serial number, so the same calls
give the same plans in a simulator, in an engine and on replay.
"""

from collections.abc import Iterable

from penstock.core.decision import ACCEPT, Accept, Reject
from penstock.core.request import Request
from penstock.core.slo import Slo
from penstock.core.step import Chunk, StepPlan, StepResult
from penstock.core.units import ceil_div
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.schedule.chunking import Chunking, DecodeLoad
from penstock.policy.schedule.draft import StepDraft
from penstock.policy.schedule.drafting import Drafting, decode_group, drafted, set_depth
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.kv_accounting import KvAccounting
from penstock.policy.schedule.options import ReserveName
from penstock.policy.schedule.pacing import UNBOUNDED, Decodes, Pacing
from penstock.policy.schedule.prompts import PromptQueue
from penstock.policy.schedule.relegation import Relegation
from penstock.policy.schedule.sequence import Sequence


class ReplicaScheduler(Decodes):
    """Plans steps for one replica.

    ``add`` and ``abort`` may come at any time. ``plan`` may be called again before the last plan is
    committed, up to ``max_in_flight`` plans: counters advance when a step is planned, a sequence
    with an uncommitted step is never preempted, and blocks return after the last step in flight.
    A ``plan`` that returns None has changed nothing. Plans name decodes if ``lists_decodes``.
    """

    def __init__(self, prompts: PromptQueue, chunking: Chunking, relegation: Relegation,
                 pacing: Pacing, kv: KvAllocator, max_num_seqs: int, max_in_flight: int = 1,
                 prefill_first: bool = False, reserve: ReserveName = "prompt",
                 late_results: bool = False, watermark_blocks: int = 0,
                 drafting: Drafting | None = None, lists_decodes: bool = True) -> None:
        self._chunking = chunking
        self._relegation = relegation
        self._pacing = pacing
        self._kv = kv
        self._max_num_seqs = max_num_seqs
        self._max_in_flight = max_in_flight
        self._prefill_first = prefill_first
        self._watermark_blocks = watermark_blocks
        self._drafting = drafting
        self._lists_decodes = lists_decodes
        self._depth = 0  # drafted tokens of each decode in the step being planned
        self.groups: list[DecodeGroup] = []
        self._group_of_class: dict[str, int] = {}
        self._group_of_targets: dict[tuple[Slo, str], int] = {}
        self._sequences: dict[int, Sequence] = {}
        self._prompts = prompts
        self._kv_accounting = KvAccounting(kv, self.groups, self._prompts, reserve, late_results)
        self._num_waiting = 0
        self._num_started = 0
        self._num_decoding = 0
        self._serial = 0
        self._step = self._in_flight = 0
        self._closed = False  # no unstarted prompt may start in the step being planned
        self._blocked: Sequence | None = None  # unstarted prompt that found no room in this plan
        self._pending_prompt_tokens = 0
        self._last_plan_s = self._last_commit_s = 0.0
        self._planned_s: list[float] = []  # plan times of the steps in flight, which are few
        self._last_prefill_tokens = 0
        self._draft = StepDraft()

    # -- observable state -----------------------------------------------------------------------

    @property
    def num_waiting(self) -> int:
        """Requests without KV."""
        return self._num_waiting

    @property
    def num_running(self) -> int:
        """Requests that hold KV: partly computed prompts and decodes."""
        return self._num_started + self._num_decoding

    @property
    def pending_prompt_tokens(self) -> int:
        """Prompt tokens of all requests that are not computed yet."""
        return self._pending_prompt_tokens

    @property
    def kv_used_tokens(self) -> int:
        """Booked KV room, in tokens."""
        return (self._kv.total_blocks - self._kv.free_blocks) * self._kv.block_tokens

    @property
    def kv_total_tokens(self) -> int:
        """All KV room, in tokens."""
        return self._kv.total_blocks * self._kv.block_tokens

    @property
    def in_flight(self) -> int:
        """Plans not committed yet."""
        return self._in_flight

    @property
    def prompts_wait(self) -> bool:
        """Whether any prompt is not fully computed."""
        return self._num_waiting + self._num_started > 0

    def more_kv_tokens(self, plan: StepPlan, num_steps: int) -> int:
        """Return the KV room that is booked when ``num_steps`` copies of the plan in flight have
        ended and one more runs, over what is booked now, in tokens."""
        accounting = self._kv_accounting
        blocks = accounting.growth(plan.groups, num_steps) - accounting.ending_blocks
        for chunk in plan.chunks:
            blocks += accounting.more_for_chunk(self._sequences[chunk.request_id],
                                                num_steps * chunk.tokens)
        return blocks * self._kv.block_tokens

    def has_work(self) -> bool:
        """Whether any request is neither finished nor refused."""
        return bool(self._sequences)

    def live(self) -> Iterable[Sequence]:
        """Every request that is not over, in order of arrival."""
        return self._sequences.values()

    # -- requests come and go -------------------------------------------------------------------

    def add(self, request: Request, now_s: float) -> Accept | Reject:
        """Accept a request, or reject one that could never fit this replica's KV cache."""
        capacity = self._kv.total_blocks - self._watermark_blocks
        if ceil_div(request.prompt_tokens + request.max_tokens, self._kv.block_tokens) > capacity:
            longest = capacity * self._kv.block_tokens
            return Reject(f"prompt and max_tokens exceed the KV cache of {longest} tokens")
        group = self._group_index(request)
        sequence = Sequence(request, self._serial, self._pacing.prefill_deadline_s(request), group)
        self._serial += 1
        self._sequences[request.request_id] = sequence
        self._num_waiting += 1
        self._pending_prompt_tokens += sequence.remaining
        self._pacing.admitted(sequence)
        self._relegation.admitted(sequence)
        self._prompts.wait(sequence)
        return ACCEPT

    def _group_index(self, request: Request) -> int:
        of = request.service_class
        index = self._group_of_class.get(of.name)
        if index is None:
            targets = of.slo, "" if self._drafting is None else of.name  # whose drafts differ
            index = self._group_of_targets.setdefault(targets, len(self.groups))
            self._group_of_class[of.name] = index
            if index == len(self.groups):
                self.groups.append(decode_group(self._drafting, self._kv.block_tokens,
                                                self._pacing.itl_s(of.slo), of))
        return index

    def abort(self, request_id: int, now_s: float) -> bool:
        """Forget a request (the client left). Returns whether it was live."""
        sequence = self._sequences.get(request_id)
        if sequence is None:
            return False
        self._end(sequence)
        return True

    def returned(self, request_id: int) -> bool:
        """Free the KV cache of a request that lent it at its end. Returns whether there was one."""
        return self._kv_accounting.returned(request_id)

    # -- planning -------------------------------------------------------------------------------

    def plan(self, now_s: float) -> StepPlan | None:
        """The next step, or None when nothing can run (or the pipeline is full)."""
        if self._in_flight >= self._max_in_flight or not self._can_plan():
            return None
        draft = self._draft.cleared()
        self._review(now_s, draft)
        self._prompts.at(now_s)
        draft.groups = self._pacing.groups_to_run(self, now_s, draft.joined, draft.left)
        if self._drafting is not None:
            self._depth = set_depth(self._drafting, self.groups, draft.groups)
        self._blocked, self._closed = None, False
        if self._prefill_first:
            groups, draft.groups = draft.groups, ()
            self._take_chunks(now_s, draft)
            if not draft.chunks:
                draft.groups = groups
                self._make_room(draft)
        else:
            self._make_room(draft)
            self._take_chunks(now_s, draft)
        if draft.empty:
            again = self._num_waiting and self._kv_accounting.settle_idle()
            return self.plan(now_s) if again else None
        return self._emit(now_s, draft)

    def _can_plan(self) -> bool:
        """Whether a plan made now could go through, whatever it decides."""
        if self._in_flight:
            groups = tuple(range(len(self.groups)))
            if (self._kv_accounting.growth(groups) > self._kv.free_blocks
                    and self._kv_accounting.victims(self._sequences.values(), groups) is None):
                return False
        # A prompt may need the room of ended sequences, which is free only after the steps in
        # flight.
        return self.num_running > 0 or not self._kv_accounting.awaits_steps

    def _emit(self, now_s: float, draft: StepDraft) -> StepPlan:
        step = self._step
        decode_ids: tuple[int, ...] = ()
        context_tokens = decode_seqs = 0
        if self._drafting is not None:
            draft.drafted = drafted(self.groups, draft.groups, self._depth)
        for index in draft.groups:
            group = self.groups[index]
            if self._lists_decodes:
                decode_ids = decode_ids + group.ids() if decode_ids else group.ids()
            decode_seqs += len(group.members)
            context_tokens += group.context_tokens
            group.advance(1)
            group.last_step = step
        for chunk in draft.chunks:
            if chunk.last:
                draft.joined.append((chunk.request_id, self._join(chunk.request_id)))
        self._relegation.learn_throughput(self._last_prefill_tokens, now_s - self._last_plan_s)
        self._last_plan_s = now_s
        self._last_prefill_tokens = draft.prefill_tokens
        self._planned_s.append(now_s)
        self._step = step + 1
        self._in_flight += 1
        return draft.finished(step, decode_ids, decode_seqs, context_tokens)

    def _join(self, request_id: int) -> int:
        sequence = self._sequences[request_id]
        sequence.generated += 1
        self._num_started -= 1
        self._num_decoding += 1
        self.groups[sequence.group].join(sequence)
        return sequence.group

    def _review(self, now_s: float, draft: StepDraft) -> None:
        if not self._num_waiting or now_s < self._relegation.next_review_s:
            return
        review = self._relegation.review(now_s, self._pacing.prefill_share)
        for sequence in review.relegate:
            self._relegate(sequence, draft)
        for sequence in review.restore:
            sequence.relegated = False
            self._prompts.wait(sequence)
            draft.restored.append(sequence.request.request_id)
        for sequence, reason in review.shed:
            self._end(sequence)
            draft.shed.append((sequence.request.request_id, reason))

    def _relegate(self, sequence: Sequence, draft: StepDraft) -> None:
        sequence.relegated = True
        sequence.num_relegations += 1
        self._prompts.wait(sequence)
        draft.relegated.append(sequence.request.request_id)

    def _take_chunks(self, now_s: float, draft: StepDraft) -> None:
        """Fill the step with prompt tokens."""
        if not self.prompts_wait:
            return
        self._chunking.begin(self._decode_load(now_s, draft.groups),
                             self._prompts.best() if self._chunking.needs_head else None)
        while True:
            sequence = self._next_prompt(now_s, draft)
            if sequence is None:
                return
            tokens = self._chunking.limit(sequence, draft.prefill_tokens, draft.work)
            if tokens > 0 and not sequence.started:
                if not self._start(sequence, tokens):
                    continue
                if sequence.computed:  # a cached prefix changes what the rest costs
                    tokens = self._chunking.limit(sequence, draft.prefill_tokens, draft.work)
            if tokens <= 0 or not self._take_chunk(sequence, tokens, draft):
                return

    def _decode_load(self, now_s: float, groups: tuple[int, ...]) -> DecodeLoad:
        seqs = context_tokens = 0
        for index in groups:
            group = self.groups[index]
            seqs += len(group.members)
            context_tokens += group.context_tokens
        slack_s = self._pacing.slack_s(self.groups, groups, now_s)
        return DecodeLoad(seqs, context_tokens, slack_s,
                          self._kv.free_blocks * self._kv.block_tokens, self._depth * seqs)

    def _take_chunk(self, sequence: Sequence, tokens: int, draft: StepDraft) -> bool:
        """Take up to ``tokens`` of the best started prompt. Returns whether the prompt is
        complete."""
        remaining = sequence.prompt_target - sequence.computed
        last = tokens >= remaining
        tokens = min(tokens, remaining)
        if not self._extend(sequence, tokens, draft):
            return False
        draft.add_chunk(sequence.request, tokens, sequence.computed, last)
        sequence.computed += tokens
        sequence.last_step = self._step
        self._pending_prompt_tokens -= tokens
        if last:
            self._prompts.complete()
            sequence.started = False  # it decodes from now on
        else:
            self._prompts.advance(sequence)
        return last

    def _extend(self, sequence: Sequence, tokens: int, draft: StepDraft) -> bool:
        """Book a chunk's KV, preempting the worst-ranked prompts. Returns whether it has room."""
        while not self._kv_accounting.extend(sequence, sequence.computed + tokens):
            victim = self._kv_accounting.last_prompt(self._sequences.values())
            self._closed = True
            if victim is not None:
                draft.preempted.append(victim.request.request_id)
                self._preempt(victim)
            if victim is None or victim is sequence:
                return False
        return True

    def _next_prompt(self, now_s: float, draft: StepDraft) -> Sequence | None:
        """The best prompt to process now; unstarted ones only while there is room for them."""
        while True:
            best = self._prompts.best_started() if self._closed else self._prompts.best()
            if (best is None or best.started or best.relegated
                    or not self._relegation.infeasible(best, now_s)):
                return best
            self._relegate(best, draft)

    def _start(self, sequence: Sequence, tokens: int) -> bool:
        """Give the best waiting sequence its KV; on failure nothing else may start this step."""
        computed = sequence.computed  # by another replica
        seats = self.num_running + self._kv_accounting.num_late
        spare = self._watermark_blocks if seats else 0
        if seats >= self._max_num_seqs or not self._kv_accounting.start(sequence, tokens, spare):
            self._blocked = sequence
            self._closed = True
            return False
        self._pending_prompt_tokens -= sequence.computed - computed
        sequence.started = True
        self._prompts.begin(sequence)
        self._num_waiting -= 1
        self._num_started += 1
        return True

    def move(self, sequence: Sequence, group: int, joined: list[tuple[int, int]],
             left: list[int]) -> None:
        """Move a decoding sequence to another group. A group that does not run is a bench."""
        sequence.last_step = self._kv_accounting.last_step(sequence)
        self.groups[sequence.group].leave(sequence)
        sequence.group = group
        self.groups[group].join(sequence)
        left.append(sequence.request.request_id)
        joined.append((sequence.request.request_id, group))
        if self.groups[group].itl_s is not None:
            self.groups[group].watch(sequence, self._pacing.next_due_s(sequence,
                                                                       self.groups[group]))

    # -- KV room --------------------------------------------------------------------------------

    def _make_room(self, draft: StepDraft) -> None:
        """Book the KV growth of one turn, preempting the worst-ranked if need be."""
        if not draft.groups or self._kv_accounting.book_turn(draft.groups):
            return
        victims = self._kv_accounting.victims(self._sequences.values(), draft.groups)
        assert victims is not None, "room was checked before planning"
        # a sequence that was just preempted must not start again in the same step
        self._closed = True
        for sequence in victims:
            if self._kv_accounting.growth(draft.groups) <= self._kv.free_blocks:
                break  # the victims so far shared blocks
            if sequence.ended:
                self._kv_accounting.release(sequence)
                continue
            draft.preempted.append(sequence.request.request_id)
            if sequence.join_turn >= 0:
                draft.left.append(sequence.request.request_id)
            self._preempt(sequence)
        # A sequence that was just moved may still have been preempted.
        draft.joined = [pair for pair in draft.joined if pair[0] not in draft.preempted]
        draft.groups = tuple([g for g in draft.groups if self.groups[g].members])
        booked = self._kv_accounting.book_turn(draft.groups)
        assert booked, "preemption must have made room"

    def _preempt(self, sequence: Sequence) -> None:
        """Preempt a sequence: free its KV cache. It computes its prompt and its output so far
        again."""
        blocks = self._kv_accounting.blocks(sequence)
        if sequence.join_turn >= 0:
            self.groups[sequence.group].leave(sequence)
            self._num_decoding -= 1
            self._kv_accounting.preempt(sequence, blocks)
            if self._drafting is not None:  # it may be believed to be longer than it is
                sequence.generated = min(sequence.generated, sequence.request.max_tokens)
            sequence.prompt_target = sequence.request.prompt_tokens + sequence.generated
            self._pending_prompt_tokens += sequence.prompt_target
        else:
            self._num_started -= 1
            self._kv_accounting.preempt(sequence, blocks)
            self._pending_prompt_tokens += sequence.computed
        sequence.started = False
        sequence.computed = 0
        sequence.start_blocks = sequence.reserved_blocks = 0
        sequence.num_preemptions += 1
        self._num_waiting += 1
        self._prompts.wait(sequence)

    # -- committing -----------------------------------------------------------------------------

    def commit(self, plan: StepPlan, result: StepResult, now_s: float) -> None:
        """Commit a planned step (or ``result.num_steps`` copies of it) that has run."""
        holdings = self._kv_accounting
        assert plan.step == holdings.committed + 1, (plan.step, holdings.committed)
        holdings.committed = plan.step
        self._in_flight -= 1
        if result.num_steps > 1:
            holdings.settle()  # what ended before the run returns with its first step
            self._repeat(plan, result.num_steps - 1)
        for index in plan.groups:
            self.groups[index].last_turn_s = now_s
        for chunk in plan.chunks:
            self._chunk_done(chunk, result.num_steps, now_s)
        # Sorted, so that learning and caching do not depend on a driver's order.
        finished = result.finished if len(result.finished) < 2 else tuple(sorted(result.finished))
        for request_id in finished:
            sequence = self._sequences.get(request_id)
            if sequence is not None:
                self._end(sequence, late=holdings.late)
                self._pacing.finished(sequence)
        holdings.settle()
        if not self._sequences:
            holdings.settle_idle()
        started_s = max(self._planned_s.pop(0), self._last_commit_s)
        self._last_commit_s = now_s
        self._pacing.committed(plan, result.num_steps, started_s, now_s)

    def _chunk_done(self, chunk: Chunk, num_steps: int, now_s: float) -> None:
        sequence = self._sequences.get(chunk.request_id)
        if sequence is None:
            return
        if sequence.started or sequence.join_turn >= 0:
            self._kv.computed(chunk.request_id, chunk.past + chunk.tokens * num_steps)
        if not chunk.last:
            return
        if sequence.first_token_s < 0:
            sequence.first_token_s = now_s
        group = self.groups[sequence.group]
        if group.strict:
            group.last_turn_s = now_s
        elif sequence.join_turn >= 0 and group.itl_s is not None:
            group.watch(sequence, self._pacing.next_due_s(sequence, group))

    def _repeat(self, plan: StepPlan, num_steps: int) -> None:
        """Run the same plan ``num_steps`` more times."""
        growth = 0
        for index in plan.groups:
            group = self.groups[index]
            growth += group.growth(num_steps)
            group.advance(num_steps)
        booked = self._kv.grow(growth)
        assert booked, "steady_steps promised room"
        for chunk in plan.chunks:
            sequence = self._sequences[chunk.request_id]
            sequence.computed += chunk.tokens * num_steps
            self._pending_prompt_tokens -= chunk.tokens * num_steps
            self._kv_accounting.extend(sequence, sequence.computed)
            self._prompts.advance(sequence)

    def steady_steps(self, plan: StepPlan) -> int:
        """Return how many steps like ``plan``, including itself, may run before any decision could
        change for another reason than an arrival, a finish or an abort."""
        # Preemption counts too: its room may let the blocked prompt start.
        if (self._in_flight != 1 or self._max_in_flight > 1 or plan.joined or plan.shed
                or plan.preempted or (self.prompts_wait and self._relegation.time_dependent)):
            return 1
        _, _, decode_seqs, _ = plan.numbers
        if decode_seqs != self._num_decoding:
            return 1  # some decodes are paused, and which ones may change with every turn
        steps = self._steady_chunks(plan) if plan.chunks else self._steady_decodes(plan)
        if steps > 1 and plan.groups:
            steady = self._pacing.steady_turns(self.groups, self._last_plan_s)
            steps = min(min(steps, steady), self._kv_accounting.turns_with_room(plan.groups))
        return steps

    def _steady_decodes(self, plan: StepPlan) -> int:
        """Steps of decodes alone repeat as long as no prompt could start."""
        if self._num_started:
            return 1
        best = self._prompts.best_waiting() if self._num_waiting else None
        if best is None:  # none waits, or all for an adapter's place, which only an end gives
            return UNBOUNDED
        # An arrival that may fit may outrank the prompt that did not.
        if best is not self._blocked or self._kv_accounting.num_late or self._prompts.awaits_time:
            return 1
        return self._kv_accounting.turns_without_room(best, plan.groups)

    def _steady_chunks(self, plan: StepPlan) -> int:
        """A single prompt that fills a fixed budget keeps doing so until its last chunk."""
        if len(plan.chunks) != 1 or plan.chunks[0].last or not self._chunking.steady:
            return 1
        chunk = plan.chunks[0]
        sequence = self._sequences.get(chunk.request_id)
        if sequence is None or self._prompts.best() is not sequence:
            return 1
        # The last chunk is planned apart, since the rest of its budget goes to the next prompt.
        whole = max(0, (sequence.remaining - 1) // chunk.tokens)
        return 1 + min(whole, self._kv_accounting.chunks_with_room(chunk.tokens, plan.groups))

    # -- endings --------------------------------------------------------------------------------

    def _end(self, sequence: Sequence, *, late: bool = False) -> None:
        """Drop a request. Its blocks return after its last step in flight, ``late`` one later."""
        del self._sequences[sequence.request.request_id]
        sequence.last_step = self._step if late else self._kv_accounting.last_step(sequence)
        blocks = self._kv_accounting.blocks(sequence)
        if sequence.join_turn >= 0:
            self.groups[sequence.group].leave(sequence)
            self._num_decoding -= 1
        elif sequence.started:
            self._num_started -= 1
        else:
            self._num_waiting -= 1
        self._pending_prompt_tokens -= sequence.remaining
        self._prompts.end(sequence)
        self._kv_accounting.free(
            sequence, blocks, in_flight=sequence.last_step > self._kv_accounting.committed)

    def check_integrity(self) -> None:
        """Raise AssertionError unless all counters agree with the sequences they summarise."""
        live = list(self._sequences.values())
        decoding = len([s for s in live if s.join_turn >= 0])
        started = len([s for s in live if s.started and s.join_turn < 0])
        found = decoding, started, len(live) - decoding - started
        assert found == (self._num_decoding, self._num_started, self._num_waiting), found
        assert self._pending_prompt_tokens == sum(s.remaining for s in live)
        assert self.num_running <= self._max_num_seqs
        for group in self.groups:
            group.check_integrity()
        self._kv_accounting.check_integrity(live)
