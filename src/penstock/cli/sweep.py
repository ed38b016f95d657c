"""``penstock sweep``: a grid over settings of the fleet file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import OK
from penstock.cli.options import (
    AsJson,
    DataDir,
    FleetFile,
    NumReplicas,
    NumSeeds,
    Seed,
    note_kind,
    read_fleet,
    with_replicas,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.fleet.values import Fleet

Axes = Annotated[list[str] | None, typer.Option(
    "--set", metavar="KEY=V1,V2,...", show_default=False,
    help="Values of one setting; every combination of all settings is run. Repeatable.")]

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: penstock sweep examples/niyama-code.yaml --out sweep.csv "
                    "--set policies.schedule=sarathi "
                    "--set policies.schedule.chunk_tokens=256,512,1024")
def sweep(
    fleet_file: FleetFile, axes: Axes = None, seeds: NumSeeds = 1,
    out: Annotated[Path | None, typer.Option(
        "--out", metavar="FILE", show_default=False,
        help="Where to keep the rows (.csv or .json), written anew after every run.")] = None,
    resume: Annotated[bool, typer.Option(
        "--resume", help="Keep the rows that --out already holds, run the others.")] = False,
    workers: Annotated[int, typer.Option(
        "--workers", min=1, max=256, metavar="N",
        help="Processes that run points at the same time; the rows are the same.")] = 1,
    replicas: NumReplicas = None, data: DataDir = None, seed: Seed = None,
    as_json: AsJson = False,
) -> int:
    """Run every combination of settings and collect one row of figures per run.

    A fleet that states no replicas gets them at every point as `run` would give them: the cheapest
    of a plan, or the fewest of the kinds that `sizing` or `variant` state. A value may be a mapping
    or a list in YAML's braces and brackets.
    """
    from penstock.cli.console import print_json, print_tables, progress
    from penstock.experiment.sweep import grid
    from penstock.experiment.sweep import sweep as run_points

    def load(settings: dict[str, Any]) -> "Fleet":
        fleet = read_fleet(fleet_file, (), data, seed, settings)
        return fleet if replicas is None else with_replicas(fleet, replicas)

    known = _known_rows(out, resume)
    varied = parse_axes(axes or [])
    points = grid(varied, load, seeds)
    if replicas is not None:
        note_kind(_first(fleet_file, varied, data), replicas)
    keys = {point.key for point in points}
    rows = [row for row in known if row.get("key") in keys]
    with progress("sweeping", len(points)) as update:
        for row in run_points(points, {row["key"] for row in rows}, workers):
            rows.append(row)
            _keep(out, rows)
            update(f"{len(rows)} of {len(points)} runs", len(rows))
    if as_json:
        print_json(rows)
    else:
        print_tables([_table(rows, [key for key, values in varied.items() if len(values) > 1])])
    return OK


def _first(fleet_file: Path, axes: dict[str, list[Any]], data: Path | None) -> "Fleet":
    """The fleet of the grid's first point, with what its file says of replicas."""
    return read_fleet(fleet_file, (), data, more={
        key: values[0] for key, values in axes.items() if values})


def parse_axes(texts: list[str]) -> dict[str, list[Any]]:
    """``key=v1,v2`` texts as lists of values."""
    from penstock.fleet.settings import parse_value, split_setting

    axes: dict[str, list[Any]] = {}
    for key, text in map(split_setting, texts):
        if key in axes:
            raise InputError(f"--set {key}: stands twice; give all its values at once")
        axes[key] = parse_value(f"[{text}]", f"--set {key}")
    return axes


def _known_rows(out: Path | None, resume: bool) -> list[dict[str, Any]]:
    """Rows of an earlier sweep; checks that the file may be written before anything runs."""
    from penstock.report.rows import ENDINGS, read_rows

    if out is None:
        if resume:
            raise InputError("--resume needs --out, the file to go on with")
        return []
    if out.suffix not in ENDINGS:
        raise InputError(f"--out {out}: expected a name that ends in {' or '.join(ENDINGS)}")
    if not out.exists():
        return []
    if not resume:
        raise InputError(f"--out {out}: exists; --resume goes on with it")
    return read_rows(out)


def _keep(out: Path | None, rows: list[dict[str, Any]]) -> None:
    from penstock.report.rows import write_rows

    if out is not None:
        write_rows(out, rows)


def _table(rows: list[dict[str, Any]], varied: list[str]) -> Any:
    """What fits a terminal; the file has every figure."""
    from penstock.report import wording
    from penstock.report.fitting import Column
    from penstock.report.tables import plain_table

    shares = [name for name in (rows[0] if rows else ()) if name.endswith(".attainment")]
    columns: list[tuple[str, Column, Callable[..., str]]] = [
        (name, Column(name.rpartition(".")[2]), _shown) for name in varied]
    columns += [("seed", Column("seed", 1), _shown), ("num_replicas", Column("replicas"), _shown),
                ("attainment", Column("attainment"), wording.percent),
                *((name, Column(name.removesuffix(".attainment"), 3), wording.percent)
                  for name in shares),
                ("goodput_requests_per_s", Column("goodput", 2), wording.rate),
                ("cost_per_hour", Column("per hour", 2), wording.money)]
    return plain_table("Sweep", [column for _, column, _ in columns],
                       [[_cell(row.get(name), shown) for name, _, shown in columns]
                        for row in rows])


def _cell(value: Any, shown: "Callable[..., str]") -> str:
    """A figure as tables word it; rows of a resumed CSV hold texts."""
    if isinstance(value, str):
        try:
            value = float(value) if value else None
        except ValueError:
            return str(value)
    return shown(value)


def _shown(value: Any) -> str:
    """A setting: four significant digits, whole numbers in full."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return "" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value)
