"""Views of a plan document that tables and the page share.

A document is what docs/reference/plan-json.md describes. Any key may be absent, and numbers that
are not finite count as absent.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite, prod
from typing import Any, NamedTuple

from penstock.core.slo import Slo
from penstock.report.model import wording

Document = Mapping[str, Any]
Section = Sequence[Mapping[str, Any]]

_LATENCIES = {"ttft_p50_s": ("TTFT p50", "p50", "ttft_s"),
              "ttft_p99_s": ("TTFT p99", "p99", "ttft_s"),
              "itl_p99_s": ("ITL p99", "p99", "itl_p99_s"),
              "tpot_p99_s": ("TPOT p99", "p99", "tpot_s")}


CENT = 0.005  # what is less rounds to no money


def cleaned(value: Any) -> Any:
    """The value with None for every number in it that is not finite."""
    if isinstance(value, Mapping):
        return {key: cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def listed(document: Document, key: str) -> Section:
    """A list of the document; empty where there is none."""
    return document.get(key) or ()


def accelerators(document: Document) -> Section:
    """Accelerators by kind; plans of release 0.2 and earlier have them under ``cards``."""
    return listed(document, "accelerators") or listed(document, "cards")


class Group(NamedTuple):
    """Replicas of one variant that a demand gets. ``accelerators`` are of one kind, of the
    ``available`` ones; None where the document does not tell. ``unmeasured`` is as in it."""

    variant: str
    num_replicas: int
    accelerators: int | None
    available: int | None
    cost_per_hour: float | None
    power_w: float | None
    unmeasured: Sequence[str] = ()


def groups(document: Document) -> list[list[Group]]:
    """The replicas that each demand gets, demands in the document's order."""
    counts = {pool.get("accelerator"): pool.get("count") for pool in accelerators(document)}
    found = []
    for demand, candidates in _with_candidates(document):
        known = {candidate.get("variant"): candidate for candidate in candidates}
        found.append([_group(variant, int(number), known.get(variant, {}), counts)
                      for variant, number in (demand.get("replicas") or {}).items()])
    return found


def _group(variant: str, number: int, candidate: Mapping[str, Any],
           counts: Mapping[Any, int | None]) -> Group:
    each = None if not candidate else \
        prod(int(candidate.get(name) or 1) for name in ("tensor", "pipeline", "data"))
    return Group(variant, number, _times(number, each), counts.get(candidate.get("accelerator")),
                 _times(number, candidate.get("cost_per_hour")),
                 _times(number, candidate.get("power_w")), candidate.get("unmeasured") or ())


def _with_candidates(document: Document) -> Iterable[tuple[Mapping[str, Any], Section]]:
    """Every demand with its candidates."""
    known: dict[Any, list[Mapping[str, Any]]] = {}
    for candidate in listed(document, "candidates"):
        known.setdefault(candidate.get("demand"), []).append(candidate)
    return ((demand, known.get(demand.get("name"), ())) for demand in listed(document, "demands"))


def _times(number: int, each: Any) -> Any:
    return None if each is None else number * each


def num_replicas(document: Document) -> int:
    """Replicas of the whole plan."""
    return sum(int(number) for demand in listed(document, "demands")
               for number in (demand.get("replicas") or {}).values())


def accelerators_used(document: Document) -> tuple[int, int | None]:
    """Accelerators that the plan uses, and those there are; None where some are unlimited."""
    pools = accelerators(document)
    counts = [pool.get("count") for pool in pools]
    used = sum(int(pool.get("used") or 0) for pool in pools)
    return used, None if None in counts else sum(int(count or 0) for count in counts)


class Outcome(NamedTuple):
    """Outcome of a class in simulation: shares of its requests, and whether they suffice."""

    demand: str
    service_class: str
    slo: Slo
    worst_seed: float | None
    attainment: float | None
    meets: bool | None
    served: bool


def outcomes(document: Document) -> list[Outcome]:
    """Every class of every demand."""
    found = []
    for demand, entry in _classes(document):
        worst, slo = entry.get("worst_seed"), _slo(entry)
        meets = None if worst is None else worst >= slo.percentile / 100.0 - 1e-9
        found.append(Outcome(str(demand.get("name")), str(entry.get("name")), slo, worst,
                             entry.get("attainment"), meets,
                             bool(demand.get("replicas"))))
    return found


class Compared(NamedTuple):
    """One latency of a class as predicted and as simulated, seconds.

    ``endless`` says that the analytic model expects no end to its growth; ``error`` is
    (predicted - simulated) / simulated; the marks say which of the two breaks the target, None
    where no target binds this percentile.
    """

    title: str
    target_s: float | None
    simulated_s: float | None
    predicted_s: float | None
    endless: bool
    error: float | None
    simulated_over: bool | None
    predicted_over: bool | None


def compared(document: Document) -> dict[tuple[str, str], list[Compared]]:
    """Latencies by (demand, class); classes that were neither predicted nor simulated are left
    out. A class with a TPOT has that in the place of the ITL."""
    found = {}
    for demand, entry in _classes(document):
        known = {*(entry.get("simulated") or {}), *(entry.get("predicted") or {})}
        if "tpot_p99_s" in known:
            known.discard("itl_p99_s")
        rows = [_compared(key, entry) for key in _LATENCIES if key in known]
        if rows:
            found[str(demand.get("name")), str(entry.get("name"))] = rows
    return found


def _compared(key: str, entry: Mapping[str, Any]) -> Compared:
    title, percentile, latency = _LATENCIES[key]
    slo = _slo(entry)
    predictions = entry.get("predicted") or {}
    simulated, predicted = (entry.get("simulated") or {}).get(key), predictions.get(key)
    endless = key in predictions and predicted is None
    error = (predicted - simulated) / simulated if simulated and predicted is not None else None
    return Compared(title, wording.target(latency, slo), simulated, predicted, endless, error,
                    wording.is_over(percentile, simulated, slo, latency),
                    wording.is_over(percentile, inf if endless else predicted, slo, latency))


def _slo(entry: Mapping[str, Any]) -> Slo:
    """A class's objective; without a percentile it is of all requests."""
    slo = entry.get("slo") or {}
    percentile = slo.get("percentile")
    return Slo(slo.get("ttft_s"), slo.get("itl_s"), slo.get("e2e_s"), slo.get("itl") or "paced",
               100.0 if percentile is None else percentile)


def _classes(document: Document) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return ((demand, entry) for demand in listed(document, "demands")
            for entry in listed(demand, "classes"))


class Ranked(NamedTuple):
    """A candidate with how many replicas of it the plan starts for its demand."""

    candidate: Mapping[str, Any]
    in_plan: int
    slowest_ttft_p99_s: float | None


def ranked(document: Document) -> list[list[Ranked]]:
    """Candidates of each demand, demands in the document's order; those that would carry theirs
    alone at least cost come first."""
    return [[Ranked(c, int((demand.get("replicas") or {}).get(c.get("variant"), 0)), _slowest(c))
             for c in sorted(candidates, key=_cost_alone_and_name)]
            for demand, candidates in _with_candidates(document)]


def any_saves(document: Document) -> bool:
    """Whether early tokens of a class make up for late ones, so that no percentile of gaps is held
    against its ITL."""
    slos = [_slo(entry) for _, entry in _classes(document)]
    return any(slo.itl_s is not None and slo.itl == "paced" for slo in slos)


def worth_something(document: Document) -> Section:
    """Return the limited resources of which more would be worth something."""
    return [item for item in listed(document, "shadow_prices")
            if (item.get("one_more_saves_per_hour") or 0.0) > CENT
            or (item.get("dual_per_hour") or 0.0) > CENT
            or sum((item.get("serves_per_s") or {}).values()) > 0]


def dominated_point(document: Document) -> Mapping[str, Any] | None:
    """The plan's own cost and latency where another plan is better by the model; else None."""
    point = document.get("plan_point")
    return point if point and point.get("on_front") is False else None


def differing(document: Document, point: Mapping[str, Any]) -> dict[str, Mapping[str, int]]:
    """The replicas of demands that a plan on the front serves with others than this plan."""
    mine: dict[str, Mapping[str, int]] = {
        str(demand.get("name")): demand.get("replicas") or {}
        for demand in listed(document, "demands")}
    theirs: Mapping[str, Mapping[str, int]] = point.get("replicas") or {}
    return {name: theirs.get(name) or {} for name in {**mine, **theirs}
            if (theirs.get(name) or {}) != mine.get(name, {})}


def _cost_alone_and_name(candidate: Mapping[str, Any]) -> tuple[float, str]:
    return _or_inf(candidate.get("cost_alone_per_hour")), str(candidate.get("variant"))


def _slowest(candidate: Mapping[str, Any]) -> float | None:
    """p99 TTFT of the class that waits longest; None where one's would grow without end."""
    slowest = max((_or_inf(entry.get("ttft_p99_s")) for entry in listed(candidate, "classes")),
                  default=inf)
    return slowest if isfinite(slowest) else None


def _or_inf(value: float | None) -> float:
    return inf if value is None else value


def entered(trial: Mapping[str, Any]) -> float:
    """The share of the demand's requests that a trial let in."""
    share = trial.get("share")
    return 1.0 if share is None else float(share)


def worst(trial: Mapping[str, Any]) -> float | None:
    """The lowest attainment of a trial's classes, in the seed where it is lowest."""
    return min((share for share in (trial.get("attainment") or {}).values() if share is not None),
               default=None)


class Unserved(NamedTuple):
    """A demand that is not served in full, with all that explains it."""

    demand: str
    served_share: float
    explanations: tuple[str, ...]


def unserved(document: Document) -> list[Unserved]:
    """Demands that are not served in full."""
    shares = {demand.get("name"): demand.get("served_share") or 0.0
              for demand in listed(document, "demands")}
    texts: dict[str, list[str]] = {}
    for item in listed(document, "explanations"):
        texts.setdefault(str(item.get("demand")), []).append(str(item.get("text")))
    return [Unserved(name, shares.get(name, 0.0), tuple(texts.get(name, ())))
            for name in map(str, listed(document, "unserved"))]
