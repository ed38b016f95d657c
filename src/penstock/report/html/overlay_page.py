"""A page of finished runs overlaid: distributions by class, load over time, and figures."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.slo import Slo
from penstock.metrics.run_summary import RunSummary
from penstock.metrics.series import RunSeries
from penstock.metrics.table import RequestTable
from penstock.report.html import sections
from penstock.report.html.colours import NEUTRAL, series_colours
from penstock.report.html.frame import BESIDE, Page, write_framed
from penstock.report.html.plots import (
    CDF_AXES,
    Figure,
    cdf_layout,
    cdf_points,
    cdf_trace,
    line_trace,
    stacked_layout,
)
from penstock.report.html.series import load_curves
from penstock.report.html.table import drawn
from penstock.report.model import wording
from penstock.report.model.run_comparison import run_comparison_blocks
from penstock.report.model.table import Note, Table

_TITLES = {"ttft_s": "TTFT", "itl_p99_s": "ITL p99 per request", "e2e_s": "End to end"}
_PANELS = {"arrivals_per_s": "Arrivals per second", "waiting": "Waiting requests",
           "running": "Running requests"}


def write_overlay_page(path: Path, summaries: Mapping[str, RunSummary],
                       tables: Mapping[str, RequestTable], document: Mapping[str, Any],
                       library: str | None = BESIDE) -> None:
    """Write the page, all or nothing. ``document`` is what ``compare RUN RUN --json`` prints; the
    other mappings are by the label of a run."""
    colours = series_colours(list(tables))
    figures: dict[str, Figure] = {}
    parts = [f"<h1>{escape(' against '.join(tables))}</h1>"
             f"<p class=lede>{escape(_lede(document))}</p>"]
    blocks = list(run_comparison_blocks(document))
    of_class = dict(zip(document["classes"], blocks, strict=False))
    parts += [_of_class(name, _slo(summaries, name), tables, colours, of_class[name], figures)
              for name in document["classes"]]
    figures["load"] = _load(tables, colours)
    parts.append(sections.section(
        "Load over time", "All classes together, from the first arrival of each run.",
        sections.legend(colours),
        sections.plot("load", "Arrivals and requests", "Arrivals per second, waiting and running "
                      "requests of each run over time", "medium")))
    note = " ".join(line for block in blocks if isinstance(block, Note) for line in block.lines)
    version = next((one.origin.version for one in summaries.values()
                    if one.origin and one.origin.version), "")
    write_framed(path, Page("Runs overlaid - Penstock", str(version), f"{len(tables)} runs",
                            "\n".join(parts), note, figures), library)


def _lede(document: Mapping[str, Any]) -> str:
    if all(document["same_requests"]):
        return "All runs were sent the same requests at the same times."
    return "The runs were sent different requests."


def _slo(summaries: Mapping[str, RunSummary], name: str) -> Slo | None:
    """The objective of a class, where all runs agree on it."""
    found = [one.classes[name].slo if name in one.classes else None for one in summaries.values()]
    return found[0] if all(slo == found[0] for slo in found) else None


def _of_class(name: str, slo: Slo | None, tables: Mapping[str, RequestTable],
              colours: Mapping[str, str], block: object, figures: dict[str, Figure]) -> str:
    cards = []
    for latency, title in _TITLES.items():
        key = f"{name}-{latency}"
        figures[key] = _distribution(name, slo, tables, colours, latency)
        cards.append(sections.plot(key, title, f"Share of requests of {name} by {title}, a curve "
                                               "for each run"))
    shown = drawn(block, block.title) if isinstance(block, Table) else ""
    stated = wording.objective(slo) if slo else "the runs have different objectives"
    return sections.section(name, f"Objective: {stated}.", sections.legend(
        colours, (("dashed", "target"),)), sections.grid(*cards), shown)


def _distribution(name: str, slo: Slo | None, tables: Mapping[str, RequestTable],
                  colours: Mapping[str, str], latency: str) -> Figure:
    """One latency's distribution over the requests of a class, a curve for each run."""
    traces, extremes = [], []
    for label, requests in tables.items():
        rows = requests.of_class(name)
        values = getattr(rows, latency)
        received = int((~np.isnan(values)).sum()) if latency == "itl_p99_s" else len(rows)
        x, y = cdf_points(values, received)
        traces.append(cdf_trace(x, y, label, colours[label], "solid"))
        extremes += [*x[:1], *x[-1:]]
    target = None if slo is None else {"ttft_s": slo.ttft_s, "itl_p99_s": slo.itl_s,
                                       "e2e_s": slo.e2e_s}[latency]
    lines = [] if target is None else [(float(target), NEUTRAL)]
    return {"data": traces, "layout": cdf_layout(
        CDF_AXES[latency], [*extremes, *(value for value, _ in lines)], lines)}


def _load(tables: Mapping[str, RequestTable], colours: Mapping[str, str]) -> Figure:
    traces = []
    for label, requests in tables.items():
        curves = load_curves(requests, RunSeries())
        time_s = curves.time_s - (float(requests.arrival_s.min()) if len(requests) else 0.0)
        for row, panel in enumerate(_PANELS):
            total = np.sum(list(getattr(curves, panel).values()), axis=0)
            traces.append(line_trace(time_s, total, label, colours[label], row))
    return {"data": traces, "layout": stacked_layout(list(_PANELS.values()))}
