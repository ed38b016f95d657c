"""Checks of each system's tables: interpolation, whole steps, the compact form."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penstock.catalog.catalog import Catalog
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.metrics.definitions import FloatColumn
from penstock.perf.kernels.compact import check_steps, compact, table_of
from penstock.perf.kernels.compose import KernelStepTime, kernel_step_time
from penstock.perf.kernels.holdout import HeldOut, held_out_errors, thinned
from penstock.perf.kernels.layout import backend_of, table_files
from penstock.perf.kernels.system import system_accelerator
from penstock.perf.kernels.tables import KernelTables, read_kernel_tables
from penstock.perf.step_time.roofline import roofline_step_time
from penstock.published.figures import Figure
from penstock.published.kernels import expected

MODELS = (("llama-3-8b", 1), ("llama-3-8b", 2), ("llama-3-70b", 4), ("llama-3-70b", 8))


@dataclass(frozen=True, slots=True)
class System:
    """A system's tables and the accelerator that its files, else the catalog, describe."""

    name: str
    tables: KernelTables
    accelerator: Accelerator


def read_system(folder: Path, name: str, catalog: Catalog) -> System:
    """Read one system. Raises InputError where files are broken or nothing tells its peaks."""
    accelerator = system_accelerator(folder, name) or catalog.accelerator(name)
    backend = backend_of(table_files(folder), name)
    return System(name, read_kernel_tables(folder, name, backend), accelerator)


def interpolation(system: System) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Errors on hidden points of every table, one figure a table, one row a table and axis."""
    found = held_out_errors(system.tables, system.accelerator)
    figures = [Figure(f"{system.name} {table} {precision}, mean error",
                      expected.TABLES[table], _pooled(own), "at_most", expected.TOLERANCE)
               for (table, precision), own in _by_table(found).items()]
    return figures, [{"system": system.name, **asdict(error)} for error in found]


def steps(system: System, catalog: Catalog) -> tuple[list[Figure], list[dict[str, Any]],
                                                     list[str]]:
    """Errors of whole steps for each model that the tables can compose; what they cannot."""
    rows: list[dict[str, Any]] = []
    remarks: list[str] = []
    for name, tensor in MODELS:
        try:
            rows += _rows(system, catalog.model(name), tensor)
        except InputError as error:
            remarks.append(f"{system.name}: {name} over {tensor} not composed: {error}")
    figures = [Figure(f"{system.name} steps: {what}, mean error", published,
                      float(np.mean([row["mean"] for row in rows
                                     if row["what"] == what and row["steps"] == "all"])),
                      "at_most", expected.TOLERANCE)
               for what, published in (("hidden points", expected.THINNED_STEPS),
                                       ("compact form", expected.COMPACT_STEPS))
               if rows]
    return figures, rows, remarks


def _rows(system: System, model: ModelSpec, tensor: int) -> Iterator[dict[str, Any]]:
    accelerator, ranks = system.accelerator, Parallelism(tensor)
    composed = kernel_step_time(system.tables, model, accelerator, ranks)
    thin = kernel_step_time(thinned(system.tables), model, accelerator, ranks)
    roofline = roofline_step_time(model, accelerator, ranks)
    short = compact(composed).model
    chosen = check_steps()
    kinds = {"all": tuple(step for own in chosen.values() for step in own), **chosen}
    for what, other in (("hidden points", thin), ("compact form", short), ("roofline", roofline)):
        for kind, own in kinds.items():
            table = table_of(composed, {kind: own})
            seconds = np.array([other.seconds(*step) for step in own])
            yield {"system": system.name, "model": model.name, "tensor": tensor, "what": what,
                   "steps": kind, **error_columns(seconds / table.seconds - 1.0),
                   "outside": _share_outside(composed, own)}


def error_columns(errors: FloatColumn) -> dict[str, float]:
    """Mean, median and 95th percentile of the errors' sizes, and their mean with sign."""
    size = np.abs(errors)
    return {"mean": float(size.mean()), "median": float(np.median(size)),
            "p95": float(np.quantile(size, 0.95)), "bias": float(np.mean(errors))}


def _share_outside(composed: KernelStepTime, own: Any) -> float:
    return sum(composed.predict(step).extrapolated for step in own) / len(own)


def _by_table(found: list[HeldOut]) -> dict[tuple[str, str], list[HeldOut]]:
    tables: dict[tuple[str, str], list[HeldOut]] = {}
    for error in found:
        tables.setdefault((error.table, error.precision), []).append(error)
    return tables


def _pooled(errors: list[HeldOut]) -> float:
    points = sum(error.num_points for error in errors)
    return sum(error.mean * error.num_points for error in errors) / points
