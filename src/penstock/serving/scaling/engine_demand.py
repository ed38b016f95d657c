"""Demand for one model as its engines' counters show it, without a gateway that tells."""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from penstock.core.slo import Slo
from penstock.policy.scale.history import History
from penstock.policy.scale.values import E2E_BOUNDS_S, TTFT_BOUNDS_S, SeenDemand, Totals
from penstock.serving.scaling.totals import NO_TOTALS

_NUM_RECENT = 256
LOST_S = 600.0
"""Time for which a request that arrived is in no engine before the request counts as lost: a
gateway holds no request for so long."""


class Shown(NamedTuple):
    """Requests that an engine has finished since it started, and those that it holds now."""

    num_finished: int
    num_held: int


class _Mark(NamedTuple):
    """Finished requests of an engine, and the most that it had finished or held."""

    num_finished: int
    most: int


class EngineDemand:
    """Arrivals and ends of one model's requests, of the named service class.

    Without a counter of arrivals, arrivals are the requests that engines finish, plus the growth of
    what they hold: completions alone would hide an overload. A gateway that queues or refuses
    requests hides them from engines. Lengths are the means of the requests between two readings.
    The share of requests in time is that of first tokens and of whole answers within their targets,
    and 0 where the mean gap between tokens is too long.
    """

    def __init__(self, model: str, service_class: str, slo: Slo) -> None:
        self._model = model
        self._class = service_class
        self._slo = slo
        self._marks: dict[Hashable, _Mark] = {}
        self._num_at_engines = 0
        self._counters: dict[Hashable, float] | None = None
        self._num_arrived = 0.0
        self._totals = NO_TOTALS
        self._num_met = 0.0
        self._num_lost = 0.0
        self._outside = History[float](LOST_S)
        self._recent: deque[tuple[int, int]] = deque(maxlen=_NUM_RECENT)

    def add(self, now_s: float, shown: Mapping[Hashable, Shown], totals: Totals | None,
            arrivals: Mapping[Hashable, float] | None) -> SeenDemand:
        """Take the present figures of all engines, their sums, None where there is no engine, and
        the counters of arrivals, None where the file states none. Returns the demand since the
        first reading."""
        for key, one in shown.items():
            self._add_engine(key, one)
        self._marks = {key: self._marks[key] for key in shown}
        if totals is not None:
            self._judge(totals)
        if arrivals is None:
            self._num_arrived = self._num_at_engines
        else:
            self._add_arrivals(now_s, arrivals)
        known = self._totals
        return SeenDemand(self._model, self._class, int(self._num_arrived), known.prompt_tokens,
                          known.num_finished, known.output_tokens, 0, int(self._num_met),
                          int(self._num_lost), tuple(self._recent))

    def _add_engine(self, key: Hashable, one: Shown) -> None:
        """Count what has arrived at an engine since the last reading. What an engine holds when it
        is first seen has arrived."""
        most, mark = one.num_finished + one.num_held, self._marks.get(key)
        if mark is None:
            self._num_at_engines += one.num_held
        elif one.num_finished < mark.num_finished:  # the engine has started anew
            self._num_at_engines += most
        else:
            self._num_at_engines += max(0, most - mark.most)
            most = max(most, mark.most)
        self._marks[key] = _Mark(one.num_finished, most)

    def _add_arrivals(self, now_s: float, counters: Mapping[Hashable, float]) -> None:
        """Count what has arrived at the gateway since the last reading. A counter counts from its
        first value on, and from 0 where it falls."""
        if self._counters is None:
            self._num_arrived, self._counters = float(self._num_at_engines), {}
        for key, value in counters.items():
            last = self._counters.get(key, value)
            self._num_arrived += value - last if value >= last else value
        self._counters = dict(counters)
        self._outside.add(now_s, self._num_arrived - self._num_at_engines)
        if self._outside.span_s >= LOST_S:
            self._num_lost = max(self._num_lost, min(self._outside.since(now_s - LOST_S)))

    def _judge(self, totals: Totals) -> None:
        """Count the requests in time, and keep the mean lengths, of those that ended since the last
        reading."""
        last, self._totals = self._totals, totals
        num = totals.num_finished - last.num_finished
        if num <= 0:
            return
        prompt = (totals.prompt_tokens - last.prompt_tokens) / num
        output = (totals.output_tokens - last.output_tokens) / num
        self._recent.append((max(1, round(prompt)), max(1, round(output))))
        self._num_met += num * min(
            _share(self._slo.ttft_s, TTFT_BOUNDS_S, totals.ttft, last.ttft),
            _share(self._slo.e2e_s, E2E_BOUNDS_S, totals.e2e, last.e2e),
            self._pace(totals, last))

    def _pace(self, totals: Totals, last: Totals) -> float:
        num_gaps = sum(totals.tpot) - sum(last.tpot)
        if (self._slo.itl_s is None or not num_gaps or totals.tpot_sum_s is None
                or last.tpot_sum_s is None):
            return 1.0
        return float((totals.tpot_sum_s - last.tpot_sum_s) / num_gaps <= self._slo.itl_s)


def _share(target_s: float | None, bounds_s: tuple[float, ...], now: tuple[int, ...],
           before: tuple[int, ...]) -> float:
    """Return the share of durations within a target, in equal parts within a bucket; 1 without a
    target or without durations."""
    total = sum(now) - sum(before)
    if target_s is None or total <= 0:
        return 1.0
    within, low_s = 0.0, 0.0
    for upper_s, new, old in zip(bounds_s, now, before, strict=False):
        if upper_s <= target_s:
            within += new - old
        elif low_s < target_s:
            within += (new - old) * (target_s - low_s) / (upper_s - low_s)
        low_s = upper_s
    return within / total
