"""SINCERE's tables of loading times and of batch times (github.com/Antonio-MI/sincere,
``profiling_results``), and the same as derived tables with units in their columns' names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.perf.profiles.csv_rows import CsvRow, csv_rows
from penstock.perf.profiles.imported import Imported, numbered
from penstock.perf.profiles.points import Measurement, ModelConfiguration
from penstock.workload.text import first_line

_OUTPUT_TOKENS = 50  # all of its batches
_MIB = 1 << 20

_BATCH_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "processing time (s)": {
        "seconds": "processing time (s)", "peak": "03_gpu_mem/active_bytes.all.peak",
        "used_mib": "05_gpu_smi/gpu_0_fb_used_MiB",
        "utilization": "05_gpu_smi/gpu_0_gpu_util_in_percent",
        "celsius": "05_gpu_smi/gpu_0_temp_in_C"},
    "processing_time_s": {
        "seconds": "processing_time_s", "peak": "torch_active_peak_bytes",
        "used_mib": "fb_used_mib", "utilization": "gpu_util_pct", "celsius": "temp_c"}}
_LOADS = {"mean_loading_time /s": ("model_name", "mean_loading_time /s", "std_loading_time /s",
                                   "mean_unloading_time /s", "model_size /GB"),
          "load_mean_s": ("model", "load_mean_s", "load_std_s", "unload_mean_s",
                          "size_reported_gb")}
_LOAD_NOTE = ("loading times are means of 20 loads of one model after the other, so its file was "
              "in the page cache")
_SIZE_NOTE = "sizes are half of what the file states, which counts every byte twice"


def read_sincere(path: Path) -> Imported:
    """Rows of a table of loads or of batches, told apart by its columns. Raises InputError."""
    header = [name.strip() for name in first_line(path).split(",")]
    for name, columns in _BATCH_COLUMNS.items():
        if name in header:
            return _batches(path, columns)
    for name, load_columns in _LOADS.items():
        if name in header:
            return _loads(path, load_columns)
    raise InputError(f"{path}:1: neither a table of loads nor of batches; expected a column "
                     f"{' or '.join(map(repr, (*_LOADS, *_BATCH_COLUMNS)))}")


def _configuration(model: str) -> ModelConfiguration:
    return ModelConfiguration(model, (), "fp32", "fp32")


def _setting(row: CsvRow) -> str:
    """Return the setting that separates runs with confidential computing, where the table has
    it."""
    return f'{{"setting":"{row.text("setting")}"}}' if row.has("setting") else ""


def _batches(path: Path, columns: Mapping[str, str]) -> Imported:
    found = []
    needed = ("model", "batch_size", columns["seconds"])
    for row in csv_rows(path, needed):
        seconds = row.number_or_none(columns["seconds"], above=True)
        used_mib = row.number_or_none(columns["used_mib"])
        percent = row.number_or_none(columns["utilization"])
        found.append(Measurement(
            "batch", _configuration(row.text("model")), row.whole("batch_size"), None,
            _OUTPUT_TOKENS, outcome="ok" if seconds is not None else "out_of_memory",
            reason="" if seconds is not None else "no time in the table", seconds=seconds,
            memory_bytes=None if used_mib is None or seconds is None else used_mib * _MIB,
            memory_peak_bytes=row.number_or_none(columns["peak"]),
            gpu_utilization=None if percent is None else percent / 100,
            gpu_temperature_c=row.number_or_none(columns["celsius"]), shape=_setting(row),
            source=row.where))
    return Imported(numbered(found), {"engine": "transformers", "device": "cuda"}, (
        f"every answer has {_OUTPUT_TOKENS} tokens; the prompts' lengths are not known",
        "a row without a time is one that ran out of memory"))


def _loads(path: Path, columns: Sequence[str]) -> Imported:
    name, load, spread, unload, size = columns
    found: list[Measurement] = []
    for row in csv_rows(path, columns):
        def one(kind: str, column: str, row: CsvRow = row) -> Measurement:
            return Measurement(
                "load" if kind == "load" else "unload", _configuration(row.text(name)),
                cache="warm", seconds=row.number(column, above=True),
                file_bytes=0.5 * row.number(size) * GIB, shape=_setting(row),
                reason=f"mean of the table; standard deviation {row.number(spread):g} s"
                if kind == "load" else "mean of the table", source=row.where)

        found += [one("load", load), one("unload", unload)]
        found += _in_service(row, one)
    return Imported(numbered(found), {"engine": "transformers", "device": "cuda"},
                    (_LOAD_NOTE, _SIZE_NOTE))


def _in_service(row: CsvRow, one: Callable[[str, str], Measurement]) -> list[Measurement]:
    """Swaps while it served several models, which read the whole file from disk."""
    if not row.has("inrun_load_mean_s"):
        return []
    return [replace(one("load", "inrun_load_mean_s"), cache="cold",
                    reason=f"mean of {row.whole('inrun_load_n')} swaps in service")]
