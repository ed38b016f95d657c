"""The page on how much measures of live endpoints vary."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from penstock.report.html import sections
from penstock.report.html.colours import series_colour
from penstock.report.html.frame import BESIDE, Page, page_title, stamp, write_framed
from penstock.report.html.table import drawn
from penstock.report.model.variance import MEASURES, NOTE, TITLES, counts, variance_tables


def write_variance_page(path: Path, document: Mapping[str, Any],
                        rows: Sequence[Mapping[str, Any]], library: str | None = BESIDE) -> None:
    """Write the page, all or nothing; ``rows`` are the single observations."""
    figures: dict[str, Any] = {}
    parts = [f"<h1>{escape('Variance of ' + ', '.join(document['urls']))}</h1>",
             f"<p class=lede>{escape(NOTE)}</p>"]
    tables = variance_tables(document)
    for name, experiment in document["experiments"].items():
        plots = []
        for measure in ("output_tokens", "e2e_s"):
            key = f"{name}-{measure}"
            figures[key] = _boxes(document["urls"], [row for row in rows
                                                     if row["experiment"] == name], measure)
            title = f"{MEASURES[measure]} by replica"
            plots.append(sections.plot(key, title, f"Spread of {title}"))
        parts.append(sections.section(TITLES.get(name, name), counts(experiment),
                                      drawn(tables[name]), sections.grid(*plots)))
    page = Page(page_title(document, "Variance"), str(document["version"]), stamp(document),
                "\n".join(parts), NOTE, figures)
    write_framed(path, page, library)


def _boxes(urls: Sequence[str], rows: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any]:
    """A box per replica with its points beside it."""
    traces = [{"type": "box", "name": url, "showlegend": False, "boxpoints": "all", "jitter": 0.5,
               "marker": {"color": series_colour(number), "size": 4},
               "y": [row[measure] for row in rows
                     if row["replica"] == number and row[measure] is not None]}
              for number, url in enumerate(urls)]
    unit = "tokens" if measure == "output_tokens" else "seconds"
    return {"data": traces, "layout": {"yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
                                       "margin": {"l": 56, "r": 12, "t": 14, "b": 40}}}
