"""Attainment of each class: requests that met every target, over requests that count."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from penstock.core.slo import ServiceClass, Slo

MOST_RECENT = 500
_TICK_S, _TICKS = 2.0, 90
Counts = dict[str, Any]
"""Plain data that ``Tally.counts`` returns."""

_JUDGED = ("finished", "failed", "broken", "shed")
"""Outcomes that count. A client that disconnected or sent an impossible request is no miss."""


@dataclass(slots=True)
class ClassTally:
    """Requests of one class since the gateway started, with the latencies of the most recent."""

    slo: Slo
    num_judged: int = 0
    num_met: int = 0
    output_tokens: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    ttft_s: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_RECENT))
    e2e_s: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_RECENT))
    recent_met: deque[bool] = field(default_factory=lambda: deque(maxlen=MOST_RECENT))


class End(NamedTuple):
    """How one request ended: ``output_tokens`` by the engine's count, ``num_tokens`` as relayed, of
    which ``num_late`` were late. ``ttft_s`` is None for an answer in one piece."""

    service_class: ServiceClass
    outcome: str
    output_tokens: int
    num_tokens: int
    num_late: int
    ttft_s: float | None
    e2e_s: float


@dataclass(slots=True)
class Tick:
    """Requests that ended in one interval."""

    number: int
    num_ended: int = 0
    num_missed: int = 0
    output_tokens: int = 0


class Tally:
    """Counts the outcomes of requests. One event loop owns the tally."""

    def __init__(self, classes: Iterable[ServiceClass]) -> None:
        self._classes: dict[str, ClassTally] = {}
        self._ticks: deque[Tick] = deque(maxlen=_TICKS)
        self.adopt(classes)

    def adopt(self, classes: Iterable[ServiceClass]) -> None:
        """Replace the service classes and their objectives."""
        for one in classes:
            self._classes.setdefault(one.name, ClassTally(one.slo)).slo = one.slo

    def add(self, end: End, now_s: float) -> bool | None:
        """Count a request that ended. Returns whether it met its targets, None where that is
        undefined."""
        one = self._classes.get(end.service_class.name)
        if one is None:
            one = self._classes[end.service_class.name] = ClassTally(end.service_class.slo)
        one.outcomes[end.outcome] += 1
        one.output_tokens += end.output_tokens
        tick = self._tick(now_s)
        tick.num_ended += 1
        tick.output_tokens += end.output_tokens
        is_met = judged(end)
        if is_met is None:
            return None
        one.num_judged += 1
        one.num_met += is_met
        one.recent_met.append(is_met)
        tick.num_missed += not is_met
        if end.outcome == "finished":
            one.e2e_s.append(end.e2e_s)
            if end.ttft_s is not None:
                one.ttft_s.append(end.ttft_s)
        return is_met

    def counts(self, now_s: float) -> Counts:
        """Return all that is counted as plain data, from which ``tally_document`` draws its
        figures."""
        newest = int(now_s / _TICK_S)
        return {"classes": [_counts(name, one) for name, one in self._classes.items()],
                "ticks": [{"s_ago": (newest - tick.number) * _TICK_S, "num_ended": tick.num_ended,
                           "num_missed": tick.num_missed, "output_tokens": tick.output_tokens}
                          for tick in self._ticks if newest - tick.number < _TICKS]}

    def _tick(self, now_s: float) -> Tick:
        number = int(now_s / _TICK_S)
        if not self._ticks or self._ticks[-1].number != number:
            self._ticks.append(Tick(number))
        return self._ticks[-1]


class Pace:
    """Counts late tokens of one stream as they pass (see docs/reference/metrics.md): against due
    times from ``begun_s`` for a paced ITL, against gaps for a strict ITL, against the mean gap so
    far for a mean ITL. An event counts as one token."""

    __slots__ = ("_due_first_s", "_last_s", "_slo", "num_late")

    def __init__(self, slo: Slo, begun_s: float) -> None:
        self.num_late = 0
        self._slo = slo
        # None: when the first token comes
        self._due_first_s = (None if slo.ttft_s is None or slo.itl == "mean"
                             else begun_s + slo.ttft_s)
        self._last_s = begun_s

    def pass_tokens(self, before: int, after: int, now_s: float) -> None:
        """Count tokens ``before`` to ``after``, which arrived together."""
        pace_s = self._slo.itl_s
        if pace_s is None:
            return
        if self._slo.itl == "strict":
            self.num_late += before > 0 and now_s - self._last_s > pace_s
        else:
            if self._due_first_s is None:
                self._due_first_s = now_s
            passed_s = now_s - self._due_first_s
            if self._slo.itl == "mean":
                self.num_late = after - 1 if passed_s > (after - 1) * pace_s else 0
            elif passed_s > 0.0:
                num_due = min(after, math.ceil(passed_s / pace_s))
                self.num_late += max(0, num_due - before)
        self._last_s = now_s


def judged(end: End) -> bool | None:
    """Whether a request met its targets, None where that is undefined."""
    if end.outcome not in _JUDGED:
        return None
    return end.outcome == "finished" and met(end.service_class.slo, end.num_tokens, end.num_late,
                                             end.ttft_s, end.e2e_s)


def met(slo: Slo, num_tokens: int, num_late: int, ttft_s: float | None, e2e_s: float) -> bool:
    """Whether an answer met its targets, as seen at the gateway. The first token of an answer in
    one piece arrives with its last, and ITL does not apply."""
    first_s = e2e_s if ttft_s is None else ttft_s
    if slo.ttft_s is not None and first_s > slo.ttft_s:
        return False
    if slo.e2e_s is not None and e2e_s > slo.e2e_s:
        return False
    num_judged = num_tokens - (0 if slo.itl == "paced" else 1)
    return num_late <= slo.late_allowance(max(0, num_judged))


def tally_document(counted: Sequence[Counts]) -> dict[str, Any]:
    """Return plain data about the requests of one or several processes: the classes, and recent
    requests by interval."""
    classes: dict[str, dict[str, Any]] = {}
    ticks: dict[float, dict[str, Any]] = {}
    for counts in counted:
        for one in counts["classes"]:
            _add(classes.setdefault(one["name"], {}), one)
        for tick in counts["ticks"]:
            _add(ticks.setdefault(tick["s_ago"], {}), {**tick, "s_ago": 0.0})
    return {"classes": [_class(one) for one in classes.values()], "tick_s": _TICK_S,
            "ticks": [{**ticks[s_ago], "s_ago": s_ago} for s_ago in sorted(ticks, reverse=True)]}


def _counts(name: str, one: ClassTally) -> dict[str, Any]:
    return {"name": name, "percentile": one.slo.percentile,
            "targets": {target: seconds for target in ("ttft_s", "itl_s", "e2e_s")
                        if (seconds := getattr(one.slo, target)) is not None},
            "num_judged": one.num_judged, "num_met": one.num_met, "outcomes": dict(one.outcomes),
            "output_tokens": one.output_tokens, "recent_met": [*map(int, one.recent_met)],
            "ttft_s": [*one.ttft_s], "e2e_s": [*one.e2e_s]}


def _add(total: dict[str, Any], one: Mapping[str, Any]) -> None:
    """Add the numbers and lists of a process to those of others; names, percentile and targets are
    the same for all."""
    for key, value in one.items():
        if key not in total or key in ("name", "percentile", "targets"):
            total[key] = value
        elif key == "outcomes":
            total[key] = dict(Counter(total[key]) + Counter(value))
        else:
            total[key] += value


def _class(one: Mapping[str, Any]) -> dict[str, Any]:
    judged, recent = one["num_judged"], one["recent_met"]
    return {"name": one["name"], "num_judged": judged, "num_met": one["num_met"],
            "attainment": one["num_met"] / judged if judged else None,
            "recent_attainment": sum(recent) / len(recent) if recent else None,
            "percentile": one["percentile"], "outcomes": one["outcomes"],
            "output_tokens": one["output_tokens"], "targets": one["targets"],
            "ttft_s": _quantiles(one["ttft_s"]), "e2e_s": _quantiles(one["e2e_s"])}


def _quantiles(values: Iterable[float]) -> dict[str, float] | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return {f"p{percent}": ordered[min(len(ordered) - 1, percent * len(ordered) // 100)]
            for percent in (50, 95, 99)}
