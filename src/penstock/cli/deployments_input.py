"""Shared parts of the deployment commands: folder, server, and output."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.exits import MISSED, OK

Folder = Annotated[Path, typer.Option(
    "--dir", metavar="DIR", envvar="PENSTOCK_DEPLOYMENTS",
    help="Folder of the deployments (see `deployments init`).")]
Name = Annotated[str, typer.Argument(
    metavar="NAME", help="{register:name}", show_default=False)]
HERE = Path("deployments")
_SHOWN = 8
_GIB = 1 << 30

Show = Callable[[Mapping[str, Any]], None]


def ask(folder: Path, verb: str, name: str, order: Mapping[str, Any], show: Show, *,
        as_json: bool, title: str = "") -> int:
    """One verb, with its answer shown; the exit status: 1 where it was refused."""
    from penstock.cli.console import note, print_json, progress
    from penstock.serving.deployments.deployments import RefusedError

    try:
        if title:
            with progress(title):
                answer = asyncio.run(_asked(folder, verb, name, order))
        else:
            answer = asyncio.run(_asked(folder, verb, name, order))
    except RefusedError as error:
        if as_json:
            print_json({"error": {"code": error.code, "message": str(error),
                                  "details": error.details}})
        elif error.details.get("rejected"):
            show_rejected(error.details)
        note(f"error: {error}")
        return MISSED
    if as_json:
        print_json(answer)
    else:
        show(answer)
    return OK


async def _asked(folder: Path, verb: str, name: str, order: Mapping[str, Any]) -> dict[str, Any]:
    from penstock.cli.console import note
    from penstock.serving.deployments.remote import deployments_in

    async with deployments_in(folder, on_bug=note) as deployments:
        return await deployments.call(verb, name, order)


def settings(words: Sequence[str] | None) -> dict[str, str]:
    """``--with`` as a mapping. Raises InputError."""
    from penstock.fleet.settings import split_setting

    return {key: text.strip() for key, text in (split_setting(word, "--with")
                                                for word in words or ())}


def listed(text: str | None) -> list[str] | None:
    """Words parted by commas."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def given(**fields: Any) -> dict[str, Any]:
    """The fields of an order that somebody stated."""
    return {name: value for name, value in fields.items() if value is not None}


# -- what is printed ------------------------------------------------------------------------------


def show_one(one: Mapping[str, Any]) -> None:
    """A deployment in a few lines."""
    from penstock.cli.console import print_tables

    lines = [f"{one['name']}: {one['model']} on {one['engine']}, {one['state']}"
             + (f" ({one['reason']})" if one["reason"] else "")]
    if one["configuration"]:
        lines.append(f"configuration: {one['configuration']}{_expected(one)}")
    if placed := one["placement"]:
        lines.append(f"on accelerators {_stages(placed)}: "
                     f"{sum(placed['bytes_by_device'].values()) / _GIB:.3g} GiB reserved")
    if one["url"]:
        lines.append(f"answers at {one['url']}" + (f", process {one['pid']}, log {one['log']}"
                                                   if one["pid"] else ""))
    if one["num_waiting"] or one["num_running"]:
        lines.append(f"requests: {one['num_running']} running, {one['num_waiting']} waiting")
    if seen := one["seen"]:
        lines.append(f"seen: {seen['num_answers']} answers, {seen['latency_s']:.3g} s for one of "
                     f"the expected length (expectation times {seen['scale']:.3g}, and "
                     f"{seen['offset_s']:+.3g} s)")
    if one["profile"]:
        lines.append(f"profile: {one['profile']}")
    print_tables(lines)


def show_all(answer: Mapping[str, Any], *, removed: bool) -> None:
    """Deployments as a table."""
    from penstock.cli.console import print_tables
    from penstock.report.model.table import table

    rows = [(one["name"], one["model"], one["engine"], one["state"], one["configuration"] or "",
             _stages(one["placement"]) if one["placement"] else "", one["reason"] or "")
            for one in answer["deployments"] if removed or one["state"] != "removed"]
    print_tables([table("deployments", (
        "name", "model", "engine", "state", "configuration", "accelerators", "reason"), rows)])


def show_events(answer: Mapping[str, Any]) -> None:
    """A deployment's states, the oldest first."""
    from penstock.cli.console import print_tables
    from penstock.report.model.table import table

    print_tables([table("events", ("when", "state", "reason"), [
        (_moment(event["at_s"]), event["state"], event["reason"] or "")
        for event in answer["events"]])])


def show_devices(answer: Mapping[str, Any]) -> None:
    """Accelerators and what is held on them."""
    from penstock.cli.console import print_tables
    from penstock.report.model.table import Column, table

    print_tables([table("accelerators", (
        "device", "node", Column("held", unit="GiB"), Column("free", unit="GiB")), [
        (str(one["device"]), one["node"], f"{one['used_bytes'] / _GIB:.3g}",
         f"{one['free_bytes'] / _GIB:.3g}") for one in answer["devices"]])])


def show_decision(answer: Mapping[str, Any]) -> None:
    """Print the choice, the runners-up, and the reasons against the others."""
    from penstock.cli.console import print_tables
    from penstock.report.model.table import Column, table

    decision, one = answer["decision"], answer["deployment"]
    chosen = decision["chosen"]
    entries = [chosen, *decision["alternatives"][:_SHOWN - 1]]
    rows = [("chosen" if entry is chosen else "", entry["configuration"],
             _range(entry["latency_s"]), _range(entry["memory_bytes"], _GIB), _stages(entry),
             " ".join(map(str, entry["layers_by_stage"]))) for entry in entries]
    title = f"{one['name']}: {one['model']}" + (f" by {decision['intent']}"
                                                if decision["intent"] else "")
    print_tables([table(title, (
        "", "configuration", Column("latency", unit="s"), Column("memory", unit="GiB"),
        "accelerators", "layers by stage"), rows)])
    print_tables(_beside(chosen))
    more = len(decision["alternatives"]) - _SHOWN + 1
    if more > 0:
        print_tables([f"and {more} more alternatives"])
    show_rejected(decision)
    if answer["dry_run"]:
        print_tables(["dry run: nothing was started or reserved"])
    else:
        show_one(one)


def _beside(chosen: Mapping[str, Any]) -> list[str]:
    """Print the deployments on the chosen accelerators, and the expected waits."""
    said = [f"beside {one['name']}, which was deployed without a rate or an estimate: it counts as "
            "idle" if one["rate_per_s"] is None else
            f"beside {one['name']}: {one['rate_per_s']:g} requests/s of {one['service_s']:.3g} s "
            "each" for one in chosen["beside"]]
    if chosen.get("wait_s"):
        said.append(f"requests wait {chosen['wait_s']:.3g} s on average")
    return said


def show_rejected(decision: Mapping[str, Any]) -> None:
    """Kinds of reasons, how many configurations each barred, and one of them."""
    from penstock.cli.console import print_tables
    from penstock.report.model.table import table

    if not decision["rejected"]:
        return
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for entry in decision["rejected"]:
        kinds.setdefault(entry["reason"].partition(":")[0], []).append(entry)
    rows = [(str(len(entries)), kind, entries[0]["configuration"],
             entries[0]["reason"].partition(":")[2].strip())
            for kind, entries in sorted(kinds.items(), key=lambda item: -len(item[1]))]
    print_tables([table("rejected", ("", "why", "such as", "because"), rows)])


def show_reply(answer: Mapping[str, Any]) -> None:
    """An answer's text on stdout, and how long it took on stderr."""
    from penstock.cli.console import note, print_line

    print_line(answer["text"])
    simulated = ", simulated" if answer["simulated"] else ""
    note(f"{answer['output_tokens']} tokens in {answer['service_s']:.3g} s "
         f"({answer['e2e_s']:.3g} s with waiting{simulated})")


def _expected(one: Mapping[str, Any]) -> str:
    parts = [] if not one["latency_s"] else [f"{_range(one['latency_s'])} s an answer"]
    if one["memory_bytes"]:
        parts.append(f"{_range(one['memory_bytes'], _GIB)} GiB")
    return f", expected {' and '.join(parts)}" if parts else ""


def _range(prediction: Mapping[str, Any] | None, unit: float = 1.0) -> str:
    if prediction is None:
        return "-"
    value, low, high = (prediction[key] / unit for key in ("value", "low", "high"))
    return f"{value:.3g}" if low == high else f"{value:.3g} ({low:.3g} to {high:.3g})"


def _stages(placed: Mapping[str, Any]) -> str:
    return " | ".join(" ".join(map(str, stage)) for stage in placed["devices_by_stage"])


def _moment(at_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
