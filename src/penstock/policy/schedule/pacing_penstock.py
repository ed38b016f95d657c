"""Penstock's due times: from objectives, learned lengths and learned step times."""

from typing import Final

from penstock.core.request import Request
from penstock.core.slo import Slo
from penstock.core.step import StepPlan
from penstock.perf.step_time.calibration import OnlineCorrection
from penstock.perf.step_time.decode_times import DecodeTimes
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.schedule.groups import DecodeGroup
from penstock.policy.schedule.options import SchedulerOptions
from penstock.policy.schedule.pacing import (
    NO_DEADLINE_S,
    UNBOUNDED,
    Decodes,
    PlainPacing,
    all_groups,
)
from penstock.policy.schedule.sequence import Sequence
from penstock.predict.length import LengthPredictor

_ENDLESS_S: Final = float("inf")
AMPLE: Final = 4.0  # times the tightest group's allowed step
_LEARN: Final = 0.02  # weight of the newest step in running means


class PenstockPacing(PlainPacing):
    """Keeps paced decodes at their due times, tightest first, and gives the rest of the step to
    prompts.

    A decode that cannot catch up no longer binds: slowing all others for a lost request would lose
    more. Predicted step times are corrected by measured ones, with a margin for most of the
    remaining error, so a biased model costs little. ``prefill_share`` is the measured share of busy
    time spent on prompts, which the demand bound uses.

    Where a step with all decodes takes longer than the tightest of them allows, groups with ample
    slack pause until the tightest are ahead again.
    """

    def __init__(self, options: SchedulerOptions, step_time: StepTimeModel,
                 lengths: LengthPredictor) -> None:
        super().__init__()
        self._lengths = lengths
        self._slack_spend_fraction = options.slack_spend_fraction
        self._least_margin = 1.0 + options.time_margin
        self._quantile = options.length_quantile
        self._may_wait = options.decodes_may_wait
        self._correction = OnlineCorrection()  # observed / predicted step time
        self._step_s = 0.05  # mean duration of steps with decodes
        self._max_step_tokens = options.max_step_tokens
        self.prefill_share = 0.9
        self._set_rates(step_time)

    def _set_rates(self, step_time: StepTimeModel) -> None:
        self._step_time = step_time
        self._decodes = DecodeTimes(step_time)
        self._full_step_s = step_time.seconds(self._max_step_tokens, 0.0, 0, 0)
        self._token_s = (step_time.seconds(2048, 0.0, 0, 0)
                         - step_time.seconds(1024, 0.0, 0, 0)) / 1024
        slopes = step_time.slopes
        self._work_s = slopes.work_s if slopes else 0.0
        self._context_s = slopes.context_s if slopes else 0.0

    def believe(self, step_time: StepTimeModel) -> None:
        self._set_rates(step_time)
        self._correction.factor = 1.0  # the old model's error does not apply to the new one

    def itl_s(self, slo: Slo) -> float | None:
        # A class with only an end-to-end target has one due time per request, which no turn moves.
        return 0.0 if slo.itl_s is None and slo.e2e_s is not None else slo.itl_s

    def prefill_deadline_s(self, request: Request) -> float:
        slo = request.service_class.slo
        budget_s = NO_DEADLINE_S if slo.ttft_s is None else slo.ttft_s
        if slo.e2e_s is not None:
            tokens = min(self._lengths.quantile(request.service_class.name, self._quantile),
                         request.max_tokens)
            decode_s = min(tokens * max(self._step_s, self._full_step_s), 0.5 * slo.e2e_s)
            budget_s = min(budget_s, slo.e2e_s - decode_s)
        return request.arrival_s + budget_s

    def next_due_s(self, sequence: Sequence, group: DecodeGroup) -> float:
        assert group.itl_s is not None
        request = sequence.request
        slo = request.service_class.slo
        if slo.itl_s is None:
            assert slo.e2e_s is not None
            return request.arrival_s + slo.e2e_s
        start_s = (sequence.first_token_s if slo.ttft_s is None or slo.itl == "mean"
                   else request.arrival_s + slo.ttft_s)
        outputs = group.generated(sequence)
        return start_s + group.itl_s * outputs

    def groups_to_run(self, decodes: Decodes, now_s: float, joined: list[tuple[int, int]],
                      left: list[int]) -> tuple[int, ...]:
        every = decodes.groups
        groups = all_groups(every)
        if not self._may_wait or len(groups) < 2:
            return groups
        least_s = _ENDLESS_S
        for group in every:
            if group.members:
                allowed_s = self._allowed_alone_s(group, now_s)
                if allowed_s < least_s:
                    least_s = allowed_s
        if self._decode_s(every, groups) <= least_s:
            return groups
        chosen: list[int] = []
        for index in groups:
            allowed_s = self._allowed_alone_s(every[index], now_s)
            if allowed_s <= least_s or allowed_s < AMPLE * least_s:
                chosen.append(index)
        return tuple(chosen)

    def _allowed_alone_s(self, group: DecodeGroup, now_s: float) -> float:
        """Return how long the next step may take without making a group late that runs alone."""
        return self._allowed_s(group, now_s, self._correction.factor * self._decodes.seconds(
            len(group.members), group.context_tokens))

    def steady_turns(self, groups: list[DecodeGroup], now_s: float) -> int:
        running = [group for group in groups if group.members]
        if not self._may_wait or len(running) < 2:
            return UNBOUNDED
        # Durations grow with context. As long as they do not double, these bounds hold.
        seqs = context_tokens = 0
        grown = 0.0
        for group in running:
            seqs += len(group.members)
            context_tokens += group.context_tokens
            grown += float(len(group.members)) * group.turn_tokens
        decode_s = self._correction.factor * self._decodes.seconds(seqs, context_tokens)
        growth_s = self._correction.factor * self._context_s * grown
        turns = decode_s / growth_s if growth_s > 0 else float(UNBOUNDED)
        for group in running:
            if group.itl_s == 0.0:
                allowed_s = self._allowed_by_end_s(group, now_s, decode_s)
                turns = min(turns, self._turns_to_spare(group, now_s, allowed_s, decode_s))
            elif group.turn_s is not None and 2.0 * decode_s > group.turn_s:
                turns = min(turns, (group.turn_s - decode_s) / growth_s if growth_s > 0 else 0.0)
        return max(1, int(turns))

    def _turns_to_spare(self, group: DecodeGroup, now_s: float, allowed_s: float,
                        decode_s: float) -> float:
        """Return the number of turns of twice ``decode_s`` after which the member due first still
        has the time it may need."""
        sequence = group.tightest()
        if sequence is None:
            return float(UNBOUNDED)
        left_s = group.earliest_end_s - now_s
        return left_s / (2.0 * decode_s) - left_s / allowed_s

    def slack_s(self, groups: list[DecodeGroup], running: tuple[int, ...], now_s: float) -> float:
        decode_s = self._decode_s(groups, running)
        allowed_s = _ENDLESS_S
        for index in running:
            allowed_s = min(allowed_s, self._allowed_s(groups[index], now_s, decode_s))
        margin = max(self._least_margin, self._correction.margin)
        return allowed_s / (self._correction.factor * margin)

    def _allowed_s(self, group: DecodeGroup, now_s: float, decode_s: float) -> float:
        """Return how long the next step may take without making a group late. Decodes alone take
        ``decode_s``."""
        if group.itl_s is None:
            return _ENDLESS_S
        if group.itl_s == 0.0:
            return self._allowed_by_end_s(group, now_s, decode_s)
        assert group.turn_s is not None
        if group.turn_s <= decode_s:
            return _ENDLESS_S  # no step keeps the pace, so it does not bind
        return self._allowed_by_pace_s(group, group.turn_s, now_s)

    def _allowed_by_pace_s(self, group: DecodeGroup, turn_s: float, now_s: float) -> float:
        due_s = group.next_due_s()
        if not group.strict:
            # More than one turn late: catching up would exceed the allowance.
            while due_s is not None and due_s < now_s - turn_s:
                group.give_up_tightest()
                due_s = group.next_due_s()
        if due_s is None:
            return _ENDLESS_S
        slack_s = due_s - now_s
        banked_s = slack_s - turn_s
        return turn_s + self._slack_spend_fraction * banked_s if banked_s > 0 else slack_s

    def _allowed_by_end_s(self, group: DecodeGroup, now_s: float, decode_s: float) -> float:
        """Return the time left of the member that must end first, divided by the tokens that it may
        still need."""
        while True:
            sequence = group.tightest()
            if sequence is None:
                return _ENDLESS_S
            request = sequence.request
            likely = self._lengths.quantile(request.service_class.name, self._quantile)
            done = group.generated(sequence)
            tokens = max(min(likely, float(request.max_tokens)) - done, max(1.0, 0.1 * likely))
            allowed_s = (group.earliest_end_s - now_s) / tokens * group.turn_tokens
            if allowed_s > decode_s:
                return allowed_s
            group.give_up_tightest()

    def _decode_s(self, groups: list[DecodeGroup], running: tuple[int, ...]) -> float:
        seqs = context_tokens = 0
        for index in running:
            seqs += len(groups[index].members)
            context_tokens += groups[index].context_tokens
        return self._correction.factor * self._decodes.seconds(seqs, context_tokens)

    def admitted(self, sequence: Sequence) -> None:
        prompt = sequence.request.prompt_tokens
        sequence.work_s = prompt * self._token_s + 0.5 * self._work_s * prompt * prompt

    def finished(self, sequence: Sequence) -> None:
        self._lengths.observe(sequence.request.service_class.name, sequence.generated)

    def committed(self, plan: StepPlan, num_steps: int, planned_s: float, now_s: float) -> None:
        prefill, work, seqs, context_tokens = plan.numbers
        observed_s = now_s - planned_s
        # A driver may report many steps without prompts at once, so they are not learned from: the
        # estimate must not depend on how a driver groups steps.
        if not prefill or observed_s <= 0:
            return
        self._correction.update(self._step_time.seconds(prefill, work, seqs, context_tokens),
                                observed_s)
        if seqs:
            self._step_s += _LEARN * (observed_s - self._step_s)
        prompts_s = self._correction.factor * (prefill * self._token_s + work * self._work_s)
        share = prompts_s / observed_s
        self.prefill_share += _LEARN * (min(1.0, share) - self.prefill_share)
        self.prefill_share = max(0.05, self.prefill_share)
