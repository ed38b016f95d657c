"""The report as terminal tables. ``rich`` is imported only when one is made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.report import confidential, wording
from penstock.report.cells import Line, footnote, marked, verdict_cell
from penstock.report.fitting import Column, FittingTable
from penstock.report.load_view import load_tables
from penstock.report.plan_tables import short_plan_tables
from penstock.report.turns_view import turns_tables

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text


def run_tables(summary: Mapping[str, Any]) -> "list[RenderableType]":
    """Headline and tables of a run, to be printed in order."""
    from rich.text import Text

    facts = [f"{fact.label.lower()} {fact.value}" for fact in wording.facts(summary)]
    tables: list[RenderableType] = [Text(wording.headline(summary), style="bold"), Line(facts),
                                    Text(f"{wording.arrivals(summary)}.\n", style="dim"),
                                    classes_table(summary), latency_table(summary)]
    if wording.is_paced(summary["classes"]):
        tables.append(footnote(wording.PACED_NOTE))
    if summary["overall"]["cost"]["per_hour"]:
        tables.append(cost_table(summary))
    if wording.pools(summary):
        tables += turns_tables(summary)
    if summary.get("confidential"):
        tables += [plain_table(confidential.TITLE, confidential.HEAD,
                               confidential.rows(summary["confidential"])),
                   footnote(confidential.note(summary["confidential"]))]
    if summary.get("load"):
        tables += load_tables(summary)
    if summary.get("plan"):
        tables += short_plan_tables(summary["plan"])
    elif summary.get("sizing"):
        notes = [summary["sizing"].get("note"), *wording.sizing_limits(summary["sizing"])]
        tables += [sizing_table(summary), footnote("\n".join(filter(None, notes)))]
    if summary.get("refusals"):
        tables.append(refusals_table(summary))
    return tables


def classes_table(summary: Mapping[str, Any]) -> FittingTable:
    """Counts, attainment and goodput by class."""
    entries = {**summary["classes"], "overall": summary["overall"]}.values()
    # A column of noughts goes first.
    refused = {key: 5 if not any(entry[key] for entry in entries) else 1
               for key in ("rejected", "shed")}
    columns = [Column("class"), Column("verdict"), Column("attainment"),
               Column("95 % interval", 2), Column("received", 3), Column("finished", 4),
               *(Column(key, rank) for key, rank in refused.items()), Column("goodput", 3)]
    missing = any(_missed_by(entry) for entry in summary["classes"].values())
    table = FittingTable("Service classes",
                         [*columns, Column("missed by", left=True, prose=True)] if missing
                         else columns)
    for name, entry in summary["classes"].items():
        _outcome(table, name, entry, [_missed_by(entry)] if missing else [])
    table.add_section()
    _outcome(table, "overall", summary["overall"], [""] if missing else [])
    return table


def _missed_by(entry: Mapping[str, Any]) -> str:
    """Return the misses of a class that misses its objective; runs of earlier versions lack
    them."""
    return wording.missed_by(entry.get("missed", {})) if entry["meets_slo"] is False else ""


def _outcome(table: FittingTable, name: str, entry: Mapping[str, Any], more: list[str]) -> None:
    low, high = entry["attainment_low"], entry["attainment_high"]
    interval = wording.ABSENT if low is None else \
        f"{wording.percent(low, 1)} to {wording.percent(high, 1)}"
    table.add_row(name, verdict_cell(entry["meets_slo"]), wording.percent(entry["attainment"]),
                  interval, *(wording.count(entry[key])
                              for key in ("received", "finished", "rejected", "shed")),
                  wording.rate(entry["goodput_requests_per_s"]), *more)


def latency_table(summary: Mapping[str, Any]) -> FittingTable:
    """Percentiles of each latency by class against the targets."""
    table = FittingTable("Latency", [
        Column("class"), Column("latency", left=True), Column("target"), Column("p50", 1),
        Column("p90", 3), Column("p95", 2), Column("p99")])
    for name, entry in summary["classes"].items():
        for row, (key, title) in enumerate(wording.LATENCIES.items()):
            target = wording.target(key, entry["slo"])
            table.add_row(name if row == 0 else "", title, wording.seconds(target),
                          *(_judged(entry, key, q) for q in wording.PERCENTILES))
            if key == "itl_p99_s" and "late_token_share" in entry:
                _late_row(table, entry)
        table.add_section()
    return table


def _late_row(table: FittingTable, entry: Mapping[str, Any]) -> None:
    """How far a paced class is from its pace: the share of each request's tokens that were late."""
    allowed = wording.late_target(entry["slo"])
    if allowed is None:
        return
    cells = [marked(wording.late_share(share), wording.is_late(q, share, entry["slo"]))
             for q, share in entry["late_token_share"].items()]
    table.add_row("", "late tokens", wording.late_share(allowed), *cells)


def _judged(entry: Mapping[str, Any], latency: str, percentile: str) -> "Text":
    value = entry["latency"][latency][percentile]
    return marked(wording.seconds(value),
                   wording.is_over(percentile, value, entry["slo"], latency))


def cost_table(summary: Mapping[str, Any]) -> FittingTable:
    """Cost by class, in proportion to computed tokens."""
    table = FittingTable("Cost", [
        Column("class"), Column("per hour"), Column("this run", 2), Column("per million tokens", 1),
        Column("per finished request", 3), Column("per request within targets")])
    keys = ("per_hour", "total", "per_million_tokens", "per_finished_request", "per_met_request")
    for name, entry in summary["classes"].items():
        table.add_row(name, *(wording.money(entry["cost"][key]) for key in keys))
    table.add_section()
    total = summary["overall"]["cost"]
    table.add_row("overall", *(wording.money(total[key]) for key in keys))
    return table


def sizing_table(summary: Mapping[str, Any]) -> FittingTable:
    """Every size or rate tried, and what those that are not enough miss."""
    sizing, names = summary["sizing"], list(summary["classes"])
    missing = any(map(wording.trial_missed, sizing["tried"]))
    more = [Column("missed by", left=True, prose=True)] if missing else []
    table = FittingTable("Sizing search", [
        Column(wording.sizing_variable(sizing)), *(Column(name, 1) for name in names),
        Column("objectives"), *more])
    for trial in sorted(sizing["tried"], key=lambda trial: float(trial["value"])):
        chosen = " chosen" if trial["value"] == sizing.get("chosen") else ""
        table.add_row(f"{trial['value']:g}{chosen}",
                      *(wording.percent(trial["attainment"].get(name)) for name in names),
                      verdict_cell(trial["meets_slo"]),
                      *([wording.trial_missed(trial)] if missing else []))
    return table


def refusals_table(summary: Mapping[str, Any]) -> FittingTable:
    """Why requests were rejected or shed."""
    known = [(key, label) for key, label in (("service_class", "class"), ("status", "outcome"))
             if any(item.get(key) for item in summary["refusals"])]
    table = FittingTable("Rejected and shed", [
        Column("reason", prose=True), *(Column(label, left=True) for _, label in known),
        Column("requests")])
    for item in sorted(summary["refusals"], key=lambda item: -int(item["num_requests"])):
        table.add_row(str(item["reason"]), *(str(item.get(key, "")) for key, _ in known),
                      wording.count(item["num_requests"]))
    return table


def plain_table(title: str, columns: Sequence[str | Column],
                rows: Iterable[Sequence[object]]) -> FittingTable:
    """A table of rows at once, the first column to the left."""
    from rich.text import Text

    table = FittingTable(title, [column if isinstance(column, Column) else Column(column)
                                 for column in columns])
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return table
