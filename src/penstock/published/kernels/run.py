"""Every system of kernel tables in a folder, and Vidur's profiles where they lie beside it."""

from pathlib import Path
from typing import Any

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
    there = {file for file in (vidur.POINTS, vidur.OPERATIONS, vidur.BATCHES)
             if (profiles / file).is_file()}
    catalog = load_catalog()
    figures: list[Figure] = []
    summaries: dict[str, list[dict[str, Any]]] = {
        "interpolation": [], "steps": [], "vidur_dense": [], "vidur_gemm": []}
    remarks = [] if there else [f"{profiles}: no profiles; nothing is compared with Vidur"]
    for name in names:
        options.on_progress(f"tables of {name}")
        system = systems.read_system(folder, name, catalog)
        found, rows = systems.interpolation(system)
        figures += found
        summaries["interpolation"] += rows
        options.on_progress(f"steps of {name}")
        found, rows, unable = systems.steps(system, catalog)
        figures += found
        summaries["steps"] += rows
        remarks += unable
        if vidur.POINTS in there:
            options.on_progress(f"Vidur's profiles beside {name}")
            found, rows = vidur.dense_times(profiles, system, catalog)
            figures += found
            summaries["vidur_dense"] += rows
        if vidur.OPERATIONS in there:
            summaries["vidur_gemm"] += vidur.operations(profiles, system, catalog)
        if vidur.BATCHES in there and vidur.hardware_of(system) == "a100":
            figures += vidur.batches(profiles, system, catalog)
    return Reproduction(
        "kernels", tuple(figures), {f"{part}.csv": rows for part, rows in summaries.items()},
        tuple({"part": part, **row} for part, rows in summaries.items() for row in rows),
        tuple(remarks), {
            "interpolation, relative errors on hidden points": summaries["interpolation"],
            "whole steps, relative errors against the composition":
                [row for row in summaries["steps"] if row["steps"] == "all"]})
