"""Tables of SINCERE's grid of runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from penstock.report.model import wording
from penstock.report.model.table import Block, Column, Note, Table, table

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


def grid_blocks(summary: Document) -> Iterator[Block]:
    """Policies by mode, and the gap between the modes."""
    for mode, found in mode_tables(summary).items():
        yield replace(found, title=f"{mode.capitalize()}: {setting(summary)}")
    if summary["gaps"]:
        yield gap_table(summary)
    yield Note((NOTE,))


def mode_tables(summary: Document) -> dict[str, Table]:
    """The figures of each policy, by mode."""
    groups = overall(summary["groups"])
    return {MODES[mode]: _policies(MODES[mode], [
        group for group in groups if group["mode"] == mode]) for mode in summary["axes"]["modes"]}


def gap_table(summary: Document) -> Table:
    """The difference between the modes by policy."""
    return _policies("Confidential less not confidential, paired by seed",
                     overall(summary["gaps"]), signed=True)


def _policies(title: str, groups: Sequence[Document], *, signed: bool = False) -> Table:
    return table(title, ["policy", *(Column(heading, rank)
                                             for heading, rank in COLUMNS.values())], [
        (group["policy"], *(quote(name, group["figures"][name], signed=signed)
                            for name in COLUMNS)) for group in groups], keys=1)


def reasons_table(summary: Document) -> Table:
    """Why requests were not answered, by policy and mode."""
    return table("Why requests were not answered", ("policy", "mode", "reason", "requests"), [
        (entry["policy"], MODES[entry["mode"]], reason, wording.count(number))
        for entry in summary["reasons"] for reason, number in entry["reasons"].items()])


def models_table(summary: Document) -> Table:
    """Requests of each model, by policy and mode."""
    return table("By model", ("policy", "mode", "model", "received", "in time"), [
        (entry["policy"], MODES[entry["mode"]], entry["model"], wording.count(entry["received"]),
         wording.percent(entry["in_sla"] / entry["received"] if entry["received"] else None, 1))
        for entry in summary["models"]])


def cells_table(summary: Document) -> Table:
    """SLA attainment of every cell of the grid, of all received and of those served."""
    modes = summary["axes"]["modes"]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for cell in summary["cells"]:
        shares = [wording.percent(cell["figures"][name]["mean"], 1)
                  for name in ("sla_received", "sla_served")]
        place = (cell["policy"], cell["pattern"], f"{cell['rate_per_s']:g}", f"{cell['sla_s']:g}")
        rows.setdefault(place, {})[cell["mode"]] = " / ".join(shares)
    return table("All cells", ("policy", "pattern", "rate", "SLA",
                               *(MODES[mode] for mode in modes)),
                 [(*place, *(cells.get(mode, wording.ABSENT) for mode in modes))
                  for place, cells in rows.items()])


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


def quote(name: str, found: Mean, *, signed: bool = False) -> str:
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
