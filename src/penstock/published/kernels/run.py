"""Every system of kernel tables in a folder, and Vidur's profiles where they lie beside it."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from penstock.catalog.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.perf.kernels.layout import systems_in, table_files
from penstock.published.figures import Figure, Options, Reproduction
from penstock.published.kernels import systems, vidur


def reproduce_kernels(data: Path, options: Options) -> Reproduction:
    """Check every system whose tables are found below ``data/aiconfigurator``, else ``data``.

    ``data/vidur`` gives what to compare layers and batches with. Raises InputError without tables.
    """
    folder = data / "aiconfigurator" if (data / "aiconfigurator").is_dir() else data
    names = systems_in(table_files(folder))
    if not names:
        raise InputError(f"{folder}: holds no GEMM table; expected one a system")
    profiles = data / "vidur"
    there = _profiles_in(profiles)
    figures: list[Figure] = []
    summaries: dict[str, list[dict[str, Any]]] = {
        "interpolation": [], "steps": [], "vidur_dense": [], "vidur_gemm": []}
    remarks = [] if there else [f"{profiles}: no profiles; nothing is compared with Vidur"]
    checked = options.where.results(partial(_checked, folder, profiles), names)
    for name, found in zip(names, checked, strict=True):
        options.on_progress(f"tables of {name}")
        figures += found.figures
        remarks += found.remarks
        for part, rows in found.rows.items():
            summaries[part] += rows
    return Reproduction(
        "kernels", tuple(figures), {f"{part}.csv": rows for part, rows in summaries.items()},
        tuple({"part": part, **row} for part, rows in summaries.items() for row in rows),
        tuple(remarks), {
            "interpolation, relative errors on hidden points": summaries["interpolation"],
            "whole steps, relative errors against the composition":
                [row for row in summaries["steps"] if row["steps"] == "all"]})


class _Checked(NamedTuple):
    """Figures, rows by part, and remarks of one system."""

    figures: list[Figure]
    rows: dict[str, list[dict[str, Any]]]
    remarks: list[str]


def _profiles_in(folder: Path) -> set[str]:
    return {file for file in (vidur.POINTS, vidur.OPERATIONS, vidur.BATCHES)
            if (folder / file).is_file()}


def _checked(folder: Path, profiles: Path, name: str) -> _Checked:
    there, catalog = _profiles_in(profiles), load_catalog()
    system = systems.read_system(folder, name, catalog)
    rows: dict[str, list[dict[str, Any]]] = {}
    figures, rows["interpolation"] = systems.interpolation(system)
    found, rows["steps"], remarks = systems.steps(system, catalog)
    figures += found
    if vidur.POINTS in there:
        found, rows["vidur_dense"] = vidur.dense_times(profiles, system, catalog)
        figures += found
    if vidur.OPERATIONS in there:
        rows["vidur_gemm"] = vidur.operations(profiles, system, catalog)
    if vidur.BATCHES in there and vidur.hardware_of(system) == "a100":
        figures += vidur.batches(profiles, system, catalog)
    return _Checked(figures, rows, remarks)
