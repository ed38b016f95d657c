"""``penstock lab queue``: one replica as a queue."""

from math import inf
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.command import App, states
from penstock.cli.exits import MISSED, OK
from penstock.cli.options import AsJson
from penstock.cli.queue_input import PENSTOCK

app = App()

File = Annotated[Path | None, typer.Option(
    "--file", metavar="FILE", show_default=False,
    help="JSON with the fields RPS, maxBatchSize, AvgInputTokens, AvgOutputTokens, alpha, beta, "
    "gamma, delta, maxQueueSize, maxBatchedTokens, targetTTFT, targetITL, targetTPS in any case; "
    "options come before it.")]
Mode = Annotated[str, states("--mode", "queue:mode", "MODE")]
Rate = Annotated[float | None, states("--rate", "queue:rate_per_s", "X")]
Alpha = Annotated[float | None, states("--alpha", "queue:times.alpha_ms", "MS")]
Beta = Annotated[float | None, states("--beta", "queue:times.beta_ms", "MS")]
Gamma = Annotated[float | None, states("--gamma", "queue:times.gamma_ms", "MS")]
Delta = Annotated[float | None, states("--delta", "queue:times.delta_ms", "MS")]
InputTokens = Annotated[float | None, states("--input-tokens", "queue:input_tokens", "N")]
OutputTokens = Annotated[float | None, states("--output-tokens", "queue:output_tokens", "MEAN")]
MaxBatch = Annotated[float | None, states("--max-batch", "queue:max_batch", "N")]
MaxQueue = Annotated[float | None, states("--max-queue", "queue:max_queue", "X")]
StepTokens = Annotated[float | None, states(
    "--max-step-tokens", "queue:times.max_step_tokens", "X")]
KvTokens = Annotated[float | None, states("--kv-tokens", "queue:kv_tokens", "X")]
ArrivalsScv = Annotated[float | None, states("--arrivals-scv", "queue:arrivals_scv", "X")]
PromptScv = Annotated[float | None, states("--prompt-scv", "queue:prompt_scv", "X")]
OutputScv = Annotated[float | None, states("--output-scv", "queue:output_scv", "X")]
Ttft = Annotated[float | None, states("--ttft-ms", "size:targets.ttft_ms", "MS")]
Itl = Annotated[float | None, states("--itl-ms", "size:targets.itl_ms", "MS")]
Tps = Annotated[float | None, states("--tokens-per-s", "size:targets.tokens_per_s", "X")]
Percentile = Annotated[float | None, states("--percentile", "size:targets.percentile", "PERCENT")]

_EXAMPLE = ("Example: penstock lab queue {} --alpha 12 --beta 0.05 --gamma 0.0005 "
            "--input-tokens 128 --output-tokens 512 --max-batch 48 {}")


@app.callback(epilog=_EXAMPLE.format("solve", "--rate 2"))
def _queue() -> None:
    """Analyse one replica as a queue with state-dependent service."""


@app.command(epilog=_EXAMPLE.format("solve", "--rate 2"))
def solve(
    file: File = None, mode: Mode = PENSTOCK, rate: Rate = None, alpha: Alpha = None,
    beta: Beta = None, gamma: Gamma = None, delta: Delta = None,
    input_tokens: InputTokens = None, output_tokens: OutputTokens = None,
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
    input_tokens: InputTokens = None, output_tokens: OutputTokens = None,
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
    input_tokens: InputTokens = None, output_tokens: OutputTokens = None,
    max_batch: MaxBatch = None, max_queue: MaxQueue = None, max_step_tokens: StepTokens = None,
    kv_tokens: KvTokens = None, arrivals_scv: ArrivalsScv = None, prompt_scv: PromptScv = None,
    output_scv: OutputScv = None, as_json: AsJson = False,
) -> int:
    """Print the smallest batch limit within 1 % of the best rate under the targets.

    Exit status 1 if no batch limit meets the targets.
    """
    return _run("optimize", locals())


def _run(command: str, arguments: dict[str, Any]) -> int:
    """Answer a command; the exit status. 1 is an infeasible answer.

    ``solve`` has no target to miss: of a saturated queue the status is 0, and a note says so.
    """
    from penstock.cli.console import note, print_json, print_tables
    from penstock.cli.queue_answers import answer
    from penstock.cli.queue_input import FIELDS, read_input
    from penstock.report.model.table import table

    mode = arguments["mode"]
    given = read_input(arguments["file"], {one.path: arguments.get(one.parameter)
                                           for one in FIELDS})
    for remark in given.check(mode):
        note(remark)
    with given.errors_called():
        found = answer(command, mode, given)
    if arguments["as_json"]:
        print_json(found)
    else:
        rows = [(name, _format_value(value)) for name, value in found.items() if value is not None]
        print_tables([table("One replica as a queue", ("quantity", "value"), rows)])
    if found.get("feasible") is False:
        note(f"infeasible: {found['reason']}")
        return MISSED
    if found.get("offered_per_s", 0.0) >= found.get("capacity_per_s", inf):
        note(f"saturated: the rate is not below the capacity, {found['capacity_per_s']:.6g} "
             "requests per second, so the wait grows without end")
    return OK


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
