"""The tables of a run."""

from collections.abc import Iterator

from penstock.core.slo import Slo
from penstock.metrics.run_summary import (
    Certainty,
    ClassSummary,
    Cost,
    Outcome,
    Percentiles,
    RunSummary,
    Sizing,
    TaskSummary,
)
from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.table import Bar, Cell, Column, Opening, Table, Verdict, table

MISSED_BY = Column("missed by", left=True, prose=True)
_COSTS = ("per_hour", "total", "per_million_tokens", "per_million_output_tokens",
          "per_finished_request", "per_met_request")


def opening(summary: RunSummary) -> Opening:
    """The outcome of the run, its figures and a verdict per class."""
    return Opening(
        wording.headline(summary), wording.facts(summary), f"{wording.arrivals(summary)}.",
        f"{wording.count(summary.overall.met)} of the requests were within every target of their "
        "class.", "Verdict by service class",
        [_verdict(name, entry) for name, entry in summary.classes.items()])


def _verdict(name: str, entry: ClassSummary) -> Verdict:
    meets = entry.meets_slo
    share = f" at {wording.percent(entry.attainment)}" if meets is not None else ""
    if entry.tasks is not None and entry.slo.task_s is not None:
        share += f", sessions at {wording.percent(entry.tasks.attainment)}"
    return Verdict(meets, f"{name} {wording.verdict(meets)}{share}", wording.objective(entry.slo))


def classes_table(summary: RunSummary) -> Table:
    """Counts, attainment and goodput, a row for each class and one for all."""
    entries = (*summary.classes.values(), summary.overall)
    # A column of noughts goes first.
    rejected, shed = (5 if not any(counts) else 1 for counts in (
        [entry.rejected for entry in entries], [entry.shed for entry in entries]))
    rows = [[cell.name(name, series), cell.verdict(entry.meets_slo),
             _attainment(entry, entry.slo.percentile / 100, series),
             *_outcome(entry, cell.verdict(entry.meets_slo, wording.level(entry.slo.percentile))),
             _missed_by(entry)] for series, (name, entry) in enumerate(summary.classes.items())]
    overall = summary.overall
    found = table("Service classes", (
        "class", "verdict", "attainment", Column("95 % interval", 2), "objective",
        Column("received", 3), Column("finished", 4), Column("rejected", rejected),
        Column("shed", shed), "unfinished", Column("goodput", 3), "late tokens", MISSED_BY), rows,
        total=["overall", cell.verdict(overall.meets_slo), _attainment(overall),
               *_outcome(overall, ""), ""])
    missing = any(map(_missed_by, summary.classes.values()))
    return found if missing else found.without(MISSED_BY.title)


def tasks_table(summary: RunSummary) -> Table | None:
    """Sessions of each class as a whole: their times and their share in time."""
    if summary.overall.tasks is None:
        return None
    return table(
        "Sessions", ("class", "attainment", Column("95 % interval", 2), "objective", "began",
                     "finished", Column("requests", 4), "mean", "p50", Column("p90", 3), "p99",
                     Column("interactivity", 5)),
        [[cell.name(name, series), *_tasks(entry.tasks, entry.slo)]
         for series, (name, entry) in enumerate(summary.classes.items())
         if entry.tasks is not None],
        total=["overall", *_tasks(summary.overall.tasks, None)],
        notes=["Time of a session: first arrival to last token, thinking and tools included. "
               "Sessions that did not finish count as misses."])


def _tasks(found: TaskSummary, slo: Slo | None) -> list[str]:
    goal = "" if slo is None or slo.task_s is None else \
        f"≤ {wording.seconds(slo.task_s)} for {wording.level(slo.percentile)}"
    times = (found.time_mean_s, found.time_s.p50, found.time_s.p90, found.time_s.p99)
    return [wording.percent(found.attainment),
            wording.interval(found.attainment_low, found.attainment_high), goal,
            wording.count(found.began), wording.count(found.finished),
            wording.count(found.requests), *map(wording.seconds, times),
            wording.rate(found.interactivity_tokens_per_s, "tokens/s")]


def certainty_table(found: Certainty) -> Table:
    """Intervals of every class, and below them the probability that all meet their objectives."""
    return table("How certain", ["class", "attainment", "TTFT p99", "TPOT p99"], [
        (name, wording.interval(*entry.attainment), wording.ends(entry.ttft_p99_s),
         wording.ends(entry.tpot_p99_s)) for name, entry in found.classes.items()],
        notes=[f"Every class meets its objective with a probability of "
               f"{wording.probability(found.meets_probability)}, as far as step times are "
               "uncertain. Intervals of 90 %, from runs with slow and with fast steps."])


def _missed_by(entry: ClassSummary) -> str:
    """Return the misses of a class that misses its objective; runs of earlier versions lack
    them."""
    if entry.meets_slo is not False:
        return ""
    parts = [wording.missed_by(entry.missed or {}, entry.slo)]
    if entry.tasks is not None and entry.slo.task_s is not None:
        parts.append(f"sessions {wording.count(entry.tasks.began - entry.tasks.met)}")
    return ", ".join(filter(None, parts))


def _attainment(entry: Outcome, goal: float | None = None, series: int | None = None) -> Cell:
    share, low, high = entry.attainment, entry.attainment_low, entry.attainment_high
    bar = None if share is None or low is None or high is None else Bar(share, (low, high), goal)
    return cell.with_bar(wording.percent(share), bar, series)


def _outcome(entry: Outcome, goal: Cell | str) -> list[Cell | str]:
    late = entry.num_late_tokens / entry.output_tokens if entry.output_tokens else None
    counts = (entry.received, entry.finished, entry.rejected, entry.shed, entry.unfinished)
    return [wording.interval(entry.attainment_low, entry.attainment_high), goal,
            *map(cell.count, counts), wording.rate(entry.goodput_requests_per_s),
            wording.percent(late)]


def latency_table(summary: RunSummary) -> Table:
    """Percentiles of each latency by class against the targets that bind them."""
    return table(
        "Latency", [Column("latency", left=True), "target", Column("p50", 1),
                    Column("p90", 3), Column("p95", 2), "p99"],
        groups=[cell.group(_latencies(entry), cell.name(name, series),
                           details=[wording.objective(entry.slo)])
                for series, (name, entry) in enumerate(summary.classes.items())],
        notes=[wording.PACED_NOTE] if wording.is_paced(summary.classes) else [], by="class")


def _latencies(entry: ClassSummary) -> Iterator[list[Cell | str]]:
    for key, title in wording.LATENCIES.items():
        found = entry.latency.of(key)
        yield [title, cell.limit(wording.seconds(wording.target(key, entry.slo))), *(
            cell.judged(wording.seconds(found.at(q)),
                        wording.is_over(q, found.at(q), entry.slo, key))
            for q in wording.PERCENTILES)]
        if key == "itl_p99_s" and entry.late_token_share is not None:
            yield from _late_row(entry, entry.late_token_share)


def _late_row(entry: ClassSummary, late: Percentiles) -> Iterator[list[Cell | str]]:
    """How far a paced class is from its pace: the share of each request's tokens that were late."""
    allowed = wording.late_target(entry.slo)
    if allowed is not None:
        yield ["late tokens", cell.limit(wording.late_share(allowed)), *(
            cell.judged(wording.late_share(late.at(q)), wording.is_late(q, late.at(q), entry.slo))
            for q in wording.PERCENTILES)]


def cost_table(summary: RunSummary) -> Table:
    """Cost of each class, in proportion to computed tokens."""
    return table("Cost", [
        "class", "per hour", Column("this run", 2), Column("per million tokens", 1),
        "per million output tokens", Column("per finished request", 3),
        "per request within targets"],
        [[cell.name(name, series), *_costs(entry.cost)]
         for series, (name, entry) in enumerate(summary.classes.items())],
        total=["overall", *_costs(summary.overall.cost)])


def _costs(cost: Cost) -> list[str]:
    return [wording.money(getattr(cost, key)) for key in _COSTS]


def sizing_table(sizing: Sizing, names: list[str]) -> Table:
    """Every size or rate tried, and what those that are not enough miss."""
    rows = []
    for trial in sorted(sizing.tried, key=lambda trial: float(trial.value)):
        value = f"{trial.value:g}"
        rows.append([cell.strong(f"{value} chosen") if trial.value == sizing.chosen else value,
                     *(wording.percent(trial.attainment.get(name)) for name in names),
                     cell.verdict(trial.meets_slo), wording.trial_missed(trial)])
    found = table("Sizing search", (
        wording.sizing_variable(sizing), *(Column(name, 1) for name in names), "objectives",
        MISSED_BY), rows, notes=[sizing.note or "", *wording.sizing_limits(sizing)])
    missing = any(map(wording.trial_missed, sizing.tried))
    return found if missing else found.without(MISSED_BY.title)


def refusals_table(summary: RunSummary) -> Table:
    """Why requests were rejected or shed, the most frequent reason first."""
    refusals = summary.refusals or ()
    known = {"class": [item.service_class or "" for item in refusals],
             "outcome": [item.status or "" for item in refusals]}
    rows = []
    for item in sorted(refusals, key=lambda item: -item.num_requests):
        whose = ", ".join(filter(None, (item.service_class, item.status)))
        rows.append([Cell(item.reason, parts=((item.reason, whose),)), item.service_class or "",
                     item.status or "", wording.count(item.num_requests)])
    found = table("Rejected and shed", [
        Column("reason", prose=True), *(Column(label, left=True) for label in known),
        "requests"], rows)
    return found.without(*(label for label, values in known.items() if not any(values)))


def replicas_table(summary: RunSummary) -> Table:
    """Requests and busy time of each replica."""
    return table("Replicas", ("replica", "requests", "computing", "busy"), [
        [f"replica {item.replica}", wording.count(item.requests), wording.seconds(item.busy_s),
         cell.with_bar(wording.percent(item.busy, 1), Bar(item.busy or 0.0))]
        for item in summary.replicas])


def confidential_table(summary: RunSummary) -> Table | None:
    """Padded figures of confidential requests by class and, where that is allowed, by model."""
    section = summary.confidential
    if section is None:
        return None
    rows: list[tuple[str, ...]] = []
    for name, entry in section.classes.items():
        counts = (entry.received_at_most, entry.finished_at_most, entry.rejected_at_most,
                  entry.shed_at_most)
        latency = entry.latency_at_most
        rows.append((name, *(_most(wording.count(number)) for number in counts),
                     _least(wording.percent(entry.attainment_at_least, 0)),
                     _most(wording.seconds(latency.ttft_s.p99)),
                     _most(wording.seconds(latency.e2e_s.p99))))
    rows += [(f"model {model}", _most(wording.count(number)), *[wording.ABSENT] * 6)
             for model, number in (section.models or {}).items()]
    said = ("In no other figure of this report, verdicts apart. Counts are rounded up to "
            f"{section.least_count} times a power of 2, latencies up to 1, 2 or 5 times a power of "
            "ten; attainment is rounded down to 5 %.")
    cost = section.cost_per_hour
    return table("Confidential requests", (
        "class", "received", "finished", "rejected", "shed", "attainment", "TTFT p99", "e2e p99"),
        rows, notes=[f"{said} All replicas cost ${cost:,.2f} per hour." if cost else said])


def _most(text: str) -> str:
    return text if text in (wording.ABSENT, "0") else f"≤ {text}"


def _least(text: str) -> str:
    return text if text == wording.ABSENT else f"≥ {text}"
