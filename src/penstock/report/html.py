"""A run's page."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from penstock.metrics.series import RunSeries
from penstock.metrics.table import RequestTable
from penstock.report import confidential, plan_sections, sections, wording
from penstock.report.files import write_bytes
from penstock.report.frame import Page, Parts, framed, page_title, stamp
from penstock.report.load_view import load_section
from penstock.report.plots import all_figures, busiest_replica, class_colours
from penstock.report.turns_view import turns_figures, turns_section


def write_page(path: Path, summary: Mapping[str, Any], table: RequestTable,
               series: RunSeries) -> None:
    """Write the page, all or nothing.

    An empty ``series`` leaves out what only it knows: steps, replica queues and KV memory.
    """
    write_bytes(path, *page_parts(summary, table, series))


def page_parts(summary: Mapping[str, Any], table: RequestTable, series: RunSeries) -> Parts:
    """The page as what comes before plotly.js, plotly.js itself, and the rest.

    ``summary`` is what ``summarise`` returned, and optionally ``name``, ``version``, ``seed``,
    ``engine``, ``fleet`` (the resolved fleet), ``sizing``, ``plan`` and ``refusals``; see
    docs/reference/metrics.md for their form.
    """
    figures = all_figures(summary, table, series)
    if wording.pools(summary):
        figures |= turns_figures(summary)
    return framed(Page(page_title(summary, "Run"), str(summary.get("version", "")),
                       stamp(summary), _body(summary, figures, series), FOOTER, figures))


FOOTER = ("TTFT is first token minus arrival; TPOT is (last token - first token) / (tokens - 1); "
          "ITL is the gaps between tokens of one request; attainment is requests within every "
          "target divided by requests received, rejected and shed ones included.")


def _body(summary: Mapping[str, Any], figures: Mapping[str, Any], series: RunSeries) -> str:
    parts = [sections.hero(summary), _classes(summary), _distributions(summary)]
    if wording.pools(summary):
        parts.append(turns_section(summary))
    if summary.get("confidential"):
        parts.append(_confidential(summary["confidential"]))
    if summary.get("load"):
        parts.append(load_section(summary))
    if summary.get("plan"):
        parts += plan_sections.short(summary["plan"])
    elif summary.get("sizing"):
        parts.append(_sizing(summary))
    parts.append(_load(summary, with_kv=bool(series.replicas)))
    busiest = busiest_replica(series)
    if busiest is not None and "steps" in figures:
        parts.append(_steps(busiest.replica))
    if summary["overall"]["cost"]["per_hour"]:
        parts.append(_cost(summary))
    if summary.get("refusals"):
        parts.append(sections.section(
            "Rejected and shed", "Why requests were refused. All of them count as misses.",
            sections.refusals_table(summary["refusals"])))
    stated = {key: summary[key] for key in ("load", "fleet") if summary.get(key)}
    if stated:
        parts.append(_configuration(stated if "load" in stated else stated["fleet"]))
    return "\n".join(parts)


def _classes(summary: Mapping[str, Any]) -> str:
    return sections.section(
        "Service classes", "A class meets its objective when its attainment reaches the stated "
        "percentile of the requests received.",
        sections.classes_table(summary), sections.latency_table(summary))


def _confidential(section: Mapping[str, Any]) -> str:
    cells = (tuple(map(escape, row)) for row in confidential.rows(section))
    return sections.section(confidential.TITLE, confidential.note(section),
                            sections.table(confidential.HEAD, cells))


def _distributions(summary: Mapping[str, Any]) -> str:
    extra = (("dashed", "SLO target"), ("dotted", "mean ITL of a request"))
    plots = (
        sections.plot("ttft", "TTFT", "Cumulative share of requests by time to first token"),
        sections.plot("itl", "ITL per request: p99 and mean",
                      "Cumulative share of requests by their 99th percentile and mean ITL"),
        sections.plot("e2e", "End to end", "Cumulative share of requests by end-to-end latency"))
    return sections.section(
        "Latency distributions", "Share of requests at or below each latency; a curve that levels "
        "off short of 100 % has requests that never got there. A class keeps its target when its "
        "curve passes above the diamond.",
        sections.legend(_colours(summary), extra), f"<div class=grid>{''.join(plots)}</div>")


def _colours(summary: Mapping[str, Any]) -> dict[str, str]:
    return class_colours(list(summary["classes"]))


def _load(summary: Mapping[str, Any], *, with_kv: bool) -> str:
    replicas = summary.get("replicas") or []
    table = sections.replicas_table(replicas) if replicas else ""
    return sections.section(
        "Load and queue over time", "Stacked by class. Waiting runs from arrival to the first step "
        "that computes the request, or to the first token where no more is known.",
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
        "<div class=grid>",
        sections.plot("steps", f"Replica {replica}, step by step",
                      "Duration of each step, its prefill and decode tokens, and requests waiting",
                      "medium"),
        sections.plot("step_cost", "Step duration against its tokens",
                      "Step duration by prefill tokens, coloured by decoding sequences", "medium"),
        "</div>")


def _sizing(summary: Mapping[str, Any]) -> str:
    sizing = summary["sizing"]
    variable = wording.sizing_variable(sizing)
    note = str(sizing.get("note") or f"Attainment at every number of {variable} tried; dashed "
               "lines are the objectives and the large mark is the choice.")
    return sections.section(
        "Sizing search", note, "<div class=grid>",
        sections.plot("sizing", f"Attainment by {variable}",
                      f"Attainment of each class by {variable}"),
        sections.sizing_table(sizing, list(summary["classes"])), "</div>")


def _cost(summary: Mapping[str, Any]) -> str:
    return sections.section("Cost", "Accelerators are paid for by the hour, busy or not.",
                            sections.cost_table(summary))


def _configuration(fleet: Mapping[str, Any]) -> str:
    import orjson

    text = orjson.dumps(fleet, option=orjson.OPT_INDENT_2).decode()
    return (f"<details><summary>Resolved configuration</summary><pre>{escape(text)}</pre>"
            "</details>")
