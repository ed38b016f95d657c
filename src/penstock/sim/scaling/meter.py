"""Counters of simulated engines and of the gateway before them, as a scaler may see them."""

from collections import deque
from collections.abc import Mapping
from typing import Final

from penstock.core.request import Request
from penstock.core.slo import Slo
from penstock.core.step import StepPlan
from penstock.core.units import PS_PER_S
from penstock.policy.scale.values import TPOT_BOUNDS_S, TTFT_BOUNDS_S, SeenDemand, Totals, bucket

NUM_RECENT: Final = 2048
_REFRESH: Final = 256


class _Demand:
    """Counters of one model and class, and the latest lengths. ``shown`` is the view of the
    lengths, made anew after some answers."""

    __slots__ = ("num_arrived", "num_finished", "num_held", "num_lost", "num_met",
                 "output_tokens", "prompt_tokens", "recent", "shown")

    def __init__(self) -> None:
        self.num_arrived = 0
        self.prompt_tokens = 0
        self.num_finished = 0
        self.output_tokens = 0
        self.num_held = 0
        self.num_met = 0
        self.num_lost = 0
        self.recent: deque[tuple[int, int]] = deque(maxlen=NUM_RECENT)
        self.shown: tuple[tuple[int, int], ...] = ()


class DemandMeter:
    """Counts the gateway's arrivals and the ends of requests, by model and class."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str], _Demand] = {}

    def arrived(self, request: Request) -> None:
        """Count an arrival."""
        one = self._of(request)
        one.num_arrived += 1
        one.prompt_tokens += request.prompt_tokens

    def finished(self, request: Request, output_tokens: int, first_ps: int, last_ps: int) -> None:
        """Count a finished answer, with the times of its first and last token."""
        one = self._of(request)
        one.num_finished += 1
        one.output_tokens += output_tokens
        one.num_met += in_time(request.service_class.slo, output_tokens,
                               first_ps / PS_PER_S - request.arrival_s,
                               last_ps / PS_PER_S - request.arrival_s)
        one.recent.append((request.prompt_tokens, output_tokens))
        if one.num_finished % _REFRESH == 0 or one.num_finished < _REFRESH:
            one.shown = ()

    def lost(self, request: Request) -> None:
        """Count a request that was refused or given up."""
        self._of(request).num_lost += 1

    def held(self, request: Request, change: int) -> None:
        """Count a request that begins (1) or ends (-1) to wait for a replica."""
        self._of(request).num_held += change

    def _of(self, request: Request) -> _Demand:
        key = (request.model, request.service_class.name)
        one = self._by_key.get(key)
        if one is None:
            one = self._by_key[key] = _Demand()
        return one

    def seen(self) -> tuple[SeenDemand, ...]:
        """Return the counters by model and class, in order of name."""
        found: Mapping[tuple[str, str], _Demand] = self._by_key
        for one in found.values():
            if not one.shown and one.recent:
                one.shown = tuple(one.recent)
        return tuple(SeenDemand(model, name, one.num_arrived, one.prompt_tokens, one.num_finished,
                                one.output_tokens, one.num_held, one.num_met, one.num_lost,
                                one.shown)
                     for (model, name), one in sorted(found.items()))


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
        self._demand = demand
        self._ttft = [0] * (len(TTFT_BOUNDS_S) + 1)
        self._tpot = [0] * (len(TPOT_BOUNDS_S) + 1)

    def first_token(self, request: Request, now_ps: int) -> None:
        """Count a first token. Its latency counts from the arrival at the gateway."""
        self._ttft[bucket(TTFT_BOUNDS_S, now_ps / PS_PER_S - request.arrival_s)] += 1
        self.prompt_tokens += request.prompt_tokens
        self.output_tokens += 1

    def ran(self, plan: StepPlan, num_steps: int, duration_ps: int, growth_ps: int) -> None:
        """Count the gaps of so many copies of a step. Each copy takes ``growth_ps`` longer."""
        num_seqs = plan.features.decode_seqs
        if num_seqs:
            mean_ps = duration_ps + growth_ps * (num_steps - 1) / 2
            self._tpot[bucket(TPOT_BOUNDS_S, mean_ps / PS_PER_S)] += num_seqs * num_steps
            self.output_tokens += num_seqs * num_steps

    def finished(self, request: Request, output_tokens: int, first_ps: int, last_ps: int) -> None:
        """Count a finished answer."""
        self.num_finished += 1
        self._demand.finished(request, output_tokens, first_ps, last_ps)

    def totals(self) -> Totals:
        """Return the counters."""
        return Totals(self.num_finished, self.prompt_tokens, self.output_tokens,
                      tuple(self._ttft), tuple(self._tpot))
