"""Tables of the requests that missed: the causes by class, and the worst requests."""

from collections.abc import Mapping

import numpy as np

from penstock.core.slo import Slo
from penstock.metrics.definitions import BoolColumn, FloatColumn
from penstock.metrics.misses import CAUSES, MET, Misses, misses
from penstock.metrics.run_summary import RunSummary
from penstock.metrics.table import NO_REPLICA, RequestTable
from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.table import Cell, Column, Table, table

MOST_ON_PAGE, MOST_IN_TERMINAL = 15, 5
_HEADINGS = {"first token": "late first token", "preemption": "preempted", "decode": "decode gaps",
             "queueing": "queued", "prefill": "prefill"}
CAUSES_NOTE = ("A late first token counts for the longer of the wait before the first step and "
               "the prefill after it, a late end for the longest of wait, prefill and decode. A "
               "preempted request that did not mostly wait counts as preempted.")
_UNSERVED = {"rejected": "rejected at admission", "shed": "shed before its end",
             "unfinished": "unfinished when the run ended"}
WORST_NOTE = ("Times target: the latency divided by the target that it missed most, for ITL the "
              "request's p99 gap, for TPOT its mean gap.")


def missed_tables(summary: RunSummary, requests: RequestTable,
                  most: int = MOST_ON_PAGE) -> tuple[Table, Table] | None:
    """The causes by class and the worst requests; None where every request met its targets."""
    requests = counted(summary, requests)
    slos = {name: entry.slo for name, entry in summary.classes.items()}
    missed = misses(requests, slos)
    if not (missed.cause != MET).any():
        return None
    return _causes(requests, slos, missed), _worst(requests, slos, missed, most)


def counted(summary: RunSummary, requests: RequestTable) -> RequestTable:
    """The requests that the summary's figures count: those after the warm-up."""
    warmup_s = ((summary.fleet or {}).get("run") or {}).get("warmup_s")
    return requests.take(requests.arrival_s >= warmup_s) if warmup_s else requests


def _causes(requests: RequestTable, slos: Mapping[str, Slo], missed: Misses) -> Table:
    """Misses by class and cause; causes that no request has are left out."""
    seen = [place for place in range(len(CAUSES)) if (missed.cause == place).any()]
    rows = []
    for series, name in enumerate(slos):
        of_class = _is_of(requests, name)
        counts = [requests.stands_for * int((missed.cause[of_class] == place).sum())
                  for place in seen]
        rows.append([cell.name(name, series), wording.count(sum(counts)),
                     *map(cell.count, counts)])
    return table("Why requests missed", [
        "class", "missed", *(_HEADINGS.get(CAUSES[place], CAUSES[place]) for place in seen)],
        rows, notes=[CAUSES_NOTE, *wording.sampled(requests.stands_for)])


def _is_of(requests: RequestTable, name: str) -> BoolColumn:
    place = requests.service_classes.index(name) if name in requests.service_classes else -1
    return np.equal(requests.class_index, place)


def _worst(requests: RequestTable, slos: Mapping[str, Slo], missed: Misses, most: int) -> Table:
    places = {name: series for series, name in enumerate(slos)}
    rows = []
    for row in missed.worst(most).tolist():
        one = requests.take(slice(row, row + 1))
        name = requests.service_classes[one.class_index[0]]
        times = float(missed.times_target[row])
        replica = int(one.replica[0])
        rows.append([
            str(one.request_id[0]), cell.name(name, places[name]),
            requests.models[one.model_index[0]],
            wording.ABSENT if replica == NO_REPLICA else str(replica),
            wording.seconds(float(one.arrival_s[0])), wording.count(int(one.prompt_tokens[0])),
            wording.count(int(one.output_tokens[0])),
            wording.ABSENT if np.isinf(times) else f"{wording.rate(times, '')}",
            _why(one, slos[name], CAUSES[missed.cause[row]])])
    shown = table("Worst requests", [
        "request", Column("class", left=True), Column("model", 3, left=True),
        Column("replica", 3), Column("arrival", 2), Column("prompt", 2, unit="tokens"),
        Column("output", 2, unit="tokens"), "times target",
        Column("why", left=True, prose=True)], rows, notes=[WORST_NOTE])
    return shown if len(requests.models) > 1 else shown.without("model")


def _why(one: RequestTable, slo: Slo, cause: str) -> Cell:
    """The cause of one request's miss in words, with its share of the latency."""
    if cause in _UNSERVED:
        return Cell(_UNSERVED[cause])
    if cause == "queueing":
        said = f"queued {_seconds(one.queue_s)} of {_late_latency(one, slo)}"
    elif cause == "prefill":
        prefill_s = one.first_token_s - one.first_scheduled_s
        said = f"prefill {_seconds(prefill_s)} of {_late_latency(one, slo)}"
    elif slo.ttft_s is not None and float(one.ttft_s[0]) > slo.ttft_s:
        said = _late_latency(one, slo)
    else:
        said = _in_decode(one, slo)
    for word, number in (("preempted", int(one.num_preemptions[0])),
                         ("relegated", int(one.num_relegations[0]))):
        if number:
            said += f"; {word} {'once' if number == 1 else f'{number} times'}"
    return Cell(said)


def _late_latency(one: RequestTable, slo: Slo) -> str:
    """The first latency that missed its target, such as ``TTFT 3 s (target 1 s)``."""
    if slo.ttft_s is not None and (slo.e2e_s is None or float(one.ttft_s[0]) > slo.ttft_s):
        return f"TTFT {_seconds(one.ttft_s)} (target {wording.seconds(slo.ttft_s)})"
    return f"e2e {_seconds(one.e2e_s)} (target {wording.seconds(slo.e2e_s)})"


def _in_decode(one: RequestTable, slo: Slo) -> str:
    if slo.e2e_s is not None and float(one.e2e_s[0]) > slo.e2e_s:
        decode_s = one.last_token_s - one.first_token_s
        return f"decode {_seconds(decode_s)} of {_late_latency(one, slo)}"
    if slo.itl == "mean":
        return f"TPOT {_seconds(one.tpot_s)} (target {wording.seconds(slo.itl_s)})"
    late, tokens = int(one.num_late_tokens[0]), int(one.output_tokens[0])
    of, unit = (tokens - 1, "gaps") if slo.itl == "strict" else (tokens, "tokens")
    return (f"{wording.count(late)} of {wording.count(of)} {unit} late, longest gap "
            f"{_seconds(one.itl_max_s)}")


def _seconds(values_s: FloatColumn) -> str:
    return wording.seconds(float(values_s[0]))
