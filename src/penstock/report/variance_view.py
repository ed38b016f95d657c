"""How much measures vary and between what, in the terminal and as a page."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.report import sections, wording
from penstock.report.cells import footnote
from penstock.report.files import write_bytes
from penstock.report.fitting import Column, FittingTable
from penstock.report.frame import Page, framed, page_title, stamp
from penstock.report.plots import PALETTE

if TYPE_CHECKING:
    from rich.console import RenderableType

TITLES = {"repeated": "The same request, repeated",
          "same_length": "Different requests, same length", "shuffled": "Those in shuffled orders"}
_MEASURES = {"output_tokens": "output tokens", "ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "e2e",
             "kv_used_share": "KV in use"}
_FACTORS = ("replica", "request", "round")
_HEAD = ("measure", "mean", "sd", "CV", "p5", "p50", "p95",
         *(f"between {factor}s" for factor in _FACTORS))
NOTE = ("Between: the part of a measure's variance that lies between replicas, requests or rounds "
        "(intraclass correlation of a one-way analysis of variance); the rest is within. * where "
        "equal means would show such a difference in less than 1 % of cases.")


def variance_tables(document: Mapping[str, Any]) -> "list[RenderableType]":
    """A table per experiment."""
    tables: list[RenderableType] = []
    for name, experiment in document["experiments"].items():
        table = FittingTable(
            f"{TITLES.get(name, name)}: {_counts(experiment)}",
            [Column(title, {"p5": 3, "p95": 2, "sd": 1}.get(title, 0)) for title in _HEAD])
        for row in _rows(experiment):
            table.add_row(*row)
        tables.append(table)
    return [*tables, footnote("\n".join([NOTE, *document["notes"]]))]


def _counts(experiment: Mapping[str, Any]) -> str:
    return (f"{wording.count(experiment['finished'])} of {wording.count(experiment['sent'])} "
            "finished")


def _rows(experiment: Mapping[str, Any]) -> list[Sequence[str]]:
    return [(_MEASURES[measure], *(_value(measure, found[key]) for key in ("mean", "sd")),
             wording.percent(found["cv"], 1),
             *(_value(measure, found["quantiles"][key]) for key in ("p5", "p50", "p95")),
             *(_share(found["between"][factor]) for factor in _FACTORS))
            for measure, found in experiment["measures"].items() if found["num"]]


def _value(measure: str, value: float | None) -> str:
    if measure == "kv_used_share":
        return wording.percent(value)
    return wording.rate(value, "") if measure == "output_tokens" else wording.seconds(value)


def _share(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return wording.ABSENT
    clear = found["p_value"] is None or found["p_value"] < 0.01
    return f"{wording.percent(found['share'], 1)}{' *' if clear else ''}"


def write_variance_page(path: Path, document: Mapping[str, Any],
                        rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page, all or nothing; ``rows`` are the single observations."""
    figures: dict[str, Any] = {}
    parts = [f"<h1>{escape('Variance of ' + ', '.join(document['urls']))}</h1>",
             f"<p class=lede>{escape(NOTE)}</p>"]
    for name, experiment in document["experiments"].items():
        plots = []
        for measure in ("output_tokens", "e2e_s"):
            key = f"{name}-{measure}"
            figures[key] = _boxes(document["urls"], [row for row in rows
                                                     if row["experiment"] == name], measure)
            title = f"{_MEASURES[measure]} by replica"
            plots.append(sections.plot(key, title, f"Spread of {title}"))
        cells = [tuple(map(escape, row)) for row in _rows(experiment)]
        parts.append(sections.section(
            TITLES.get(name, name), _counts(experiment), sections.table(_HEAD, cells),
            f"<div class=grid>{''.join(plots)}</div>"))
    page = Page(page_title(document, "Variance"), str(document["version"]), stamp(document),
                "\n".join(parts), NOTE, figures)
    write_bytes(path, *framed(page))


def _boxes(urls: Sequence[str], rows: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any]:
    """A box per replica with its points beside it."""
    traces = [{"type": "box", "name": url, "showlegend": False, "boxpoints": "all", "jitter": 0.5,
               "marker": {"color": PALETTE[number % len(PALETTE)], "size": 4},
               "y": [row[measure] for row in rows
                     if row["replica"] == number and row[measure] is not None]}
              for number, url in enumerate(urls)]
    unit = "tokens" if measure == "output_tokens" else "seconds"
    return {"data": traces, "layout": {"yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
                                       "margin": {"l": 56, "r": 12, "t": 14, "b": 40}}}
