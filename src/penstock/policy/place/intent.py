"""Choice of a configuration by intent, with alternatives and the reasons against the others."""

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
    """A configuration with its predictions. Latency is of a whole answer (or a batch of answers),
    memory over all accelerators; ``accuracy`` is from the user's table, None where that has no
    entry. Price and power are of all its accelerators. ``refused`` says why the configuration is
    impossible (no room, nothing measured), empty where it is possible. ``beside`` are the
    deployments on the devices where it would run, whose requests it would wait for.
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
        """Number of accelerators that it occupies."""
        return self.configuration.parallelism.num_accelerators


@dataclass(frozen=True, slots=True)
class Criteria:
    """Goal and constraints of an intent.

    ``slo_s`` bounds the time from a request's arrival to its whole answer. With ``sure`` the high
    end of the prediction interval must meet it, otherwise the point estimate. ``least_accuracy`` is
    in the user's own units, ``precisions`` limits the weights' number formats (None: any).
    ``own_rate_per_s`` is the expected traffic of the deployment, ``others`` is further traffic on
    its devices, which serve one request at a time; with either, latency includes waiting. With
    ``strict_slo`` (MaverIQ's rule), a time equal to the SLO is a miss.
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
    """A candidate with its time from arrival to answer, including waiting, and its value in the
    intent's objective, of which less is better."""

    candidate: Candidate
    response_s: float
    value: float


@dataclass(frozen=True, slots=True)
class Choice:
    """``chosen`` is the best candidate, None where none is allowed. ``alternatives`` are the other
    allowed candidates, best first; ``rejected`` has every other with its reason. ``nearest`` is the
    candidate closest to an SLO that none meets. It is reported and never chosen.
    """

    chosen: Scored | None
    alternatives: tuple[Scored, ...]
    rejected: tuple[tuple[Candidate, str], ...]
    nearest: Scored | None = None

    @property
    def reason(self) -> str:
        """Return one line about why nothing was chosen, empty where something was."""
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
    """A candidate, and its time from arrival to answer, including waiting."""

    candidate: Candidate
    response_s: float

    @property
    def hours(self) -> float:
        """Hours for which an answer occupies the accelerators."""
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
    """Return the best of the candidates that meet all criteria. Raises InputError for an unknown
    intent.

    Of equal values, the order is: fewer accelerators, less latency, name.
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
    """Return the candidates that no other equals or beats in latency, memory, price per answer and
    accuracy at once, fastest first."""
    rows = sorted(scored, key=lambda one: (one.response_s, _order(one)))
    points = [_point(one) for one in rows]
    return [row for i, (row, point) in enumerate(zip(rows, points, strict=True))
            if not any(_covers(other, point) and (other != point or j < i)
                       for j, other in enumerate(points) if j != i)]


def _barred(candidate: Candidate, criteria: Criteria) -> str:
    """Return why a candidate is not allowed, whatever its latency; empty where it is."""
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
    """Return the response time that misses the SLO, None where the SLO is met."""
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
