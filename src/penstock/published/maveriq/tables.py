"""MaverIQ's profiling tables (github.com/UT-SysML/MaverIQ, ``outputs/profiling_data``)."""

from pathlib import Path

from penstock.core.units import GIB
from penstock.estimate.configurations import KV_PRECISIONS, PRECISIONS
from penstock.perf.profiles.csv_rows import CsvRow, csv_rows
from penstock.perf.profiles.imported import Imported, numbered
from penstock.perf.profiles.points import Measurement, ModelConfiguration
from penstock.perf.profiles.rows import ProfiledRun

_COLUMNS = ("Model", "TP", "PP", "PP_Map", "DTYPE", "INT8_KV_Cache", "Output_Lenght",
            "Batch_Size", "Latency", "Memory-Pre-Run", "Memory-After-Run")


def read_maveriq(path: Path | str) -> list[ProfiledRun]:
    """The runs of a MaverIQ profiling CSV, in the file's order.

    Latency in seconds and memory in GiB, as its authors state; the length of the prompt is no
    column, so ``prompt_tokens`` is None. An empty or NaN latency is a run that did not fit.
    Raises InputError with file, line and column.
    """
    return [_run(row) for row in csv_rows(Path(path), _COLUMNS)]


def _run(row: CsvRow) -> ProfiledRun:
    pipeline = row.whole("PP")
    layers = row.wholes("PP_Map")
    if len(layers) != pipeline:
        row.fail("PP_Map", f"the layers of {pipeline} stages, as PP says")
    loaded, after = (row.number_or_none(column) for column in ("Memory-Pre-Run",
                                                               "Memory-After-Run"))
    return ProfiledRun(
        model=row.text("Model"), tensor=row.whole("TP"), pipeline=pipeline,
        layers_by_stage=layers, precision=row.choice("DTYPE", PRECISIONS),
        kv_precision=row.choice("INT8_KV_Cache", KV_PRECISIONS), prompt_tokens=None,
        output_tokens=row.whole("Output_Lenght"), batch=row.whole("Batch_Size"),
        latency_s=row.number_or_none("Latency", above=True),
        memory_bytes=None if after is None else after * GIB,
        memory_loaded_bytes=None if loaded is None else loaded * GIB, source=row.where)


def import_maveriq(path: Path) -> Imported:
    """The table as rows of a profile; each is the mean of three runs. Raises InputError."""
    found = []
    for run in read_maveriq(path):
        fits = run.latency_s is not None
        found.append(Measurement(
            "batch", ModelConfiguration(run.model, run.layers_by_stage, run.precision,
                                   run.kv_precision, run.tensor),
            run.batch, run.prompt_tokens, run.output_tokens,
            outcome="ok" if fits else "out_of_memory",
            reason="" if fits else "no time in the table", seconds=run.latency_s,
            memory_loaded_bytes=run.memory_loaded_bytes, memory_bytes=run.memory_bytes,
            source=run.source))
    return Imported(numbered(found), {"engine": "tensorrt-llm", "device": "cuda"},
                    ("each row is the mean of three runs after two warm-ups",
                     "the prompt is one short sentence; its length is not a column"))
