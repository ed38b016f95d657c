"""One self-contained HTML page per run: it opens without a network and asks for none."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

from penstock.core.errors import InputError
from penstock.metrics.series import RunSeries
from penstock.metrics.table import RequestTable
from penstock.report import sections, wording
from penstock.report.files import write_bytes
from penstock.report.plots import all_figures, busiest_replica


def write_page(path: Path, summary: Mapping[str, Any], table: RequestTable,
               series: RunSeries) -> None:
    """Write the page, all or nothing.

    An empty ``series`` leaves out what only it knows: steps, replica queues and KV memory.
    """
    write_bytes(path, *page_parts(summary, table, series))


def page_parts(summary: Mapping[str, Any], table: RequestTable,
               series: RunSeries) -> tuple[bytes, bytes, bytes]:
    """The page as what comes before plotly.js, plotly.js itself, and the rest.

    ``summary`` is what ``summarise`` returned, and optionally ``name``, ``version``, ``seed``,
    ``engine``, ``fleet`` (the resolved fleet), ``sizing`` and ``refusals``; see
    docs/reference/metrics.md for their form.
    """
    figures = all_figures(summary, table, series)
    fields = {
        "title": escape(title(summary)), "version": escape(str(summary.get("version", ""))),
        "style": _asset("page.css"), "script": _asset("page.js"), "stamp": _stamp(summary),
        "body": _body(summary, figures, series), "footer": escape(FOOTER),
        "figures": _embedded(figures)}
    # The 5 MB script goes between the two halves as bytes and is never handled as text.
    before, after = (Template(half).substitute(fields).encode()
                     for half in _asset("page.html").split("$plotly"))
    return before, plotly_script(), after


FOOTER = ("TTFT is first token minus arrival; TPOT is (last token - first token) / (tokens - 1); "
          "ITL is the gaps between tokens of one request; attainment is requests within every "
          "target divided by requests received, rejected and shed ones included.")


def title(summary: Mapping[str, Any]) -> str:
    """The page's title."""
    return f"{summary.get('name') or 'Run'} - Penstock"


def plotly_script() -> bytes:
    """plotly.js from the installed plotly package, read without importing its Python side.

    Raises InputError when the package is missing or does not contain the script.
    """
    spec = find_spec("plotly")
    origin = Path(spec.origin) if spec and spec.origin else Path("plotly")
    script = origin.parent / "package_data" / "plotly.min.js"
    if not script.is_file():
        raise InputError(f"{script}: plotly.js not found; expected the plotly package, version 6 "
                         "or later (pip install plotly)")
    return script.read_bytes()


def _asset(name: str) -> str:
    return files("penstock.report").joinpath(name).read_text(encoding="utf-8")


def _embedded(figures: Mapping[str, Any]) -> str:
    """JSON that cannot end its script element, whatever names it contains."""
    import orjson

    text = orjson.dumps(figures, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("<", "\\u003c")


def _stamp(summary: Mapping[str, Any]) -> str:
    parts = [str(summary[key]) for key in ("name", "engine") if summary.get(key)]
    parts += [f"{key} {summary[key]}" for key in ("seed", "version")
              if summary.get(key) is not None]
    return escape(" · ".join(parts))


def _body(summary: Mapping[str, Any], figures: Mapping[str, Any], series: RunSeries) -> str:
    parts = [sections.hero(summary), _classes(summary), _distributions(summary)]
    if summary.get("sizing"):
        parts.append(_sizing(summary))
    parts.append(_load(summary, with_kv=bool(series.replicas)))
    busiest = busiest_replica(series)
    if busiest is not None and "steps" in figures:
        parts.append(_steps(busiest.replica))
    parts.append(_cost(summary))
    if summary.get("refusals"):
        parts.append(sections.section(
            "Rejected and shed", "Why requests were refused. All of them count as misses.",
            sections.refusals_table(summary["refusals"])))
    if summary.get("fleet"):
        parts.append(_configuration(summary["fleet"]))
    return "\n".join(parts)


def _classes(summary: Mapping[str, Any]) -> str:
    return sections.section(
        "Service classes", "A class meets its objective when its attainment reaches the stated "
        "percentile of the requests received.",
        sections.classes_table(summary), sections.latency_table(summary))


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
        sections.legend(summary, extra), f"<div class=grid>{''.join(plots)}</div>")


def _load(summary: Mapping[str, Any], *, with_kv: bool) -> str:
    replicas = summary.get("replicas") or []
    table = sections.replicas_table(replicas) if replicas else ""
    return sections.section(
        "Load and queue over time", "Stacked by class. Waiting runs from arrival to the first step "
        "that computes the request.",
        sections.legend(summary, (("dotted", "in replica queues, later shed included"),)
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
