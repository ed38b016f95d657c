"""Runs side by side as terminal tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.report import wording
from penstock.report.cells import footnote
from penstock.report.fitting import Column, FittingTable

if TYPE_CHECKING:
    from rich.console import RenderableType

_FIGURES = {"attainment": "attainment", "goodput_requests_per_s": "goodput",
            "ttft_s.p50": "TTFT p50", "ttft_s.p99": "TTFT p99", "tpot_s.p50": "TPOT p50",
            "tpot_s.p99": "TPOT p99", "e2e_s.p50": "e2e p50", "e2e_s.p99": "e2e p99"}


def run_comparison_tables(document: Mapping[str, Any]) -> "list[RenderableType]":
    """Per class a table with a row per figure, and what the intervals mean."""
    runs = document["runs"]
    tables: list[RenderableType] = []
    for name, figures in document["classes"].items():
        counts = ", ".join(wording.count(num) for num in figures["num_requests"])
        table = FittingTable(f"{name}: {counts} requests", [
            Column("figure"), Column(runs[0]),
            *(column for run in runs[1:] for column in (Column(run),
                                                        Column("difference", prose=True)))])
        for key, title in _FIGURES.items():
            table.add_row(title, *_cells(key, figures[key]))
        tables.append(table)
    same = "the same" if all(document["same_requests"]) else "different"
    tables.append(footnote(f"Differences to {runs[0]} with 95 % bootstrap intervals over {same} "
                           "requests, taken as independent; * lies clear of 0."))
    return tables


def _cells(key: str, figure: Mapping[str, Any]) -> list[str]:
    values = figure["values"]
    differences = figure.get("differences", [None] * len(values))
    cells = [_text(key, values[0])]
    for value, difference in zip(values[1:], differences[1:], strict=True):
        cells += [_text(key, value), _difference(key, difference)]
    return cells


def _text(key: str, value: float | None) -> str:
    if key == "attainment":
        return wording.percent(value)
    return wording.rate(value) if key.startswith("goodput") else wording.seconds(value)


def _difference(key: str, found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    clear = found["low"] > 0 or found["high"] < 0
    parts = [_signed(key, found[end]) for end in ("mean", "low", "high")]
    return f"{parts[0]} ({parts[1]} to {parts[2]}){' *' if clear else ''}"


def _signed(key: str, value: float) -> str:
    if key == "attainment":
        return f"{100 * value:+.2f} pt"
    return f"{'-' if value < 0 else '+'}{wording.seconds(abs(value))}"
