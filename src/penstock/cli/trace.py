"""``penstock trace``: look at traces, change their format, make them from a fleet's traffic."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.fleets import read_fleet
from penstock.cli.options import (
    AsJson,
    ClockUnit,
    ColumnNames,
    DataDir,
    FleetFile,
    Seed,
    Settings,
)

if TYPE_CHECKING:
    from penstock.workload.stats import TraceStats
    from penstock.workload.trace import Trace

Format = Annotated[str | None, typer.Option(
    "--format", metavar="NAME", show_default=False,
    help="agentic, aiperf, azure, bailian, burstgpt, csv, jsonl, lengths, llmservingsim, "
         "mooncake, parquet, sessions or weka; default: detected.")]
TraceFile = Annotated[Path, typer.Argument(
    metavar="TRACE", help="The trace file, gzipped or not.", show_default=False)]
OutFile = Annotated[Path, typer.Argument(
    metavar="OUT", show_default=False,
    help="File to write: .csv, .jsonl (either may end in .gz) or .parquet.")]
_ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")

app = App()


@app.callback(epilog="Example: penstock trace info azure.csv.gz")
def _trace() -> None:
    """Describe, convert and generate traces."""


@app.command(epilog="Example: penstock trace info azure.csv.gz --json\n\n"
                    "Example: penstock trace info log.jsonl --map "
                    "input_tokens=in,output_tokens=out,arrived_at=ts --clock ms")
def info(file: TraceFile, trace_format: Format = None, columns: ColumnNames = None,
         clock: ClockUnit = None, as_json: AsJson = False) -> int:
    """Print a trace's rate, burstiness, lengths and shared prefixes.

    Known spellings of columns need no --map. Times since 1970 are recognised by their size, and
    dates by their form; the first request then arrives at 0 s.
    """
    from dataclasses import asdict

    from penstock.cli.console import print_json, print_tables
    from penstock.workload.stats import trace_stats

    trace = _read(file, trace_format, columns, clock)
    stats = trace_stats(trace)
    if as_json:
        print_json({"file": str(file), "num_dropped": trace.num_dropped,
                    "assumed_clock": trace.assumed or None, **asdict(stats)})
    else:
        print_tables(_tables(str(file), trace, stats))
    return OK


@app.command(epilog="Example: penstock trace convert azure.csv.gz azure.parquet\n\n"
                    "Example: penstock trace convert log.csv log.parquet --map arrived_at=ts:ms")
def convert(file: TraceFile, out: OutFile, trace_format: Format = None,
            columns: ColumnNames = None, clock: ClockUnit = None, as_json: AsJson = False) -> int:
    """Write a trace in another format, with Penstock's names of columns."""
    _write(_read(file, trace_format, columns, clock), out, as_json=as_json)
    return OK


@app.command(epilog="Example: penstock trace generate examples/quickstart.yaml traffic.csv")
def generate(fleet_file: FleetFile, out: OutFile, settings: Settings = None, data: DataDir = None,
             seed: Seed = None, as_json: AsJson = False) -> int:
    """Write the traffic of a fleet file as a trace."""
    from penstock.fleet.sources import fleet_workload
    from penstock.fleet.traffic import check_open
    from penstock.workload.trace import workload_trace

    fleet = read_fleet(fleet_file, settings, data, seed)
    check_open(fleet.traffic, "a trace")
    _write(workload_trace(fleet_workload(fleet)), out, as_json=as_json)
    return OK


def _read(file: Path, trace_format: str | None, columns: str | None,
          clock: str | None) -> "Trace":
    from penstock.cli.console import note
    from penstock.cli.trace_columns import column_map_of
    from penstock.registry.sources import read_trace

    trace = read_trace(file, trace_format, column_map_of(columns, clock))
    if trace.assumed:
        note(f"{file}: {trace.assumed}")
    return trace


def _write(trace: "Trace", out: Path, *, as_json: bool) -> None:
    from penstock.cli.console import note, print_json
    from penstock.cli.files import write_whole
    from penstock.workload.writers import write_trace

    write_whole(out, lambda path: write_trace(trace, path), _ENDINGS)
    note(f"{len(trace):,} requests in {out}")
    if as_json:
        print_json({"file": str(out), "num_requests": len(trace)})


def _tables(name: str, trace: "Trace", stats: "TraceStats") -> list[Any]:
    from penstock.report.model import wording
    from penstock.report.model.table import table

    def number(value: float | None, unit: str = "") -> str:
        return wording.ABSENT if value is None else f"{value:,.4g}{unit}"

    facts = [("requests", f"{stats.num_requests:,}"),
             ("left out, without output", f"{trace.num_dropped:,}"),
             ("duration", number(stats.duration_s, " s")),
             ("mean rate", number(stats.rate_per_s, " /s")),
             ("rate of the busiest minute", number(stats.peak_minute_per_s, " /s")),
             ("CV of gaps", number(stats.gap_cv)),
             ("CV of gaps within a minute, median", number(stats.gap_cv_within_minute)),
             ("rank correlation of prompt and output", number(stats.spearman)),
             ("prompt tokens shared with earlier requests", wording.percent(stats.prefix_reuse)),
             ("sessions", wording.count(stats.num_sessions)),
             ("requests of the longest session", wording.count(stats.max_turns))]
    lengths = [(kind, f"{found.mean:,.1f}", f"{found.p50:,.0f}", f"{found.p90:,.0f}",
                f"{found.p99:,.0f}", f"{found.max:,}")
               for kind, found in (("prompt", stats.prompt), ("output", stats.output))]
    return [table(name, ("", "value"), facts),
            table("Lengths, tokens", ("", "mean", "p50", "p90", "p99", "max"), lengths)]
