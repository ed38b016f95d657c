"""Runs at several levels of load: latency, attainment and goodput of each class at each level."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from penstock.core.slo import Slo
from penstock.metrics.run_summary import ClassSummary, RunSummary
from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.table import Cell, Column, Table, table

RATE, CONCURRENCY, POLICY = "requests/s", "concurrency", "policy"
NOTE = ("Each figure is over the requests of one class. ITL is the p99 gap of each request; its "
        "p50 and p99 are over requests. Goodput counts requests within every target.")


@dataclass(frozen=True, slots=True)
class Point:
    """Figures of one class at one level: a rate, a number of requests in flight, or a policy.

    ``label`` tells curves of one class apart. Figures are None where they are undefined.
    """

    level: float | str
    label: str
    service_class: str
    attainment: float | None
    goodput_requests_per_s: float | None
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    itl_p99_p50_s: float | None
    itl_p99_p99_s: float | None


_FIGURES: Mapping[str, Callable[[ClassSummary], float | None]] = {
    "attainment": lambda entry: entry.attainment,
    "goodput_requests_per_s": lambda entry: entry.goodput_requests_per_s,
    "ttft_p50_s": lambda entry: entry.latency.ttft_s.p50,
    "ttft_p99_s": lambda entry: entry.latency.ttft_s.p99,
    "itl_p99_p50_s": lambda entry: entry.latency.itl_p99_s.p50,
    "itl_p99_p99_s": lambda entry: entry.latency.itl_p99_s.p99}


@dataclass(frozen=True, slots=True)
class Levels:
    """Points by level with the objectives of their classes.

    ``variable`` names the level. ``marks`` are levels to draw, by their meaning, such as the
    capacity. ``share`` is the attainment asked of every class where it is not the objective's.
    ``curve`` says what labels name.
    """

    title: str
    variable: str
    points: Sequence[Point]
    slos: Mapping[str, Slo]
    lede: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)
    share: float | None = None
    curve: str = "policy"

    @property
    def labels(self) -> list[str]:
        """Names of the curves of each class, in order."""
        return list(dict.fromkeys(point.label for point in self.points))

    def of(self, service_class: str, label: str) -> list[Point]:
        """The points of one curve, by level."""
        found = [point for point in self.points
                 if (point.service_class, point.label) == (service_class, label)]
        return found if self.variable == POLICY else sorted(
            found, key=lambda point: float(point.level))


def points(level: float | str, label: str, summaries: Sequence[RunSummary]) -> list[Point]:
    """A point per class: means over runs of the same level that have a value."""
    return [Point(level, label, name, **{
        figure: _mean(of(summary.classes[name]) for summary in summaries
                      if name in summary.classes)
        for figure, of in _FIGURES.items()}) for name in summaries[0].classes]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def slos_of(summary: RunSummary) -> dict[str, Slo]:
    """The objective of each class of a run."""
    return {name: entry.slo for name, entry in summary.classes.items()}


def points_table(levels: Levels) -> Table:
    """A row for each point, by class."""
    several = len(levels.labels) > 1
    curve = [Column(levels.curve, left=True)] if several else []
    return table("Latency and goodput by level", [
        Column(levels.variable, left=levels.variable == POLICY), *curve,
        "attainment", Column("goodput", 1), Column("TTFT p50", 3), "TTFT p99",
        Column("ITL p50", 3), Column("ITL p99", 2)],
        groups=[cell.group([_row(point, slo, labelled=several) for label in levels.labels
                            for point in levels.of(name, label)],
                           cell.name(name, series), details=[wording.objective(slo)])
                for series, (name, slo) in enumerate(levels.slos.items())],
        keys=1 + several, by="class", notes=[NOTE])


def _row(point: Point, slo: Slo, *, labelled: bool) -> list[Cell | str]:
    level = point.level if isinstance(point.level, str) else wording.rate(point.level, "")
    return [level, *([point.label] if labelled else []), wording.percent(point.attainment),
            wording.rate(point.goodput_requests_per_s),
            *(cell.judged(wording.seconds(value), wording.is_over(q, value, slo, key))
              for key, q, value in (("ttft_s", "p50", point.ttft_p50_s),
                                    ("ttft_s", "p99", point.ttft_p99_s),
                                    ("itl_p99_s", "p50", point.itl_p99_p50_s),
                                    ("itl_p99_s", "p99", point.itl_p99_p99_s)))]
