"""Tables of a run on a live endpoint: ends of requests, levels of load, punctuality."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.metrics.run_summary import Measured, Sent
from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.table import Column, Table, table

HOW = {"refused": "turned away for now (429, 503)", "out_of_budget": "out of budget",
       "invalid": "not accepted (4xx)", "failed": "failed by the server (5xx, error event)",
       "unreachable": "no connection", "timed_out": "timed out", "broken": "broken off or garbled",
       "cut_off": "still under way when the run was ended"}


def outcomes_table(outcomes: Sent) -> Table:
    """How requests ended: in words, before and after the first token."""
    return table("How requests ended", ("outcome", "before its first token", "after it"), [
        ("finished", "", wording.count(outcomes.finished)),
        *((HOW.get(kind, kind), wording.count(num.before_first_token),
           wording.count(num.after_first_token)) for kind, num in outcomes.failed.items())])


def generator_notes(measured: Measured) -> tuple[str, ...]:
    """How well the load kept to its plan, and what is not as was asked for."""
    generator, load = measured.generator, measured.load
    late = generator.lateness_s
    notes = []
    if load["loop"] == "open":
        notes.append(f"Requests left {wording.seconds(late.p50)} (p50), "
                     f"{wording.seconds(late.p99)} (p99), {wording.seconds(late.max)} (most) "
                     "after they were due; latencies count from when they were due.")
    else:
        notes.append(f"{wording.count(load['concurrency'])} requests under way at a time; each is "
                     "due when the one before it ended.")
    for off, what in ((generator.prompt_tokens_off, "Prompts"),
                      (generator.output_tokens_off, "Answers")):
        if off.mean is not None and off.largest:
            notes.append(f"{what} are {100 * off.mean:+.1f} % off their planned length in the "
                         f"mean, {100 * off.largest:.1f} % at most.")
    if generator.not_streamed:
        notes.append(f"{wording.count(generator.not_streamed)} answers came in one piece: their "
                     "TTFT equals e2e and their tokens have no gaps.")
    if generator.without_usage:
        notes.append(f"{wording.count(generator.without_usage)} answers came without a count of "
                     "tokens: one per event is taken.")
    return (*notes, *(f"{note[:1].upper()}{note[1:]}." for note in load["notes"]))


def levels_table(variable: str, levels: Sequence[Mapping[str, Any]]) -> Table:
    """A row per rate or concurrency of a sweep."""
    latencies = ("ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "e2e_p50_s", "e2e_p99_s")
    return table(f"Levels of {variable}", [
        variable, "verdict", "attainment", Column("sent", 3),
        Column("finished", 3), Column("requests/s", 2), "output tokens/s",
        Column("TTFT p50", 2), "TTFT p99", Column("TPOT p50", 1), Column("e2e p50", 4),
        Column("e2e p99", 2)], [
        (f"{level[variable]:g}", cell.verdict(level["meets_slo"]),
         wording.percent(level["attainment"]), wording.count(level["sent"]),
         wording.count(level["finished"]), wording.rate(level["finished_per_s"], ""),
         wording.rate(level["output_tokens_per_s"], ""),
         *(wording.seconds(level[key]) for key in latencies)) for level in levels])
