"""``penstock lab experiment``: measurements that answer one question."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import MISSED, OK
from penstock.cli.experiment_sincere import sincere
from penstock.cli.options import (
    Api,
    ApiKeyFile,
    AsJson,
    AskedModel,
    Body,
    FirstSeed,
    MaxTokens,
    OutDir,
    PromptKind,
    PromptTokens,
    SelfContained,
    SomeRequests,
    Timeout,
)
from penstock.core.errors import InputError

app = App()


@app.callback(epilog="Example: penstock lab experiment variance http://127.0.0.1:8001")
def _experiment() -> None:
    """Run an experiment: variation between replicas, or SINCERE's grid."""


app.command(epilog="Example: penstock lab experiment sincere --out grid --seeds 5 "
            "--jobs 2", old_options={"--strategies": "--policies", "--workers": "--jobs"})(sincere)


@app.command(epilog="Example: penstock lab experiment variance http://127.0.0.1:8001 "
                    "http://127.0.0.1:8002 --repeats 30 --out variance")
def variance(
    urls: Annotated[list[str], typer.Argument(
        metavar="URL...", show_default=False,
        help="One or more replicas; their key is in PENSTOCK_API_KEY or OPENAI_API_KEY.")],
    repeats: Annotated[int, typer.Option(
        "--repeats", min=2, max=100_000, metavar="N",
        help="How often one request is sent to each replica.")] = 20,
    requests: SomeRequests = 20,
    out: OutDir = None,
    shuffles: Annotated[int, typer.Option(
        "--shuffles", min=0, max=1000, metavar="N",
        help="Number of random orders in which the requests are sent to each replica.")] = 3,
    prompt_tokens: PromptTokens = 256,
    max_tokens: MaxTokens = 256,
    model: AskedModel = None,
    api: Api = "completions",
    prompts: PromptKind = "text",
    body: Body = None,
    timeout: Timeout = 600.0,
    api_key_file: ApiKeyFile = None,
    seed: FirstSeed = 0,
    as_json: AsJson = False,
    self_contained: SelfContained = False,
) -> int:
    """Measure the variation of answers and latencies, within and between replicas.

    Sends one request repeatedly to every replica, then different requests of the same length, then
    those in shuffled orders, one at a time, to the replicas in turn. For output length, TTFT, TPOT,
    e2e and KV memory (if /metrics has it), prints mean, standard deviation, coefficient of
    variation, quantiles, and the share of the variance between replicas, requests and rounds. Exit
    status 1 if a request did not finish.
    """
    import asyncio

    from penstock.cli.console import note, print_json, print_tables, progress
    from penstock.cli.files import library
    from penstock.cli.load_input import target_of
    from penstock.experiment.load.variance import (
        VarianceOptions,
        measure_variance,
        schedule,
    )
    from penstock.report.model.variance import variance_blocks

    targets = [target_of(url, api=api, model=model, prompts=prompts, stream=True, exact=False,
                         class_to_engine=False, body=body, timeout_s=timeout,
                         first_token_timeout_s=None, api_key_file=api_key_file) for url in urls]
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: holds something already; expected a new folder")
    options = VarianceOptions(repeats, requests, shuffles, prompt_tokens, max_tokens, seed)
    with progress("asking", len(schedule(len(targets), options))) as update:
        found, document = asyncio.run(measure_variance(
            targets, options, lambda done: update(f"{done:,} answered", done)))
    if out is not None:
        _keep(out, document, [one.row() for one in found], library(self_contained))
        note(f"files in {out}")
    if as_json:
        print_json(document)
    else:
        print_tables(variance_blocks(document))
    return OK if all(one.outcome == "finished" for one in found) else MISSED


def _keep(folder: Path, document: "dict[str, object]", rows: "list[dict[str, object]]",
          library: str | None) -> None:
    from penstock.report.files import write_summary
    from penstock.report.html.variance_page import write_variance_page
    from penstock.report.rows import write_rows

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_summary(folder / "variance.json", document)
        write_rows(folder / "observations.csv", rows)
        write_variance_page(folder / "report.html", document, rows, library)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
