"""``penstock init``: write a fleet file from options or from a short dialogue."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import (
    AsJson,
    Classes,
    ClockUnit,
    ColumnNames,
    E2e,
    Gpus,
    Itl,
    MaxContext,
    ModelName,
    NumRequests,
    OutputLengths,
    OwnCatalog,
    Precisions,
    PriceBasis,
    Prices,
    PromptLengths,
    Rate,
    ScheduledBy,
    SloPercentile,
    Tpot,
    TraceName,
    Ttft,
)
from penstock.core.errors import InputError

Target = Annotated[Path, typer.Argument(
    metavar="FLEET", help="The fleet file to write (YAML).")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]

app = App()

_EXAMPLE = ("penstock init --model llama-3.3-70b --gpu h100-80gb:4 --rate 5 --class chat "
            "--class batch")


@app.command(epilog=f"Example: {_EXAMPLE}")
def init(
    file: Target = Path("fleet.yaml"), model: ModelName = None, gpu: Gpus = None,
    rate: Rate = None, classes: Classes = None, engine: ScheduledBy = None, ttft: Ttft = None,
    itl: Itl = None, tpot: Tpot = None, e2e: E2e = None, percentile: SloPercentile = None,
    trace: TraceName = None, prompt_tokens: PromptLengths = None,
    output_tokens: OutputLengths = None, price: Prices = None, precisions: Precisions = None,
    max_context: MaxContext = None, requests: NumRequests = None,
    price_basis: PriceBasis = None, catalog: OwnCatalog = None, columns: ColumnNames = None,
    clock: ClockUnit = None, force: Force = False, as_json: AsJson = False,
) -> int:
    """Write a fleet file from options for the model, GPUs, rate, lengths, targets and engine.

    On a terminal, asks for missing values. Elsewhere --model, --gpu and --rate are required.
    """
    from penstock.cli.answers import draft_of, fleet_of
    from penstock.cli.console import note, print_json
    from penstock.cli.files import write_whole
    from penstock.fleet.sources import fleet_workload
    from penstock.report.draft_text import assumed_lines, draft_text

    given: dict[str, Any] = {key: value for key, value in locals().items()
                             if key not in ("file", "force", "as_json")}
    if file.exists() and not force:
        raise InputError(f"{file}: is there already; --force replaces it")
    missing = [name for name in ("model", "gpu", "rate") if not given[name]]
    if missing and sys.stdin.isatty() and sys.stderr.isatty():
        from penstock.cli.dialogue import ask

        ask(given)
    elif not given["model"] or not given["gpu"]:
        raise InputError(f"init: no {' and no '.join(f'--{name}' for name in missing)}; "
                         f"for example {_EXAMPLE}")
    draft = draft_of(given, file.parent)
    fleet_workload(fleet_of(draft, {}, file.parent))  # as `penstock check` draws it
    text = draft_text(draft.data, draft.assumed,
                      f"Written by penstock init; `penstock plan {file}` sizes it.")
    write_whole(file, lambda path: _write(path, text))
    if as_json:
        print_json({"file": str(file), "assumed": [found._asdict() for found in draft.assumed]})
    else:
        for line in assumed_lines(draft.assumed):
            note(line)
    note(f"{file} is written; next: penstock plan {file}")
    return OK


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
