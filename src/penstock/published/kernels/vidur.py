"""The composition, and the roofline, beside Vidur's profiles (microsoft/vidur @7d47513).

Its dense times are medians of what others measured on the same GPUs with other software: layers
without attention, head, collectives and host. Its batch times are predictions, with attention from
the very tables that the composition reads.
"""

import csv
import gzip
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from penstock.catalog.catalog import Catalog
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.core.model import ModelSpec
from penstock.core.step import StepFeatures
from penstock.core.units import ceil_div
from penstock.metrics.definitions import FloatColumn
from penstock.perf.kernels.compose import elementwise_kernels, kernel_step_time, layer_matrices
from penstock.perf.kernels.curves import total_curve
from penstock.perf.kernels.dense import gemm_curve
from penstock.perf.step_time.roofline import roofline_step_time
from penstock.published.columns import read_columns
from penstock.published.figures import Figure
from penstock.published.kernels import expected
from penstock.published.kernels.systems import System, error_columns

POINTS = "dense_time_points.csv.gz"
OPERATIONS = "op_medians.csv.gz"
BATCHES = "a100_llama3_8b_batches.csv.gz"
Key = tuple[str, str, int]


def hardware_of(system: System) -> str:
    """Return Vidur's name of a system: a100 for a100_sxm."""
    return system.name.split("_")[0]


def dense_times(folder: Path, system: System, catalog: Catalog
                ) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Dense times of all layers, for every model and degree that Vidur has of this hardware."""
    rows: list[dict[str, Any]] = []
    errors: dict[str, list[FloatColumn]] = {"composed": [], "roofline": []}
    hardware = hardware_of(system)
    groups = _groups(folder / POINTS, "tp", ("num_tokens", "dense_ms"), hardware)
    for (_, name, tensor), (tokens, milliseconds) in groups.items():
        model, ranks = catalog.model(name), Parallelism(tensor)
        matrices, *_ = layer_matrices(system.tables, model, tensor, "bf16", system.accelerator)
        elementwise, _ = elementwise_kernels(model, tensor, "bf16", "bf16", system.accelerator)
        layers = total_curve((matrices, elementwise))
        # Without a vocabulary there is no head.
        roofline = roofline_step_time(replace(model, vocab_size=0), system.accelerator, ranks)
        for what, seconds in (
                ("composed", [layers.at(n) for n in tokens.tolist()]),
                ("roofline", [roofline.predict(StepFeatures(int(n), 0.0, 0, 0)).parts["dense"]
                              for n in tokens.tolist()])):
            own = np.array(seconds) * 1e3 / milliseconds - 1.0
            errors[what].append(own)
            rows.append({"system": system.name, "model": model.name, "tensor": tensor,
                         "what": what, "points": len(own), **error_columns(own)})
    if not rows:
        return [], []
    pooled = {what: np.concatenate(own) for what, own in errors.items()}
    figures = _figures(f"{system.name} dense layers against Vidur", expected.DENSE.get(hardware),
                       pooled)
    return figures, [*rows, *({"system": system.name, "model": "all", "tensor": 0, "what": what,
                               "points": len(own), **error_columns(own)}
                              for what, own in pooled.items())]


def operations(folder: Path, system: System, catalog: Catalog) -> list[dict[str, Any]]:
    """Each GEMM of a layer beside the median that Vidur measured."""
    rows: list[dict[str, Any]] = []
    hardware = hardware_of(system)
    shapes = {"attn_pre_proj_ms": _qkv, "attn_post_proj_ms": _out, "mlp_up_proj_ms": _up,
              "mlp_down_proj_ms": _down}
    groups = _groups(folder / OPERATIONS, "num_tensor_parallel_workers", ("num_tokens", *shapes),
                     hardware)
    for (_, name, tensor), (tokens, *columns) in groups.items():
        model = catalog.model(name)
        for (column, shape), milliseconds in zip(shapes.items(), columns, strict=True):
            curve, _ = gemm_curve(system.tables, *shape(model, tensor), "bf16",
                                  system.accelerator)
            own = np.array([curve.at(n) for n in tokens.tolist()]) * 1e3 / milliseconds - 1.0
            rows.append({"system": system.name, "model": model.name, "tensor": tensor,
                         "gemm": column.removesuffix("_ms"), "points": len(own),
                         **error_columns(own)})
    return rows


def batches(folder: Path, system: System, catalog: Catalog) -> list[Figure]:
    """Whole batches of Llama-3-8B on one A100, without the head and the host."""
    columns = read_columns(folder / BATCHES, ("prefill_tokens", "prefill_attn_work", "decode_seqs",
                                              "decode_kv_tokens", "ms"))
    model = replace(catalog.model("llama-3-8b"), vocab_size=0)
    composed = kernel_step_time(system.tables, catalog.model("llama-3-8b"), system.accelerator,
                                host_overhead_s=0.0)
    roofline = roofline_step_time(model, system.accelerator, host_overhead_s=0.0)
    rows = [StepFeatures(int(p), w, int(d), int(k)) for p, w, d, k in zip(
        *(columns[name].tolist() for name in list(columns)[:4]), strict=True)]
    heads = np.array([composed.head.at(row.decode_seqs + (row.prefill_tokens > 0))
                      for row in rows])
    errors = {"composed": (_seconds(composed.seconds, rows) - heads) * 1e3 / columns["ms"] - 1.0,
              "roofline": _seconds(roofline.seconds, rows) * 1e3 / columns["ms"] - 1.0}
    return _figures(f"{system.name} whole batches against Vidur", expected.BATCHES, errors)


def _figures(name: str, published: float | None, errors: Mapping[str, FloatColumn]
             ) -> list[Figure]:
    found = {what: error_columns(own) for what, own in errors.items()}
    return [
        Figure(f"{name}, mean error", published, found["composed"]["mean"],
               "at_most" if published else "shown", expected.TOLERANCE),
        Figure(f"{name}, p95 error", None, found["composed"]["p95"], "shown"),
        Figure(f"{name}, bias", None, found["composed"]["bias"], "shown"),
        Figure(f"{name}, mean error of the roofline", None, found["roofline"]["mean"], "shown")]


def _seconds(model: Callable[[int, float, int, int], float], rows: list[StepFeatures]
             ) -> FloatColumn:
    return np.array([model(*row) for row in rows])


def _groups(path: Path, degree: str, names: tuple[str, ...], hardware: str
            ) -> dict[Key, list[FloatColumn]]:
    """Columns by (hardware, model, degree). Raises InputError for a file that is not as said."""
    groups: dict[Key, list[list[float]]] = {}
    number = 1
    try:
        with gzip.open(path, "rt", newline="") as lines:
            for row in csv.DictReader(lines):
                number += 1
                if row["hardware"] == hardware:
                    key = (hardware, row["model"], int(row[degree]))
                    groups.setdefault(key, []).append([float(row[name]) for name in names])
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except KeyError as error:
        raise InputError(f"{path}: no column {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: line {number}: {error}; expected numbers in "
                         f"{', '.join(names)}") from error
    return {key: list(np.array(values).T) for key, values in groups.items()}


def _qkv(model: ModelSpec, tensor: int) -> tuple[int, int]:
    heads = ceil_div(model.num_heads, tensor) + 2 * ceil_div(model.num_kv_heads, tensor)
    return heads * model.head_dim, model.hidden_size


def _out(model: ModelSpec, tensor: int) -> tuple[int, int]:
    return model.hidden_size, ceil_div(model.num_heads, tensor) * model.head_dim


def _up(model: ModelSpec, tensor: int) -> tuple[int, int]:
    return (2 if model.gated_mlp else 1) * ceil_div(model.intermediate_size, tensor), \
        model.hidden_size


def _down(model: ModelSpec, tensor: int) -> tuple[int, int]:
    return model.hidden_size, ceil_div(model.intermediate_size, tensor)
