"""Tables of runs side by side."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.report.model import wording
from penstock.report.model.table import Block, Column, Note, table

_FIGURES = {"attainment": "attainment", "goodput_requests_per_s": "goodput",
            "ttft_s.p50": "TTFT p50", "ttft_s.p99": "TTFT p99", "tpot_s.p50": "TPOT p50",
            "tpot_s.p99": "TPOT p99", "e2e_s.p50": "e2e p50", "e2e_s.p99": "e2e p99"}


def run_comparison_blocks(document: Mapping[str, Any]) -> Iterator[Block]:
    """Per class a table with a row per figure, and what the intervals mean."""
    runs = document["runs"]
    columns = ["figure", runs[0], *(column for run in runs[1:] for column in (
        run, Column("difference", prose=True)))]
    for name, figures in document["classes"].items():
        counts = ", ".join(wording.count(num) for num in figures["num_requests"])
        yield table(f"{name}: {counts} requests", columns, [
            (title, *_cells(key, figures[key])) for key, title in _FIGURES.items()])
    same = "the same" if all(document["same_requests"]) else "different"
    yield Note((f"Differences to {runs[0]} with 95 % bootstrap intervals over {same} requests, "
                "taken as independent; * lies clear of 0.",))


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
