"""Timings of single operations: Vidur's profiles and AIConfigurator's tables, row by row.

Nothing is composed here: a row of theirs is a row of ours, its parameters as JSON in ``shape``.
"""

from collections.abc import Sequence
from pathlib import Path

from penstock.core.errors import InputError
from penstock.perf.profiles.csv_rows import CsvRow, csv_rows
from penstock.perf.profiles.imported import Imported, numbered
from penstock.perf.profiles.points import Measurement, ModelConfiguration
from penstock.workload.text import first_line

_STATS, _MEDIAN, _MS = "time_stats.", ".median", "_ms"
_WORKERS = ("num_tensor_parallel_workers", "num_workers", "num_gpus")
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32",
               "fp8": "fp8", "int8": "int8", "fp8_block": "fp8", "nvfp4": "fp4", "mxfp4": "fp4"}
# A column that only one of AIConfigurator's tables has -> what is timed there.
_TABLES = (("isl", "context_attention"), ("step", "generation_attention"), ("topk", "moe"),
           ("k", "gemm"), ("op_name", ""), ("message_size", "custom_allreduce"))


def read_vidur(path: Path) -> Imported:
    """Vidur's op profiles (``mlp.csv``, ``attention.csv``, collectives; github.com/microsoft/vidur,
    ``data/profiling``), or a table of medians with columns ``<op>_ms``.

    Medians in milliseconds become seconds. Raises InputError.
    """
    header = [name.strip() for name in first_line(path).split(",")]
    ops = {name: name.removeprefix(_STATS).removesuffix(_MEDIAN) for name in header
           if name.startswith(_STATS) and name.endswith(_MEDIAN)}
    ops = ops or {name: name.removesuffix(_MS) for name in header if name.endswith(_MS)}
    if not ops:
        raise InputError(f"{path}:1: no column 'time_stats.<op>.median' or '<op>_ms'; expected an "
                         "op profile of Vidur's")
    parameters = [name for name in header
                  if name and name not in ops and not name.startswith(_STATS)
                  and name not in ("model", "rank")]
    model = path.parent.name if "model" not in header else ""
    found = []
    for row in csv_rows(path, tuple(ops)):
        shape = _shape(row, parameters)
        configuration = ModelConfiguration(row.text("model") if "model" in header else model, (),
                                      "fp16", "fp16", _workers(row, header))
        found += [Measurement("op", configuration, op=op, shape=shape, source=row.where,
                              seconds=row.number(column) * 1e-3)
                  for column, op in ops.items() if row.has(column)]
    return Imported(numbered(found), {"engine": "none: single operations"},
                    ("medians of Vidur's own repeats; models in fp16 unless its file says more",))


def read_aiconfigurator(path: Path) -> Imported:
    """A table of AIConfigurator's kernel timings as CSV (github.com/ai-dynamo/aiconfigurator).

    Its column ``latency`` or ``latency_ms`` is in milliseconds. Raises InputError.
    """
    header = [name.strip() for name in first_line(path).split(",")]
    column = next((name for name in ("latency_ms", "latency") if name in header), None)
    if column is None:
        raise InputError(f"{path}:1: no column 'latency' or 'latency_ms'; expected a table of "
                         "AIConfigurator's")
    table = next((table for name, table in _TABLES if name in header), None)
    if table is None:
        raise InputError(f"{path}:1: no column of a table that is known; expected one of: "
                         f"{', '.join(name for name, _ in _TABLES)}")
    number_format = next((name for name in header if name.endswith("_dtype")), None)
    parameters = [name for name in header if name and name not in (column, "op_name")]
    found = []
    for row in csv_rows(path, (column,)):
        word = row.text(number_format) if number_format else "bfloat16"
        precision = _PRECISIONS.get(word, word)
        configuration = ModelConfiguration(path.name.split(".")[0], (), precision, precision,
                                      _workers(row, header))
        found.append(Measurement(
            "op", configuration, op=table or row.text("op_name"), source=row.where,
            shape=_shape(row, parameters), seconds=row.number(column) * 1e-3))
    return Imported(numbered(found), {"engine": "none: single operations"},
                    ("the column model has the table's name: kernels belong to no model",))


def _workers(row: CsvRow, header: Sequence[str]) -> int:
    return next((row.whole(name) for name in _WORKERS if name in header), 1)


def _shape(row: CsvRow, parameters: Sequence[str]) -> str:
    """The parameters as a JSON object, numbers as such."""
    import orjson

    return orjson.dumps({name: _value(row.text(name)) for name in parameters
                         if row.has(name)}).decode()


def _value(word: str) -> object:
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return word
