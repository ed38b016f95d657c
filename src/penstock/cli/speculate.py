"""``penstock lab speculate``: the gain of speculative decoding by batch, and its best depth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import AsJson, FleetFile, Settings

if TYPE_CHECKING:
    from penstock.fleet.values import ReplicaGroup
    from penstock.perf.speculation.acceptance import Acceptance

app = App()

ContextTokens = Annotated[int, typer.Option(
    "--context-tokens", min=1, max=10_000_000, metavar="N",
    help="Tokens of context of each sequence.")]
MostSeqs = Annotated[int, typer.Option(
    "--most-seqs", min=1, max=4096, metavar="N", help="Most sequences that decode at once.")]
Counters = Annotated[Path | None, typer.Option(
    "--counters", metavar="FILE", show_default=False,
    help="Text of a vLLM server's /metrics, whose counters give the acceptance.")]


@app.command(epilog="Example: penstock lab speculate examples/speculation.yaml")
def speculate(fleet_file: FleetFile, settings: Settings = None,
              context_tokens: ContextTokens = 2048, most_seqs: MostSeqs = 256,
              counters: Counters = None, as_json: AsJson = False) -> int:
    """Print what speculative decoding gains at each number of decoding sequences.

    For each group of replicas that drafts: tokens and time of a turn, the speed-up over decoding
    without drafts, the best depth, and the schedule of depths in vLLM's form.
    """
    from penstock.cli.console import note, print_json, print_tables
    from penstock.cli.fleets import read_fleet
    from penstock.core.errors import InputError
    from penstock.engines.client.draft_counters import read_acceptance

    fleet = read_fleet(fleet_file, settings)
    groups = [group for group in fleet.replicas if group.speculation is not None]
    if not groups:
        raise InputError(f"{fleet_file}: replicas: none has the key speculation")
    counted = None
    if counters is not None:
        try:
            counted = read_acceptance(counters.read_bytes(), str(counters))
        except OSError as error:
            raise InputError(f"{counters}: cannot be read ({error.strerror})") from None
    found = [_document(group, service_class, acceptance, context_tokens, most_seqs)
             for group in groups
             for service_class, acceptance in _acceptances(group, counted)]
    if as_json:
        print_json({"groups": found})
        return OK
    print_tables([_table(one) for one in found])
    for one in found:
        at = one["break_even_seqs"]
        note(f"{one['title']}: {one['tokens']} drafted tokens pay "
             + (f"up to {at - 1} sequences" if at else f"at all of 1 to {most_seqs} sequences"))
        note("num_speculative_tokens_per_batch_size: "
             + ", ".join(str(list(row)) for row in one["best_by_batch"]))
    return OK


def _acceptances(group: "ReplicaGroup",
                 counted: "Acceptance | None") -> "list[tuple[str, Acceptance]]":
    """Return the acceptances to show, by service class; the empty name stands for all."""
    assert group.speculation is not None
    stated = group.speculation.acceptance
    if counted is not None:
        return [("", counted)]
    return [(name, one) for name, one in stated.items() if name or len(stated) == 1]


def _document(group: "ReplicaGroup", service_class: str, acceptance: "Acceptance",
              context_tokens: int, most_seqs: int) -> dict[str, Any]:
    from penstock.fleet.speculation import target_and_draft
    from penstock.perf.speculation.best import best_by_batch, best_depth, break_even, gain

    assert group.speculation is not None
    tokens = group.speculation.depth.tokens
    target, draft = target_and_draft(group)
    rows = []
    for seqs in _batches(most_seqs):
        at = gain(target, draft, acceptance, tokens, seqs, context_tokens)
        best = best_depth(target, draft, acceptance, seqs, context_tokens)
        rows.append({"decode_seqs": seqs, "turn_s": at.turn_s, "step_s": at.step_s,
                     "token_s": at.token_s, "speedup": at.speedup, "best_depth": best.depth,
                     "best_speedup": best.speedup})
    return {"title": f"{group.model.name} on {group.accelerator.name}"
            + (f", {service_class}" if service_class else ""),
            "method": group.speculation.method, "tokens": tokens,
            "acceptance": list(acceptance.rates), "low": list(acceptance.low),
            "high": list(acceptance.high), "source": acceptance.source,
            "tokens_per_turn": acceptance.tokens_per_turn(tokens),
            "context_tokens": context_tokens, "batches": rows,
            "break_even_seqs": break_even(target, draft, acceptance, tokens, most_seqs,
                                          context_tokens),
            "best_by_batch": [list(row) for row in best_by_batch(
                target, draft, acceptance, most_seqs, context_tokens)]}


def _batches(most: int) -> list[int]:
    found = [1]
    while found[-1] * 2 <= most:
        found.append(found[-1] * 2)
    return found


def _table(of: dict[str, Any]) -> Any:
    from penstock.report.model.table import table

    rows = [(row["decode_seqs"], f"{1e3 * row['step_s']:.2f}", f"{1e3 * row['turn_s']:.2f}",
             f"{1e3 * row['token_s']:.2f}", f"{row['speedup']:.2f}", row["best_depth"],
             f"{row['best_speedup']:.2f}") for row in of["batches"]]
    rates = ", ".join(f"{rate:.2f}" for rate in of["acceptance"])
    return table(
        f"{of['title']}: {of['method']}, {of['tokens']} drafted tokens",
        ("sequences", "step, ms", "turn, ms", "TPOT, ms", "speed-up", "best depth", "its speed-up"),
        rows, notes=(f"{of['tokens_per_turn']:.2f} tokens a turn; accepted by position: {rates}",
                     f"acceptance: {of['source']}"))
