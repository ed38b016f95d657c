"""``penstock compare --scale``: scale policies on the same requests."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cli.choices import scale_choice
from penstock.cli.compare_told import Telling
from penstock.cli.exits import OK
from penstock.cli.files import write_whole
from penstock.cli.fleets import read_fleet, seed_range, with_replicas
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.experiment.compare_scalers import ScalerRun
    from penstock.experiment.workers import Executor
    from penstock.fleet.values import Fleet
    from penstock.report.model.scalers import ScalerResult


def compare_scalers(fleet_file: Path, labels: Sequence[str], *, settings: list[str] | None,
                    data: Path | None, seed: int | None, num_seeds: int, replicas: int | None,
                    bounded: bool, where: "Executor", telling: Telling) -> int:
    """Run every policy of ``labels``, print attainment, GPU-hours and those of a clairvoyant,
    where ``bounded``, and write the page."""
    from penstock.cli.console import counting, print_json, print_tables
    from penstock.experiment.compare_scalers import compare_scalers as run_all
    from penstock.report.model.scalers import scalers_table

    fleets = {label: _with_scaler(label, fleet_file, settings, data, seed, replicas)
              for label in labels}
    first = next(iter(fleets.values()))
    seeds = seed_range(first, num_seeds)
    with counting("comparing", (len(fleets) + bounded) * num_seeds) as on_run:
        found = run_all(fleets, seeds, on_run, bounded=bounded, where=where)
    results = [_result(one) for one in found]
    if telling.html is not None:
        _write(telling.html, results, first.name, telling.library)
    if telling.as_json:
        print_json([one.document() for one in found])
    else:
        print_tables([scalers_table(results)])
    return OK


def _write(path: Path, results: "Sequence[ScalerResult]", name: str, library: str | None) -> None:
    from penstock import __version__
    from penstock.report.html.scalers_page import write_scalers_page

    origin = {"name": name, "version": __version__}
    write_whole(path, lambda partial: write_scalers_page(partial, results, origin, library),
                (".html",))


def _result(one: "ScalerRun") -> "ScalerResult":
    from penstock.report.model.scalers import ScalerResult

    low = None if one.bound is None else one.bound.low_gpu_hours
    return ScalerResult(one.scale, one.seed, one.attainment, one.meets_slo, one.bound_gpu_hours,
                        one.scaling, one.demand, low)


def _with_scaler(label: str, fleet_file: Path, settings: list[str] | None, data: Path | None,
                 seed: int | None, replicas: int | None) -> "Fleet":
    choice = scale_choice(label)
    try:
        fleet = read_fleet(fleet_file, settings, data, seed, {"policies.scale": choice})
    except InputError as error:
        raise InputError(f"--scale {label}: {error}") from None
    if fleet.policies.scale.name == "none":
        raise InputError("--scale none: runs no loop; expected for example static")
    return with_replicas(fleet, replicas)
