"""Formats of profiles and traces, queue modes, planning operations, and published systems."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError
from penstock.core.settings import LARGEST, Number, Settings
from penstock.registry.axis import Axis, Entry

if TYPE_CHECKING:
    from penstock.perf.profiles.imported import Imported
    from penstock.workload.column_map import ColumnMap
    from penstock.workload.trace import Trace

PROFILES = Axis("profile format", "penstock.profile", {
    "maveriq": Entry("penstock.published.maveriq.tables:import_maveriq"),
    "sincere": Entry("penstock.published.sincere.tables:read_sincere"),
    "vidur": Entry("penstock.perf.profiles.operations:read_vidur"),
    "aiconfigurator": Entry("penstock.perf.profiles.operations:read_aiconfigurator"),
    "vllm-bench": Entry("penstock.perf.profiles.requests:read_vllm_bench"),
})

TRACES = Axis("trace format", "penstock.trace", {
    name: Entry("penstock.workload.readers:read_trace")
    for name in ("agentic", "aiperf", "azure", "bailian", "burstgpt", "csv", "jsonl", "lengths",
                 "llmservingsim", "mooncake", "parquet", "sessions", "weka")})

PLANNING = Axis("set of planning operations", "penstock.planning", {
    "queue": Entry("penstock.serving.planning.queue:OPERATIONS"),
    "inferno": Entry("penstock.published.inferno.operations:OPERATIONS"),
})

QUEUE_MODES = Axis("queue mode", "penstock.queue", {
    "penstock": Entry("penstock.perf.queueing.answers:MODE", traits=(
        "kv_tokens", "percentile", "arrivals_scv", "prompt_scv", "output_scv")),
    "inferno": Entry("penstock.published.inferno.queueing.mode:MODE", traits=("max_queue",)),
})
"""Models of one replica as a queue, each a ``QueueMode``. ``traits`` are the inputs that only this
mode reads."""

_SHORTENED: Settings = {"requests": Number(100, LARGEST, whole=True)}
"""Systems whose simulations may be shortened. For other systems, every figure needs all
requests."""
_RUN = "penstock.published"
SYSTEMS = Axis("system", "penstock.reproduce", {
    "inferno": Entry(f"{_RUN}.inferno.run:reproduce_inferno"),
    "inferno-loop": Entry(f"{_RUN}.inferno.loop.run:reproduce_inferno_loop", traits=("no_data",)),
    "kernels": Entry(f"{_RUN}.kernels.run:reproduce_kernels"),
    "llm-d-slo": Entry(f"{_RUN}.autoscalers.run:reproduce_llm_d_slo", traits=("no_data",)),
    "maveriq": Entry(f"{_RUN}.maveriq.run:reproduce_maveriq"),
    "maveriq-plans": Entry(f"{_RUN}.maveriq.run:reproduce_maveriq_plans", _SHORTENED),
    "measured": Entry(f"{_RUN}.measured.run:reproduce_measured"),
    "niyama": Entry(f"{_RUN}.niyama.run:reproduce_niyama", _SHORTENED),
    "routebalance": Entry(f"{_RUN}.routebalance.run:reproduce_routebalance", _SHORTENED),
    "sincere": Entry(f"{_RUN}.sincere.run:reproduce_sincere"),
    "vidur": Entry(f"{_RUN}.vidur.run:reproduce_vidur"),
})


def inputs_of_other_modes(mode: str) -> dict[str, str]:
    """Inputs of queue problems that ``mode`` does not read, each with the mode that does."""
    return {name: other for other in QUEUE_MODES.names() if other != mode
            for name in QUEUE_MODES.entry(other).traits}


def read_foreign(path: Path, tool: str) -> "Imported":
    """Read the rows of a tool's file. Raises InputError for an unknown tool and for a broken
    file."""
    if not PROFILES.knows(tool):
        raise InputError(f"--from {tool[:40]!r} is unknown{PROFILES.nearest(tool)}")
    read: Callable[[Path], Imported] = PROFILES.load(tool)
    return read(path)


def read_trace(path: Path | str, trace_format: str | None = None,
               mapping: "ColumnMap | None" = None) -> "Trace":
    """Read the requests recorded in ``path``. A format of None is detected from the file.

    ``mapping`` names columns that have other names than the known ones, and the unit of the clock.
    Raises InputError for an unknown format and for an invalid trace.
    """
    from penstock.workload.column_map import AS_KNOWN
    from penstock.workload.readers import read_trace as read

    if trace_format is None or trace_format in TRACES.names():
        return read(path, trace_format,  # type: ignore[arg-type]  # one of the known formats
                    mapping=mapping or AS_KNOWN)
    plugged: Callable[[Path], Trace] = TRACES.load(trace_format)
    if mapping not in (None, AS_KNOWN):
        raise InputError(f"{path}: the trace format {trace_format[:40]!r} is a plug-in's, which "
                         "reads its own columns; leave the map and the clock out")
    return plugged(Path(path))


def trace_columns(path: Path | str, trace_format: str) -> tuple[str, ...]:
    """Return the names of the columns of a trace file, none for a plug-in's format or for a file
    that has no columns: the reader of the trace says why."""
    from penstock.workload.layout import columns_in

    if trace_format not in ("auto", *TRACES.names()):
        return ()
    kind = None if trace_format == "auto" else trace_format
    try:
        return columns_in(Path(path), kind)  # type: ignore[arg-type]  # one of the known formats
    except InputError:
        return ()


def has_own_times(path: Path | str, trace_format: str | None = None) -> bool:
    """Whether a trace file is of a form that has the time of every request. Reads the file's first
    lines. Raises InputError as ``read_trace``."""
    from penstock.workload.readers import sniff_format
    from penstock.workload.session_files import WITHOUT_TIMES

    if trace_format is None:
        return sniff_format(Path(path)) not in WITHOUT_TIMES
    return trace_format not in WITHOUT_TIMES


def assumed_clock(path: Path | str, trace_format: str | None = None,
                  mapping: "ColumnMap | None" = None) -> str:
    """Return the assumption on a trace's clock that ``read_trace`` makes, empty where there is
    none. Reads the file's first lines. Raises InputError as ``read_trace``."""
    from penstock.workload.column_map import AS_KNOWN
    from penstock.workload.readers import assumed_clock as assumed

    if trace_format is None or trace_format in TRACES.names():
        return assumed(path, trace_format,  # type: ignore[arg-type]  # one of the known formats
                       mapping or AS_KNOWN)
    return ""
