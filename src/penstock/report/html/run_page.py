"""A run's page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from penstock.metrics.run_summary import Measured, Origin, RunSummary, Sizing
from penstock.metrics.series import RunSeries
from penstock.metrics.table import RequestTable
from penstock.report.html import multiplexing, scaling, sections
from penstock.report.html.colours import series_colours
from penstock.report.html.frame import BESIDE, Page, Parts, framed, page_title, stamp, write_framed
from penstock.report.html.plots import all_figures, busiest_replica
from penstock.report.html.table import PROSE, drawn
from penstock.report.model import adapters, load, misses, models, reuse, run, wording


def write_page(path: Path, summary: RunSummary, table: RequestTable,
               series: RunSeries, library: str | None = BESIDE) -> None:
    """Write the page, all or nothing.

    An empty ``series`` leaves out what only it knows: steps, replica queues and KV memory.
    """
    write_framed(path, _page(summary, table, series), library)


def page_parts(summary: RunSummary, table: RequestTable, series: RunSeries) -> Parts:
    """The self-contained page as what comes before plotly.js, plotly.js itself, and the rest."""
    return framed(_page(summary, table, series))


def _page(summary: RunSummary, table: RequestTable, series: RunSeries) -> Page:
    """The page.

    A summary without a plan, a sizing search, refusals and the like has no section on them.
    """
    figures = all_figures(summary, table, series)
    if summary.pools:
        figures |= multiplexing.figures(summary.pools)
    if summary.scaling is not None:
        figures["scaling"] = scaling.figure(summary.scaling, table)
    origin = asdict(summary.origin or Origin())
    return Page(page_title(origin, "Run"), origin["version"] or "", stamp(origin),
                _body(summary, figures, table, series), FOOTER, figures,
                () if summary.scaling is None else (scaling.SCRIPT,))


FOOTER = ("TTFT is first token minus arrival; TPOT is (last token - first token) / (tokens - 1); "
          "ITL is the gaps between tokens of one request; attainment is requests within every "
          "target divided by requests received, rejected and shed ones included.")


def _body(summary: RunSummary, figures: Mapping[str, Any], requests: RequestTable,
          series: RunSeries) -> str:
    sampled = wording.sampled(requests.stands_for)
    parts = [sections.opening(run.opening(summary)), _classes(summary),
             _distributions(summary, sampled), *_of_requests(summary, requests)]
    if summary.pools:
        parts.append(multiplexing.section(summary))
    confidential = run.confidential_table(summary)
    if confidential is not None:
        parts.append(sections.section(confidential.title, *confidential.notes,
                                      drawn(confidential)))
    if summary.measured:
        parts.append(_requests(summary.measured))
    if summary.plan:
        from penstock.report.html.plan_page import short_sections  # few runs begin with a plan

        parts += short_sections(summary.plan)
    elif summary.sizing:
        parts.append(_sizing(summary, summary.sizing))
    if summary.scaling is not None:
        parts.append(scaling.section(summary.scaling))
    parts.append(_load(summary, sampled, with_kv=bool(series.replicas)))
    busiest = busiest_replica(series)
    if busiest is not None and "steps" in figures:
        parts.append(_steps(busiest.replica))
    parts += _reuse_and_cost(summary)
    if summary.refusals:
        parts.append(sections.section(
            "Rejected and shed", "Why requests were refused. All of them count as misses.",
            drawn(run.refusals_table(summary).select("reason", "requests"), style="wrapped")))
    fleet = summary.fleet or {}
    if summary.measured:
        more = {"fleet": fleet} if fleet else {}
        parts.append(_configuration({"load": summary.measured.load, **more}))
    elif fleet:
        parts.append(_configuration(fleet))
    return "\n".join(parts)


def _reuse_and_cost(summary: RunSummary) -> Iterator[str]:
    if summary.prefix_reuse is not None:
        yield sections.section(
            "Prefix reuse", "Prompt tokens that had been computed before, and how many of them the "
            "routes caught.", drawn(reuse.reuse_table(summary.prefix_reuse)))
    if summary.adapters is not None:
        found = adapters.adapters_table(summary.adapters)
        yield sections.section(
            "Adapters", "Requests by the adapter that they named: the most used ones, and the "
            "others together.", drawn(found, " ".join(found.notes)))
    if summary.overall.cost.per_hour:
        yield _cost(summary)


def _classes(summary: RunSummary) -> str:
    tasks = run.tasks_table(summary)
    return sections.section(
        "Service classes", "A class meets its objective when its attainment reaches the stated "
        "percentile of the requests received.",
        drawn(run.classes_table(summary).select(
            "class", "attainment", "objective", "received", "finished", "rejected", "shed",
            "unfinished", "goodput", "late tokens"),
            "Requests received and how they ended. The pale band is the 95 % interval of "
            "attainment, the tick the objective."),
        drawn(run.latency_table(summary),
              "Percentiles by nearest rank. TTFT and queue time of every request that got so far, "
              "the rest of finished requests. ▲ marks a value above its target."),
        *([] if tasks is None else [drawn(tasks, " ".join(tasks.notes))]),
        *([] if summary.certainty is None else [drawn(run.certainty_table(summary.certainty))]))


def _of_requests(summary: RunSummary, requests: RequestTable) -> Iterator[str]:
    """Sections that only the single requests tell: misses with their causes, and models."""
    missed = misses.missed_tables(summary, requests)
    if missed is not None:
        causes, worst = missed
        yield sections.section(
            "Requests that missed", " ".join(causes.notes), drawn(causes),
            drawn(worst, f"The worst requests. {' '.join(worst.notes)}", style=PROSE))
    split = models.models_split(summary, requests)
    if split is not None:
        yield sections.section(split.title, " ".join(split.notes), drawn(split))


def _requests(measured: Measured) -> str:
    outcomes = measured.outcomes
    notes = "".join(f"<li>{escape(note)}</li>" for note in load.generator_notes(measured))
    return sections.section(
        "Requests and the load itself",
        f"{wording.count(outcomes.sent)} requests were sent; all of them count.",
        drawn(load.outcomes_table(outcomes)), f"<ul class=note>{notes}</ul>")


def _distributions(summary: RunSummary, sampled: Sequence[str]) -> str:
    extra = (("dashed", "SLO target"), ("dotted", "mean ITL of a request"))
    plots = (
        sections.plot("ttft", "TTFT", "Cumulative share of requests by time to first token"),
        sections.plot("itl", "ITL per request: p99 and mean",
                      "Cumulative share of requests by their 99th percentile and mean ITL"),
        sections.plot("e2e", "End to end", "Cumulative share of requests by end-to-end latency"))
    return sections.section(
        "Latency distributions", " ".join((
            "Share of requests at or below each latency; a curve that levels off short of 100 % "
            "has requests that never got there. A class keeps its target when its curve passes "
            "above the diamond.", *sampled)),
        sections.legend(_colours(summary), extra), sections.grid(*plots))


def _colours(summary: RunSummary) -> dict[str, str]:
    return series_colours(list(summary.classes))


def _load(summary: RunSummary, sampled: Sequence[str], *, with_kv: bool) -> str:
    table = drawn(run.replicas_table(summary)) if summary.replicas else ""
    return sections.section(
        "Load and queue over time", " ".join((
            "Stacked by class. Waiting runs from arrival to the first step that computes the "
            "request, or to the first token where no more is known.", *sampled)),
        sections.legend(_colours(summary), (("dotted", "in replica queues, later shed included"),)
                        if with_kv else ()),
        sections.plot("load", "Arrivals, queue, batch and KV memory" if with_kv
                      else "Arrivals, queue and batch",
                      "Arrivals per second, waiting and running requests"
                      f"{' and KV memory in use' if with_kv else ''} over time", "tall"), table)


def _steps(replica: int) -> str:
    return sections.section(
        "Step timeline", f"Steps of replica {replica} around its longest queue, and an even sample "
        "of all steps of all replicas.",
        sections.grid(sections.plot("steps", f"Replica {replica}, step by step",
                      "Duration of each step, its prefill and decode tokens, and requests waiting",
                      "medium"),
        sections.plot("step_cost", "Step duration against its tokens",
                      "Step duration by prefill tokens, coloured by decoding sequences", "medium")))


def _sizing(summary: RunSummary, sizing: Sizing) -> str:
    variable = wording.sizing_variable(sizing)
    note = sizing.note or (f"Attainment at every number of {variable} tried; dashed lines are the "
                           "objectives and the large mark is the choice.")
    return sections.section("Sizing search", note, sections.grid(
        sections.plot("sizing", f"Attainment by {variable}",
                      f"Attainment of each class by {variable}"),
        drawn(run.sizing_table(sizing, list(summary.classes)),
              " ".join(wording.sizing_limits(sizing)))))


def _cost(summary: RunSummary) -> str:
    return sections.section(
        "Cost", "Accelerators are paid for by the hour, busy or not.",
        drawn(run.cost_table(summary), "Replicas serve all classes together; each class bears its "
              "share of the prompt and output tokens computed."))


def _configuration(stated: Mapping[str, Any]) -> str:
    import orjson

    text = orjson.dumps(stated, option=orjson.OPT_INDENT_2).decode()
    return (f"<details><summary>Resolved configuration</summary><pre>{escape(text)}</pre>"
            "</details>")
