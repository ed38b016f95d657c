"""A replica's scheduler inside an engine that may deviate from its plans.

Such an engine may deviate from a plan: a prompt's prefix is cached, the engine preempts a sequence,
or it knows that a sequence has ended. Deviations are reported before the next plan, so that
counters stay correct.
"""

from collections.abc import Container, Mapping

from penstock.core.step import Chunk, StepFeatures, StepPlan
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.policy.schedule.sequence import Sequence


class AdaptableScheduler(ReplicaScheduler):
    """A scheduler that takes corrections of its last plan and of its beliefs."""

    def believe(self, step_time: StepTimeModel) -> None:
        """Replace the step-time model."""
        self._chunking.believe(step_time)
        self._pacing.believe(step_time)

    def amend(self, plan: StepPlan, ran: Mapping[int, tuple[int, int]],
              lost: Container[int] = ()) -> StepPlan:
        """Correct the latest plan to what the engine runs. Returns the corrected plan, which is the
        one to commit.

        ``ran`` has (tokens, past) by request for everything that the engine computes, only for
        requests of the plan. Requests in ``lost`` no longer hold KV cache.
        """
        chunks: list[Chunk] = []
        joined = dict(plan.joined)
        for chunk in plan.chunks:
            sequence = self._sequences[chunk.request_id]
            tokens, past = ran.get(chunk.request_id, (0, chunk.past))
            if (tokens, past) != (chunk.tokens, chunk.past):
                joined.pop(chunk.request_id, None)
                chunk = self._rerun(sequence, chunk, tokens, past, joined)
            if tokens:
                chunks.append(chunk)
            elif chunk.request_id in lost:
                self._lose(sequence)
            elif not chunk.past:
                self._lose(sequence)
                sequence.num_preemptions -= 1  # it never started
        context_tokens = plan.features.decode_context_tokens
        decode_ids = []
        for request_id in plan.decode_ids:
            if request_id in ran:
                decode_ids.append(request_id)
                continue
            sequence = self._sequences[request_id]
            context_tokens -= self._skip_turn(sequence)
            if request_id in lost:
                self._lose(sequence)
                joined.pop(request_id, None)
        self._prompts.rebuild(self._sequences.values())
        features = StepFeatures(
            sum([chunk.tokens for chunk in chunks]),
            sum([chunk.tokens * (chunk.past + 0.5 * chunk.tokens) for chunk in chunks], 0.0),
            len(decode_ids), context_tokens)
        return plan.replace(
            chunks=tuple(chunks), decode_ids=tuple(decode_ids), features=features,
            joined=tuple(joined.items()),
            preempted=plan.preempted + tuple(
                [i for i in (*plan.tokens_by_request,) if i in lost]))

    def _rerun(self, sequence: Sequence, asked: Chunk, tokens: int, past: int,
               joined: dict[int, int]) -> Chunk:
        """Correct a prompt that advanced differently than planned."""
        if asked.last:
            self._unjoin(sequence)
            sequence.started = True
            self._num_started += 1
        done = past + tokens
        self._pending_prompt_tokens += asked.past + asked.tokens - done
        sequence.computed = done
        last = done >= sequence.prompt_target
        if last:
            sequence.started = False
            joined[asked.request_id] = self._join(asked.request_id)
        return Chunk(asked.request_id, tokens, past, last)

    def _skip_turn(self, sequence: Sequence) -> int:
        """Correct a decode that got no token. Returns the context that it would have read."""
        blocks = self._kv_accounting.blocks(sequence)
        group = self.groups[sequence.group]
        group.leave(sequence)
        sequence.generated -= 1
        group.join(sequence)
        if group.itl_s is not None and sequence.first_token_s >= 0:
            group.watch(sequence, self._pacing.next_due_s(sequence, group))
        freed = blocks - self._kv_accounting.blocks(sequence)
        if freed:
            self._kv.free(sequence.request_id, freed)
        return group.stored_tokens(sequence) + 1

    def _unjoin(self, sequence: Sequence) -> None:
        """Correct a sequence whose prompt was not completed."""
        self.groups[sequence.group].leave(sequence)
        sequence.generated -= 1
        self._num_decoding -= 1

    def _lose(self, sequence: Sequence) -> None:
        """Correct a sequence without KV cache."""
        self._preempt(sequence)
        sequence.last_step = -1
