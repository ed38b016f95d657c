"""``penstock compare --grid``: every combination of values of settings, a row each."""

from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from penstock.cli.exits import OK
from penstock.cli.fleets import note_kind, read_fleet, with_replicas
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.experiment.workers import Executor
    from penstock.fleet.values import Fleet


def compare_grid(fleet_file: Path, texts: list[str], *, settings: list[str] | None,
                 data: Path | None, seed: int | None, num_seeds: int, replicas: int | None,
                 out: Path | None, resume: bool, where: "Executor", as_json: bool) -> int:
    """Run every combination of values and collect one row of figures per run.

    A fleet that states no replicas gets them at every point as ``run`` would give them.
    """
    from penstock.cli.console import print_json, print_tables, progress
    from penstock.experiment.sweep import grid
    from penstock.experiment.sweep import sweep as run_points

    def load(values: dict[str, Any]) -> "Fleet":
        fleet = read_fleet(fleet_file, settings, data, seed, values)
        return fleet if replicas is None else with_replicas(fleet, replicas)

    known = _known_rows(out, resume)
    varied = parse_axes(texts)
    points = grid(varied, load, num_seeds)
    if replicas is not None:
        note_kind(_first(fleet_file, settings, varied, data), replicas)
    keys = {point.key for point in points}
    rows = [row for row in known if row.get("key") in keys]
    with progress("comparing", len(points)) as update, _kept(out, rows) as keep:
        for row in run_points(points, {row["key"] for row in rows}, where):
            rows.append(row)
            keep(row)
            update(f"{len(rows)} of {len(points)} runs", len(rows))
    if as_json:
        print_json(rows)
    else:
        print_tables([_table(rows, [key for key, values in varied.items() if len(values) > 1])])
    return OK


def _first(fleet_file: Path, settings: list[str] | None, axes: dict[str, list[Any]],
           data: Path | None) -> "Fleet":
    """The fleet of the grid's first point, with what its file says of replicas."""
    return read_fleet(fleet_file, settings, data, more={
        key: values[0] for key, values in axes.items() if values})


def parse_axes(texts: list[str]) -> dict[str, list[Any]]:
    """``key=v1,v2`` texts as lists of values; an empty text varies nothing."""
    from penstock.fleet.settings import parse_value, split_setting

    axes: dict[str, list[Any]] = {}
    for key, text in (split_setting(text, "--grid") for text in texts if text):
        if key in axes:
            raise InputError(f"--grid {key}: appears twice; give all its values at once")
        axes[key] = parse_value(f"[{text}]", f"--grid {key}")
    return axes


def _known_rows(out: Path | None, resume: bool) -> list[dict[str, Any]]:
    """Rows of an earlier grid; checks that the file may be written before anything runs."""
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
    rows = read_rows(out)
    has_none = not any(out.iterdir()) if out.is_dir() else \
        out.read_bytes().strip() in (b"", b"[]")
    if not has_none and not any("key" in row for row in rows):
        raise InputError(f"--out {out}: has no rows of a grid; --resume goes on with a file that "
                         "`compare --grid` wrote")
    return rows


@contextmanager
def _kept(out: Path | None, known: list[dict[str, Any]]
          ) -> "Iterator[Callable[[dict[str, Any]], None]]":
    """Yield a function that keeps a row in the file, which is whole at the end, however that
    comes."""
    from penstock.report.rows import RowsFile

    if out is None:
        yield lambda _: None
        return
    file = RowsFile(out, known, monotonic)
    try:
        try:
            yield file.add
        finally:
            file.close()
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror or error}); --resume "
                         "goes on with the rows that it has") from error


def _table(rows: list[dict[str, Any]], varied: list[str]) -> Any:
    """Return the table of the columns that fit a terminal; the file has every figure."""
    from penstock.report.model import wording
    from penstock.report.model.table import Column, table

    shares = [name for name in (rows[0] if rows else ()) if name.endswith(".attainment")]
    columns: list[tuple[str, str | Column, Callable[..., str]]] = [
        (name, name.rpartition(".")[2], _format_setting) for name in varied]
    columns += [("seed", Column("seed", 1), _format_setting),
                ("num_replicas", "replicas", _format_setting),
                ("attainment", "attainment", wording.percent),
                *((name, Column(name.removesuffix(".attainment"), 3), wording.percent)
                  for name in shares),
                ("goodput_requests_per_s", Column("goodput", 2), wording.rate),
                ("cost_per_hour", Column("per hour", 2), wording.money)]
    return table("Sweep", [column for _, column, _ in columns],
                 [[_cell(row.get(name), quote) for name, _, quote in columns]
                  for row in rows])


def _cell(value: Any, quote: "Callable[..., str]") -> str:
    """A figure as tables word it; rows of a resumed CSV hold texts."""
    if isinstance(value, str):
        try:
            value = float(value) if value else None
        except ValueError:
            return str(value)
    return quote(value)


def _format_setting(value: Any) -> str:
    """A setting: four significant digits, whole numbers in full."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return "" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value)
