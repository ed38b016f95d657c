"""``penstock lab queue``: one replica as a queue."""

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import MISSED, OK
from penstock.cli.options import AsJson, MeanOutput
from penstock.cli.queue_input import PENSTOCK

app = App()


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text, show_default=False)


File = Annotated[Path | None, _option(
    "--file", "FILE", "JSON with the fields RPS, maxBatchSize, AvgInputTokens, AvgOutputTokens, "
    "alpha, beta, gamma, delta, maxQueueSize, maxBatchedTokens, targetTTFT, targetITL, targetTPS "
    "in any case; options come before it.")]
Mode = Annotated[str, typer.Option(
    "--mode", metavar="MODE", help="penstock, or inferno: llm-inferno's published calculation.")]
Rate = Annotated[float | None, _option("--rate", "X", "Requests per second.")]
Alpha = Annotated[float | None, _option("--alpha", "MS", "Time of a step before any work, ms.")]
Beta = Annotated[float | None, _option(
    "--beta", "MS", "ms per token computed; with --delta, per request in the batch.")]
Gamma = Annotated[float | None, _option(
    "--gamma", "MS", "ms per KV token read; with --delta, time of a prefill before any work.")]
Delta = Annotated[float | None, _option(
    "--delta", "MS", "ms per prompt token and request in the batch: first-generation parameters.")]
InputTokens = Annotated[float | None, _option("--input-tokens", "N", "Mean prompt length, tokens.")]
MaxBatch = Annotated[float | None, _option(
    "--max-batch", "N", "Most requests in service; for optimize the largest limit to try.")]
MaxQueue = Annotated[float | None, _option(
    "--max-queue", "X", "Most waiting requests; others are lost (inferno mode).")]
StepTokens = Annotated[float | None, _option(
    "--max-step-tokens", "X", "Token budget of a step (8192), for second-generation parameters.")]
KvTokens = Annotated[float | None, _option(
    "--kv-tokens", "X", "Size of the KV cache in tokens (penstock mode).")]
ArrivalsScv = Annotated[float | None, _option(
    "--arrivals-scv", "X", "Squared coefficient of variation of gaps between arrivals (1).")]
PromptScv = Annotated[float | None, _option("--prompt-scv", "X", "The same of prompts (0).")]
OutputScv = Annotated[float | None, _option("--output-scv", "X", "The same of answers (0).")]
Ttft = Annotated[float | None, _option("--ttft-ms", "MS", "Target for TTFT, ms.")]
Itl = Annotated[float | None, _option("--itl-ms", "MS", "Target for ITL, ms.")]
Tps = Annotated[float | None, _option("--tokens-per-s", "X", "Output tokens per second to reach.")]
Percentile = Annotated[float | None, _option(
    "--percentile", "PERCENT", "Percentile of the targets, such as 99; default: means.")]

_EXAMPLE = ("Example: penstock lab queue {} --alpha 12 --beta 0.05 --gamma 0.0005 "
            "--input-tokens 128 --output-tokens 512 --max-batch 48 {}")


@app.callback(epilog=_EXAMPLE.format("solve", "--rate 2"))
def _queue() -> None:
    """Analyse one replica as a queue with state-dependent service."""


@app.command(epilog=_EXAMPLE.format("solve", "--rate 2"))
def solve(
    file: File = None, mode: Mode = PENSTOCK, rate: Rate = None, alpha: Alpha = None,
    beta: Beta = None, gamma: Gamma = None, delta: Delta = None,
    input_tokens: InputTokens = None, output_tokens: MeanOutput = None,
    max_batch: MaxBatch = None, max_queue: MaxQueue = None, max_step_tokens: StepTokens = None,
    kv_tokens: KvTokens = None, arrivals_scv: ArrivalsScv = None, prompt_scv: PromptScv = None,
    output_scv: OutputScv = None, as_json: AsJson = False,
) -> int:
    """Print throughput, waiting and latencies at one rate."""
    return _run("solve", locals())


@app.command(epilog=_EXAMPLE.format("size", "--ttft-ms 500 --itl-ms 40 --percentile 99"))
def size(
    file: File = None, mode: Mode = PENSTOCK, ttft_ms: Ttft = None, itl_ms: Itl = None,
    tokens_per_s: Tps = None, percentile: Percentile = None, alpha: Alpha = None,
    beta: Beta = None, gamma: Gamma = None, delta: Delta = None,
    input_tokens: InputTokens = None, output_tokens: MeanOutput = None,
    max_batch: MaxBatch = None, max_queue: MaxQueue = None, max_step_tokens: StepTokens = None,
    kv_tokens: KvTokens = None, arrivals_scv: ArrivalsScv = None, prompt_scv: PromptScv = None,
    output_scv: OutputScv = None, as_json: AsJson = False,
) -> int:
    """Print the highest rate at which the targets hold. Exit status 1 if there is none."""
    return _run("size", locals())


@app.command(epilog=_EXAMPLE.format("optimize", "--ttft-ms 500 --itl-ms 40 --percentile 99"))
def optimize(
    file: File = None, mode: Mode = PENSTOCK, ttft_ms: Ttft = None, itl_ms: Itl = None,
    tokens_per_s: Tps = None, percentile: Percentile = None, alpha: Alpha = None,
    beta: Beta = None, gamma: Gamma = None, delta: Delta = None,
    input_tokens: InputTokens = None, output_tokens: MeanOutput = None,
    max_batch: MaxBatch = None, max_queue: MaxQueue = None, max_step_tokens: StepTokens = None,
    kv_tokens: KvTokens = None, arrivals_scv: ArrivalsScv = None, prompt_scv: PromptScv = None,
    output_scv: OutputScv = None, as_json: AsJson = False,
) -> int:
    """Print the smallest batch limit within 1 % of the best rate under the targets.

    Exit status 1 if no batch limit meets the targets.
    """
    return _run("optimize", locals())


_PARAMETERS = {
    "rate": "RPS", "max_batch": "maxBatchSize", "max_queue": "maxQueueSize",
    "input_tokens": "AvgInputTokens", "output_tokens": "AvgOutputTokens", "alpha": "alpha",
    "beta": "beta", "gamma": "gamma", "delta": "delta", "max_step_tokens": "maxBatchedTokens",
    "ttft_ms": "targetTTFT", "itl_ms": "targetITL", "tokens_per_s": "targetTPS",
    "kv_tokens": "kvTokens", "percentile": "percentile", "arrivals_scv": "arrivalsScv",
    "prompt_scv": "promptScv", "output_scv": "outputScv",
}


def _run(command: str, arguments: dict[str, Any]) -> int:
    """Answer a command; the exit status. 1 is an infeasible answer."""
    from penstock.cli.console import note, print_json, print_tables
    from penstock.cli.queue_answers import answer
    from penstock.cli.queue_input import read_input
    from penstock.core.errors import InputError, nearest
    from penstock.registry.sources import QUEUE_MODES
    from penstock.report.model.table import table

    mode = arguments["mode"]
    if mode not in QUEUE_MODES.names():
        raise InputError(f"--mode {mode[:60]!r}{nearest(mode[:60], QUEUE_MODES.names())}")
    given = read_input(arguments["file"], {field: arguments.get(name)
                                           for name, field in _PARAMETERS.items()})
    for remark in given.check(mode):
        note(remark)
    with given.fields_called():
        found = answer(command, mode, given)
    if arguments["as_json"]:
        print_json(found)
    else:
        rows = [(name, _format_value(value)) for name, value in found.items() if value is not None]
        print_tables([table("One replica as a queue", ("quantity", "value"), rows)])
    if found.get("feasible") is not False:
        return OK
    note(f"infeasible: {found['reason']}")
    return MISSED


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _figure(value, 6)
    if isinstance(value, dict):
        return ", ".join(f"p{key} {_figure(entry, 4)}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _figure(value: float, digits: int) -> str:
    """Return a figure for readers: 0 where no clock could tell; --json has the value in full."""
    return f"{value if abs(value) >= 1e-9 else 0.0:.{digits}g}"
