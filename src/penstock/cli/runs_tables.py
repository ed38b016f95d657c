"""Tables of kept runs: a row each, or a column each."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from penstock.cli.moments import show_moment
from penstock.cli.runs_input import files_of, shown_path
from penstock.report.model import wording
from penstock.report.model.table import Block, Column, Table, table

if TYPE_CHECKING:
    from penstock.experiment.runs.kept import KeptRun


def _plain(value: Any) -> str:
    return wording.ABSENT if value is None else str(value)


def _number(value: float | None) -> str:
    return wording.ABSENT if value is None else f"{value:,.4g}"


_TEXTS: dict[str, Callable[[Any], str]] = {
    "begun_s": show_moment, "duration_s": wording.seconds, "attainment": wording.percent,
    "goodput_requests_per_s": wording.rate, "num_requests": wording.count,
    "ttft_p99_s": wording.seconds, "tpot_p99_s": wording.seconds, "e2e_p99_s": wording.seconds,
    "replicas": _number, "gpu_hours": _number, "cost": wording.money,
    "cost_per_hour": wording.money, "energy_kwh": wording.energy}
_PATHS = ("folder", "fleet_file")
_LONGEST = 30  # characters of a folder in a list
_FIGURES = ("kind", "status", "seed", "attainment", "goodput_requests_per_s", "ttft_p99_s",
            "tpot_p99_s", "e2e_p99_s", "replicas", "gpu_hours", "cost", "cost_per_hour")
_COLUMNS = {"id": Column("id"), "begun_s": Column("begun", 1, left=True),
            "kind": Column("kind", left=True), "name": Column("fleet", left=True),
            "seed": Column("seed", 5), "status": Column("status", left=True),
            "attainment": Column("attainment"), "ttft_p99_s": Column("TTFT p99"),
            "replicas": Column("replicas", 3), "gpu_hours": Column("GPU-hours", 4),
            "cost": Column("cost", 4), "cost_per_hour": Column("cost/h", 5)}


def list_table(runs: "Sequence[KeptRun]") -> Table:
    """A row for each run."""
    return table("Runs", (*_COLUMNS.values(), Column("folder", 2, left=True)),
                 [(*(_text(run, name) for name in _COLUMNS), _folder(run)) for run in runs])


def run_blocks(run: "KeptRun") -> "list[Block]":
    """Every column of one run; paths are lines below the table, since they may be long."""
    from penstock.experiment.runs.kept import COLUMNS

    rows = [(name, _text(run, name)) for name in COLUMNS if name not in _PATHS]
    return [table(f"Run {run.id}", ("key", Column("value", left=True)),
                  [*rows, ("files", files_of(run))]),
            "".join(f"{name}: {_text(run, name)}\n" for name in _PATHS)]


def side_by_side(runs: "Sequence[KeptRun]") -> Table:
    """A column of figures for each run."""
    return table("Kept figures", ("key", *(run.id for run in runs)),
                 [(name, *(_text(run, name) for run in runs)) for name in _FIGURES])


def document(run: "KeptRun") -> dict[str, Any]:
    """A run as JSON has it: its columns and the state of its files."""
    return {**run._asdict(), "files": files_of(run)}


def _text(run: "KeptRun", name: str) -> str:
    return _TEXTS.get(name, _plain)(getattr(run, name))


def _folder(run: "KeptRun") -> str:
    state = files_of(run)
    path = str(shown_path(run))
    if len(path) > _LONGEST:
        path = f"...{path[3 - _LONGEST:]}"
    return f"{path}{'' if state == 'present' else f' ({state})'}"
