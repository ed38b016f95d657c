"""Views of a run on a live endpoint: outcomes of requests, and punctuality of the load."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from penstock.report import sections, wording
from penstock.report.cells import footnote, verdict_cell
from penstock.report.fitting import Column, FittingTable

if TYPE_CHECKING:
    from rich.console import RenderableType

HOW = {"refused": "turned away for now (429, 503)", "out_of_budget": "out of budget",
       "invalid": "not accepted (4xx)", "failed": "failed by the server (5xx, error event)",
       "unreachable": "no connection", "timed_out": "timed out", "broken": "broken off or garbled",
       "cut_off": "still under way when the run was ended"}


def outcome_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """How requests ended: in words, before and after the first token."""
    outcomes = summary["outcomes"]
    rows = [("finished", "", wording.count(outcomes["finished"]))]
    rows += [(HOW.get(kind, kind), wording.count(num["before_first_token"]),
              wording.count(num["after_first_token"]))
             for kind, num in outcomes["failed"].items()]
    return rows


def generator_notes(summary: Mapping[str, Any]) -> list[str]:
    """How well the load kept to its plan, and what is not as was asked for."""
    generator, load = summary["generator"], summary["load"]
    late = generator["lateness_s"]
    notes = []
    if load["loop"] == "open":
        notes.append(f"Requests left {wording.seconds(late['p50'])} (p50), "
                     f"{wording.seconds(late['p99'])} (p99), {wording.seconds(late['max'])} (most) "
                     "after they were due; latencies count from when they were due.")
    else:
        notes.append(f"{wording.count(load['concurrency'])} requests under way at a time; each is "
                     "due when the one before it ended.")
    for key, what in (("prompt_tokens_off", "Prompts"), ("output_tokens_off", "Answers")):
        off = generator[key]
        if off["largest"]:
            notes.append(f"{what} are {100 * off['mean']:+.1f} % off their planned length in the "
                         f"mean, {100 * off['largest']:.1f} % at most.")
    if generator["not_streamed"]:
        notes.append(f"{wording.count(generator['not_streamed'])} answers came in one piece: their "
                     "TTFT equals e2e and their tokens have no gaps.")
    if generator["without_usage"]:
        notes.append(f"{wording.count(generator['without_usage'])} answers came without a count of "
                     "tokens: one per event is taken.")
    return notes + [f"{note[:1].upper()}{note[1:]}." for note in load["notes"]]


def load_tables(summary: Mapping[str, Any]) -> "list[RenderableType]":
    """How requests ended where some did not, and the notes."""
    tables: list[RenderableType] = []
    if summary["outcomes"]["failed"]:
        table = FittingTable("How requests ended", [
            Column("outcome"), Column("before its first token"), Column("after it")])
        for row in outcome_rows(summary):
            table.add_row(*row)
        tables.append(table)
    tables.append(footnote("\n".join(generator_notes(summary))))
    return tables


def load_section(summary: Mapping[str, Any]) -> str:
    """The same for the page."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in generator_notes(summary))
    rows = [tuple(map(escape, row)) for row in outcome_rows(summary)]
    return sections.section(
        "Requests and the load itself",
        f"{wording.count(summary['outcomes']['sent'])} requests were sent; all of them count.",
        sections.table(("outcome", "before its first token", "after it"), rows),
        f"<ul class=note>{notes}</ul>")


def levels_table(variable: str, levels: Sequence[Mapping[str, Any]]) -> FittingTable:
    """A row per rate or concurrency of a sweep."""
    table = FittingTable(f"Levels of {variable}", [
        Column(variable), Column("verdict"), Column("attainment"), Column("sent", 3),
        Column("finished", 3), Column("requests/s", 2), Column("output tokens/s"),
        Column("TTFT p50", 2), Column("TTFT p99"), Column("TPOT p50", 1), Column("e2e p50", 4),
        Column("e2e p99", 2)])
    for level in levels:
        table.add_row(
            f"{level[variable]:g}", verdict_cell(level["meets_slo"]),
            wording.percent(level["attainment"]), wording.count(level["sent"]),
            wording.count(level["finished"]), wording.rate(level["finished_per_s"], ""),
            wording.rate(level["output_tokens_per_s"], ""),
            *(wording.seconds(level[key]) for key in ("ttft_p50_s", "ttft_p99_s", "tpot_p50_s",
                                                      "e2e_p50_s", "e2e_p99_s")))
    return table
