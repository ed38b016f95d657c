"""Choice of a configuration by intent, with the runners-up and the reasons against the others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError, nearest
from penstock.core.prediction import Prediction
from penstock.policy.place.beside import Neighbour, Traffic, known_traffic, waiting_s

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration with what is expected of it. Latency is of a whole answer (or batch of them),
    memory over all accelerators together; ``accuracy`` is what the user's table says, None where it
    says nothing. Price and power are of all its accelerators. ``refused`` says why it cannot be had
    at all (no room, nothing measured), empty where it can. ``beside`` are the deployments on the
    devices where it would go: what they are asked is waited for.
    """

    configuration: Configuration
    latency_s: Prediction
    memory_bytes: Prediction
    accuracy: float | None = None
    price_per_hour: float = 0.0
    power_w: float = 0.0
    refused: str = ""
    beside: tuple[Neighbour, ...] = ()

    @property
    def num_accelerators(self) -> int:
        """Accelerators that it occupies."""
        return self.configuration.parallelism.num_accelerators


@dataclass(frozen=True, slots=True)
class Criteria:
    """Goal and constraints of an intent.

    ``slo_s`` bounds a whole answer from its arrival; with ``sure`` the high end of the interval
    must keep it, otherwise the point estimate. ``least_accuracy`` is in the user's own units,
    ``precisions`` limits the weights' number formats (None: any). ``own`` is the traffic that the
    deployment is for, ``others`` what else its devices serve one at a time, wherever it goes: with
    either, waiting is part of latency. As MaverIQ has it (``strict_slo``) the SLO itself is a miss.
    """

    intent: str = "min_cost"
    slo_s: float | None = None
    sure: bool = True
    strict_slo: bool = False
    least_accuracy: float | None = None
    precisions: frozenset[str] | None = None
    most_accelerators: int | None = None
    own_rate_per_s: float = 0.0
    others: tuple[Traffic, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with the time from arrival to answer, waiting included, and its value in the
    intent's objective: the less the better."""

    candidate: Candidate
    response_s: float
    value: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The best candidate, None where none may be taken; the others that may, best first;
    ``rejected`` has the reason of every other. ``nearest`` is the one that came closest where an
    objective could not be met: an answer, and never taken in its place.
    """

    chosen: Scored | None
    alternatives: tuple[Scored, ...]
    rejected: tuple[tuple[Candidate, str], ...]
    nearest: Scored | None = None

    @property
    def reason(self) -> str:
        """In one line why nothing was chosen; empty where something was."""
        if self.chosen is not None:
            return ""
        if not self.rejected:
            return "there is no configuration to choose from"
        counts: dict[str, int] = {}
        for _, why in self.rejected:
            kind = why.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
        said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        close = ""
        if self.nearest is not None:
            latency = self.nearest.candidate.latency_s
            most_s = self.nearest.response_s + latency.high - latency.value
            close = (f"; the closest is {self.nearest.candidate.configuration.name} with "
                     f"{self.nearest.response_s:.3g} s"
                     + (f", {most_s:.3g} s at most" if most_s > self.nearest.response_s else ""))
        return f"none of {len(self.rejected)} configurations will do: {said}{close}"


class Response(NamedTuple):
    """A candidate, and how long its answers take from arrival on, waiting included."""

    candidate: Candidate
    response_s: float

    @property
    def hours(self) -> float:
        """How long an answer keeps the accelerators."""
        return self.candidate.latency_s.value / _SECONDS_PER_HOUR


OBJECTIVES: Mapping[str, Callable[[Response], float]] = {
    "min_lat": lambda one: one.response_s,
    "min_mem": lambda one: one.candidate.memory_bytes.value,
    "min_cost": lambda one: one.response_s * one.candidate.memory_bytes.value,
    "min_gpu_cost": lambda one: one.response_s * one.candidate.num_accelerators,
    "money": lambda one: one.hours * one.candidate.price_per_hour,
    "energy": lambda one: one.hours * _SECONDS_PER_HOUR * one.candidate.power_w,
}
"""Quantity that an intent minimizes: seconds; bytes; byte seconds; accelerator seconds; money and
joules of an answer. The first four are MaverIQ's, with waiting where traffic is stated."""


def choose(candidates: Sequence[Candidate], criteria: Criteria) -> Choice:
    """The best of the candidates that meet all criteria. Raises InputError for an unknown intent.

    Equal values: fewer accelerators, then less latency, then the name.
    """
    objective = OBJECTIVES.get(criteria.intent)
    if objective is None:
        raise InputError(f"intent: {criteria.intent!r} is unknown"
                         f"{nearest(criteria.intent, OBJECTIVES)}")
    fit: list[Scored] = []
    late: list[tuple[float, Scored]] = []
    rejected: list[tuple[Candidate, str]] = []
    for candidate in candidates:
        why = _barred(candidate, criteria)
        wait_s = None if why else waiting_s(candidate.latency_s.value, criteria.own_rate_per_s,
                                            (*criteria.others, *known_traffic(candidate.beside)))
        if not why and wait_s is None:
            why = "overloaded: its devices would be busy all of the time" + _with(candidate.beside)
        if why or wait_s is None:
            rejected.append((candidate, why))
            continue
        response_s = candidate.latency_s.value + wait_s
        scored = Scored(candidate, response_s, objective(Response(candidate, response_s)))
        late_s = _late_s(candidate, wait_s, criteria)
        if late_s is None:
            fit.append(scored)
        else:
            late.append((late_s, scored))
            rejected.append((candidate, f"too slow: {late_s:.3g} s of {criteria.slo_s:.3g} s"))
    fit.sort(key=_order)
    nearest_miss = min(late, key=lambda one: (one[0], _order(one[1])), default=(0.0, None))[1]
    return Choice(fit[0] if fit else None, tuple(fit[1:]), tuple(rejected),
                  None if fit else nearest_miss)


def pareto(scored: Iterable[Scored]) -> list[Scored]:
    """Those that no other beats or equals in latency, memory, price per answer and accuracy at
    once, fastest first."""
    rows = sorted(scored, key=lambda one: (one.response_s, _order(one)))
    points = [_point(one) for one in rows]
    return [row for i, (row, point) in enumerate(zip(rows, points, strict=True))
            if not any(_covers(other, point) and (other != point or j < i)
                       for j, other in enumerate(points) if j != i)]


def _barred(candidate: Candidate, criteria: Criteria) -> str:
    """Why a candidate may not be taken whatever its latency, empty where it may."""
    if candidate.refused:
        return candidate.refused
    precision = candidate.configuration.precision
    if criteria.precisions is not None and precision not in criteria.precisions:
        return f"precision not allowed: {precision}"
    most = criteria.most_accelerators
    if most is not None and candidate.num_accelerators > most:
        return f"too many accelerators: {candidate.num_accelerators} of {most}"
    if criteria.least_accuracy is not None:
        if candidate.accuracy is None:
            return f"accuracy unknown: no entry for {precision}, " \
                   f"{candidate.configuration.kv_precision} cache"
        if candidate.accuracy < criteria.least_accuracy:
            return f"not accurate enough: {candidate.accuracy:g} of {criteria.least_accuracy:g}"
    return ""


def _with(beside: Sequence[Neighbour]) -> str:
    names = [one.name for one in beside if one.traffic is not None]
    return f" with {', '.join(names)} there" if names else ""


def _late_s(candidate: Candidate, wait_s: float, criteria: Criteria) -> float | None:
    """The response time that misses the SLO, None where it is kept."""
    if criteria.slo_s is None:
        return None
    latency = candidate.latency_s
    response_s = wait_s + (latency.high if criteria.sure else latency.value)
    kept = response_s < criteria.slo_s if criteria.strict_slo else response_s <= criteria.slo_s
    return None if kept else response_s


def _order(one: Scored) -> tuple[float, int, float, str]:
    return (one.value, one.candidate.num_accelerators, one.response_s,
            one.candidate.configuration.name)


def _point(one: Scored) -> tuple[float, float, float, float]:
    candidate = one.candidate
    price = candidate.latency_s.value * candidate.price_per_hour
    return (one.response_s, candidate.memory_bytes.value, price, -(candidate.accuracy or 0.0))


def _covers(better: tuple[float, ...], worse: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(better, worse, strict=True))
