"""``penstock plan``: who runs where, at the least cost."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import AsJson
from penstock.core.errors import InputError

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: penstock plan --inferno sample-data/large --solver milp-single")
def plan(
    inferno: Annotated[Path | None, typer.Option(
        "--inferno", metavar="DIR", show_default=False,
        help="An Inferno bundle: a folder of its JSON files, or one file with all of them."),
    ] = None,
    solver: Annotated[str | None, typer.Option(
        "--solver", metavar="NAME", show_default=False,
        help="unlimited, greedy, milp-single or milp-multi; default: the bundle's options."),
    ] = None,
    saturation: Annotated[str | None, typer.Option(
        "--saturation", metavar="POLICY", show_default=False,
        help="Who gets what is left over (greedy): None, PriorityExhaustive, PriorityRoundRobin or "
             "RoundRobin; default: the bundle's.")] = None,
    delayed: Annotated[bool | None, typer.Option(
        "--delayed-best-effort/--no-delayed-best-effort", show_default=False,
        help="Hand out leftovers after all priorities had their turn (greedy), not after each.",
    )] = None,
    capacity_factor: Annotated[float, typer.Option(
        "--capacity-factor", min=0.0, max=1e6, metavar="F",
        help="Plan with so many times the cards, cut to whole ones.")] = 1.0,
    time_limit_s: Annotated[float | None, typer.Option(
        "--time-limit", min=0.0, max=1e6, metavar="SECONDS", show_default=False,
        help="Stop a MILP then and take its best plan; default: until it is proven.")] = None,
    out: Annotated[Path | None, typer.Option(
        "--out", metavar="DIR", show_default=False,
        help="Folder for plan.json and solution-data.json (Inferno's own form).")] = None,
    as_json: AsJson = False,
) -> int:
    """Choose accelerator and replicas for every server of an Inferno bundle.

    Exit status 1 when a server is left out or gets more load than its replicas can serve.
    """
    from penstock.cli.plan_inferno import Request, plan_bundle

    if inferno is None:
        raise InputError("plan: --inferno DIR is missing")
    return plan_bundle(inferno, Request(solver, saturation, delayed, capacity_factor, time_limit_s),
                       out, as_json)
