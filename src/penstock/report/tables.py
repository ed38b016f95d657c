"""The report as terminal tables. ``rich`` is imported only when one is made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.report import wording

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text


def run_tables(summary: Mapping[str, Any]) -> "list[RenderableType]":
    """Headline and tables of a run, to be printed in order."""
    from rich.text import Text

    tables: list[RenderableType] = [Text(wording.headline(summary), style="bold"),
                                    Text(_facts_line(summary)), classes_table(summary),
                                    latency_table(summary), cost_table(summary)]
    if summary.get("sizing"):
        tables.append(sizing_table(summary))
    if summary.get("refusals"):
        tables.append(refusals_table(summary))
    return tables


def _facts_line(summary: Mapping[str, Any]) -> str:
    return "   ".join(f"{fact.label.lower()} {fact.value}" for fact in wording.facts(summary))


def classes_table(summary: Mapping[str, Any]) -> "Table":
    """Counts, attainment and goodput by class."""
    table = _table("Service classes", "class", "verdict", "attainment", "95 % interval",
                   "received", "finished", "rejected", "shed", "goodput")
    for name, entry in summary["classes"].items():
        _outcome(table, name, entry, entry["meets_slo"])
    table.add_section()
    _outcome(table, "overall", summary["overall"], summary["overall"]["meets_slo"])
    return table


def _outcome(table: "Table", name: str, entry: Mapping[str, Any], meets: bool | None) -> None:
    low, high = entry["attainment_low"], entry["attainment_high"]
    interval = wording.ABSENT if low is None else \
        f"{wording.percent(low, 1)} to {wording.percent(high, 1)}"
    table.add_row(_plain(name), verdict_text(meets), wording.percent(entry["attainment"]), interval,
                  *(wording.count(entry[key])
                    for key in ("received", "finished", "rejected", "shed")),
                  wording.rate(entry["goodput_requests_per_s"]))


def verdict_text(meets: bool | None) -> str:
    """A verdict with a sign and a colour, as rich markup."""
    sign, style = {True: ("✓", "green"), False: ("✗", "red"), None: (wording.ABSENT, "dim")}[meets]
    return f"[{style}]{sign} {wording.verdict(meets)}[/]"


def latency_table(summary: Mapping[str, Any]) -> "Table":
    """Percentiles of each latency by class against the targets."""
    table = _table("Latency", "class", "latency", "target", *wording.PERCENTILES)
    table.columns[1].justify = "left"
    for name, entry in summary["classes"].items():
        for row, (key, title) in enumerate(wording.LATENCIES.items()):
            target = wording.target(key, entry["slo"])
            table.add_row(_plain(name) if row == 0 else "", title, wording.seconds(target),
                          *(_judged(entry, key, q) for q in wording.PERCENTILES))
        table.add_section()
    return table


def _judged(entry: Mapping[str, Any], latency: str, percentile: str) -> str:
    value = entry["latency"][latency][percentile]
    text = wording.seconds(value)
    over = wording.is_over(percentile, value, entry["slo"], latency)
    return f"[red]▲ {text}[/]" if over else text


def cost_table(summary: Mapping[str, Any]) -> "Table":
    """Cost by class, in proportion to computed tokens."""
    table = _table("Cost", "class", "per hour", "this run", "per million tokens",
                   "per finished request", "per request within targets")
    keys = ("per_hour", "total", "per_million_tokens", "per_finished_request", "per_met_request")
    for name, entry in summary["classes"].items():
        table.add_row(_plain(name), *(wording.money(entry["cost"][key]) for key in keys))
    table.add_section()
    total = summary["overall"]["cost"]
    table.add_row("overall", *(wording.money(total[key]) for key in keys))
    return table


def sizing_table(summary: Mapping[str, Any]) -> "Table":
    """Every size or rate tried."""
    sizing, names = summary["sizing"], list(summary["classes"])
    table = _table("Sizing search", wording.sizing_variable(sizing), *map(_plain, names),
                   "objectives")
    for trial in sorted(sizing["tried"], key=lambda trial: float(trial["value"])):
        chosen = " chosen" if trial["value"] == sizing.get("chosen") else ""
        table.add_row(f"{trial['value']:g}{chosen}",
                      *(wording.percent(trial["attainment"].get(name)) for name in names),
                      verdict_text(trial["meets_slo"]))
    return table


def refusals_table(summary: Mapping[str, Any]) -> "Table":
    """Why requests were rejected or shed."""
    known = [(key, label) for key, label in (("service_class", "class"), ("status", "outcome"))
             if any(item.get(key) for item in summary["refusals"])]
    table = _table("Rejected and shed", "reason", *(label for _, label in known), "requests")
    for column in table.columns[1:-1]:
        column.justify = "left"
    for item in sorted(summary["refusals"], key=lambda item: -int(item["num_requests"])):
        table.add_row(_plain(item["reason"]), *(_plain(item.get(key, "")) for key, _ in known),
                      wording.count(item["num_requests"]))
    return table


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """A table of plain cells, or ready ``Text``, the first column to the left."""
    from rich.text import Text

    table = _table(_plain(title), *map(_plain, columns))
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else _plain(cell) for cell in row))
    return table


def verdict_cell(meets: bool | None) -> "Text":
    """A verdict for ``plain_table``."""
    from rich.text import Text

    return Text.from_markup(verdict_text(meets))


def _table(title: str, first: str, *columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _plain(text: object) -> str:
    """Text of others as itself: brackets in names are no markup."""
    from rich.markup import escape

    return escape(str(text))
