"""Runs in which models take turns, on a grid of settings: the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.report import wording
from penstock.report.cells import footnote
from penstock.report.fitting import Column, FittingTable

if TYPE_CHECKING:
    from rich.console import RenderableType

Document = Mapping[str, Any]
Mean = Mapping[str, Any]

MODES = {"cc": "confidential", "noncc": "not confidential"}
NOTE = ("SLA received: answered before the deadline, of all requests; served: of those answered at "
        "all, as SINCERE counts. Lost: overwritten before they ran. Means over the grid's cells, "
        "± half of the 95 % interval over seeds.")
# Figures of the tables: heading, and how far it may be left out in a narrow window.
COLUMNS = {"sla_received": ("SLA received", 0), "sla_served": ("SLA served", 0),
           "goodput_per_s": ("goodput", 0), "latency_mean_s": ("latency mean", 1),
           "loads": ("loads", 1), "mean_batch": ("mean batch", 4),
           "loading_share": ("time loading", 2), "lost_share": ("lost", 3),
           "shed_share": ("shed", 3), "unfinished_share": ("unfinished", 5)}
SHARES = frozenset(name for name in COLUMNS if name.startswith("sla") or name.endswith("share"))


def swap_grid_tables(summary: Document) -> "list[RenderableType]":
    """Policies by mode, the gap between the modes, and the reasons of those turned away."""
    tables: list[RenderableType] = [
        _table(f"{MODES[mode].capitalize()}: {setting(summary)}",
               [group for group in overall(summary["groups"]) if group["mode"] == mode])
        for mode in summary["axes"]["modes"]]
    if summary["gaps"]:
        tables.append(_table("Confidential less not confidential, paired by seed",
                             overall(summary["gaps"]), signed=True))
    return [*tables, footnote(NOTE)]


def setting(summary: Document) -> str:
    """How many runs of what."""
    axes, setup = summary["axes"], summary["setup"]
    cells = 1
    for name in ("patterns", "rates_per_s", "slas_s"):
        cells *= len(axes[name])
    seeds = len(axes["seeds"])
    return (f"{cells} {'cell' if cells == 1 else 'cells'} of {setup['duration_s']:g} s, {seeds} "
            f"{'seed' if seeds == 1 else 'seeds'}, "
            f"{'exact' if setup['exact'] else 'published'} patterns")


def overall(groups: Sequence[Document]) -> list[Document]:
    """Those groups that have all cells of a policy."""
    return [group for group in groups
            if not any(axis in group for axis in ("pattern", "rate_per_s", "sla_s"))]


def _table(title: str, groups: Sequence[Document], *, signed: bool = False) -> FittingTable:
    table = FittingTable(title, [Column("policy"), *(
        Column(heading, rank) for heading, rank in COLUMNS.values())],
        keys=1)
    for group in groups:
        table.add_row(group["policy"], *(shown(name, group["figures"][name], signed=signed)
                                         for name in COLUMNS))
    return table


def shown(name: str, found: Mean, *, signed: bool = False) -> str:
    """A mean with its interval, in its figure's unit."""
    mean, half = found["mean"], found["half_width"]
    if mean is None:
        return wording.ABSENT
    scale, unit = (100.0, " pt" if signed else " %") if name in SHARES else (1.0, "")
    text = f"{scale * mean:{'+' if signed else ''}.{decimals(name)}f}"
    if half is not None:
        text += f" ± {scale * half:.{decimals(name)}f}"
    return f"{text}{unit or _unit(name)}"


def decimals(name: str) -> int:
    """Digits after the point that a figure is worth."""
    return 2 if name == "goodput_per_s" else 1


def _unit(name: str) -> str:
    return {"goodput_per_s": " /s", "latency_mean_s": " s"}.get(name, "")
