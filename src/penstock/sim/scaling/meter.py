"""Counters of simulated engines, as a scaler may see them."""

from penstock.core.request import Request
from penstock.core.slo import Slo
from penstock.core.step import CONTEXT_PARTS, StepPlan
from penstock.core.units import PS_PER_S
from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.values import (
    E2E_BOUNDS_S,
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
    Totals,
    bucket,
)


def in_time(slo: Slo, output_tokens: int, ttft_s: float, e2e_s: float) -> bool:
    """Whether an answer was in time, by its first and last token alone: a gateway that keeps the
    time of every token could also count the late ones."""
    if slo.e2e_s is not None and e2e_s > slo.e2e_s:
        return False
    if slo.ttft_s is not None and ttft_s > slo.ttft_s:
        return False
    if slo.itl_s is None or output_tokens < 2:
        return True
    due_s = (output_tokens - 1) * slo.itl_s
    if slo.itl == "paced" and slo.ttft_s is not None:
        return e2e_s <= slo.ttft_s + due_s
    return e2e_s - ttft_s <= due_s


class GroupMeter:
    """Counts the first tokens, gaps and answers of one group's engines, as the engines end steps.
    Answers count in the gateway's ``demand``, too."""

    def __init__(self, demand: DemandMeter) -> None:
        self.num_finished = 0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self._demand = demand
        self._ttft = [0] * (len(TTFT_BOUNDS_S) + 1)
        self._tpot = [0] * (len(TPOT_BOUNDS_S) + 1)
        self._ttft_sum_s = 0.0
        self._tpot_sum_s = 0.0
        self._e2e = [0] * (len(E2E_BOUNDS_S) + 1)

    def first_token(self, request: Request, now_ps: int) -> None:
        """Count a first token. Its latency counts from the arrival at the gateway."""
        ttft_s = now_ps / PS_PER_S - request.arrival_s
        self._ttft[bucket(TTFT_BOUNDS_S, ttft_s)] += 1
        self._ttft_sum_s += ttft_s
        self.prompt_tokens += request.prompt_tokens
        self.output_tokens += 1

    def cached(self, num_tokens: int) -> None:
        """Count prompt tokens that a prefix cache had."""
        self.cached_tokens += num_tokens

    def ran(self, plan: StepPlan, num_steps: int, duration_ps: int, growth_ps: int) -> None:
        """Count the gaps of so many copies of a step. Each copy takes ``growth_ps`` longer.

        Where decodes draft, a turn counts as the mean number of tokens that it gives."""
        _, _, num_seqs, _ = plan.numbers
        if num_seqs:
            mean_s = (duration_ps + growth_ps * (num_steps - 1) / 2) / PS_PER_S
            num_tokens = num_seqs * num_steps
            if plan.drafted is not None:
                num_tokens = num_steps * plan.drafted.growth_parts // CONTEXT_PARTS
                mean_s *= num_seqs * CONTEXT_PARTS / plan.drafted.growth_parts
            self._tpot[bucket(TPOT_BOUNDS_S, mean_s)] += num_tokens
            self._tpot_sum_s += mean_s * num_tokens
            self.output_tokens += num_tokens

    def finished(self, request: Request, output_tokens: int, first_ps: int, last_ps: int) -> None:
        """Count a finished answer. To the gateway, a prompt that goes on elsewhere is none."""
        self.num_finished += 1
        self._e2e[bucket(E2E_BOUNDS_S, last_ps / PS_PER_S - request.arrival_s)] += 1
        if request.lends:
            return
        met = in_time(request.service_class.slo, output_tokens,
                      first_ps / PS_PER_S - request.arrival_s,
                      last_ps / PS_PER_S - request.arrival_s)
        self._demand.finished(request.model, request.service_class.name, request.prompt_tokens,
                              output_tokens, met=met)

    def totals(self) -> Totals:
        """Return the counters."""
        return Totals(self.num_finished, self.prompt_tokens, self.output_tokens,
                      tuple(self._ttft), tuple(self._tpot), self._ttft_sum_s, self._tpot_sum_s,
                      self.cached_tokens, tuple(self._e2e))
