"""``penstock compare --scale``: scale policies on the same requests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cli.choices import choice_of
from penstock.cli.exits import OK
from penstock.cli.fleets import read_fleet, seed_range, with_replicas
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.experiment.compare_scalers import ScalerRun
    from penstock.fleet.values import Fleet
    from penstock.report.model.table import Table


def compare_scalers(fleet_file: Path, labels: Sequence[str], *, settings: list[str] | None,
                    data: Path | None, seed: int | None, num_seeds: int, replicas: int | None,
                    as_json: bool) -> int:
    """Run every policy of ``labels`` and print attainment, GPU-hours and what no policy
    undercuts."""
    from penstock.cli.console import print_json, print_tables, progress
    from penstock.experiment.compare_scalers import compare_scalers as run_all

    fleets = {label: _with_scaler(label, fleet_file, settings, data, seed, replicas)
              for label in labels}
    first = next(iter(fleets.values()))
    seeds = seed_range(first, num_seeds)
    with progress("comparing", len(fleets) * num_seeds) as update:
        found = run_all(fleets, seeds, lambda label, seed: update(f"{label}, seed {seed}"))
    if as_json:
        print_json([one.document() for one in found])
    else:
        print_tables([_table(found, several=num_seeds > 1)])
    return OK


def _with_scaler(label: str, fleet_file: Path, settings: list[str] | None, data: Path | None,
                 seed: int | None, replicas: int | None) -> "Fleet":
    choice = choice_of(label)
    alone = choice["name"] if len(choice) == 1 else choice  # then the file's settings count
    try:
        fleet = read_fleet(fleet_file, settings, data, seed, {"policies.scale": alone})
    except InputError as error:
        raise InputError(f"--scale {label}: {error}") from None
    if fleet.policies.scale.name == "none":
        raise InputError("--scale none: runs no loop; expected for example static")
    return with_replicas(fleet, replicas)


def _table(found: "Sequence[ScalerRun]", *, several: bool) -> "Table":
    from penstock.report.model import table as cell
    from penstock.report.model import wording
    from penstock.report.model.table import Column, table

    rows = [[cell.strong(one.scale), *([one.seed] if several else []),
             wording.percent(one.attainment), cell.verdict(one.meets_slo),
             f"{one.scaling.gpu_hours:,.1f}", wording.money(one.scaling.cost),
             _times(one.over_bound), f"{one.scaling.mean_replicas:.2f}",
             cell.count(one.scaling.peak_replicas), cell.count(one.scaling.starts)]
            for one in found]
    bound = found[0].bound_gpu_hours
    return table("Scale policies on the same requests", [
        Column("policy", left=True), *(["seed"] if several else []), "attainment", "objectives",
        "GPU-hours", "cost", Column("over bound", 1), "mean replicas", Column("peak", 2),
        Column("starts", 2)], rows,
        notes=[f"No policy needs less than {bound:,.1f} GPU-hours, not even one that knows all "
               "requests: their work alone, without deadlines, starts and whole replicas."
               if bound is not None else ""])


def _times(value: float | None) -> str:
    return "" if value is None else f"x{value:.2f}"
