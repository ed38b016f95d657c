"""``penstock lab collect``: rows to train predictors on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.fleets import read_fleet
from penstock.cli.options import (
    Api,
    ApiKeyFile,
    AsJson,
    Concurrency,
    FleetFile,
    MaxTokens,
    NeededDir,
    PromptFile,
    Settings,
    Timeout,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.experiment.collect.run import JudgeAt

app = App()


@app.command(epilog="Example: penstock lab collect gateway.yaml --prompts prompts.jsonl "
                    "--metric f1 --out rows")
def collect(
    fleet_file: FleetFile, prompts: PromptFile, out: NeededDir,
    models: Annotated[str, typer.Option(
        "--models", metavar="LIST", help="Models, separated by commas; default: all.",
        show_default=False)] = "",
    metric: Annotated[str | None, typer.Option(
        "--metric", metavar="NAME", show_default=False,
        help="Quality by reference: exact (numbers and short answers), f1, rouge-l or chrf.",
    )] = None,
    concurrency: Concurrency = 8,
    judge: Annotated[str | None, typer.Option(
        "--judge", metavar="URL", show_default=False,
        help="OpenAI-compatible server whose model grades answers without a metric.")] = None,
    judge_model: Annotated[str | None, typer.Option(
        "--judge-model", metavar="NAME", show_default=False, help="The judge's model.")] = None,
    judge_key_file: Annotated[Path | None, typer.Option(
        "--judge-key-file", metavar="FILE", show_default=False,
        help="File with the judge's API key.")] = None,
    api_key_file: ApiKeyFile = None, max_tokens: MaxTokens = 512, api: Api = "chat",
    timeout_s: Timeout = 600.0, settings: Settings = None, as_json: AsJson = False,
) -> int:
    """Send each prompt to one replica of every model; store states, answers, latencies, quality.

    `penstock lab train` learns from these rows (rows.parquet). The same command continues a stopped
    run: no answer is lost or requested twice.
    """
    import os

    from penstock.cli.console import print_json, print_tables, progress
    from penstock.engines.client.address import api_key
    from penstock.engines.client.client import ClientTimeouts
    from penstock.experiment.collect.broadcast import CollectOptions, check_metric
    from penstock.experiment.collect.prompts import read_prompts
    from penstock.experiment.collect.run import Sources
    from penstock.experiment.collect.run import collect as run
    if api not in ("chat", "completions"):
        raise InputError(f"--api {api[:40]!r}: expected chat or completions")
    fleet = read_fleet(fleet_file, settings)
    found, digest = read_prompts(prompts)
    check_metric(metric, found, str(prompts))
    sources = Sources(fleet, found, digest, [name for name in models.split(",") if name],
                      _judge(judge, judge_model, judge_key_file),
                      api_key(os.environ, api_key_file), ClientTimeouts(total_s=timeout_s))
    options = CollectOptions(max_tokens, concurrency, api == "chat", metric=metric)
    with progress("collecting") as update:

        def on_row(done: int, row: "Mapping[str, Any]") -> None:
            update(f"{row['model']}: {row['outcome']}", done)

        counts = run(sources, options, out, on_row)
    if as_json:
        print_json({"rows": str(out / "rows.parquet"), "models": counts})
    else:
        print_tables(_tables(counts, out))
    return OK


def _judge(url: str | None, model: str | None, key_file: Path | None) -> "JudgeAt | None":
    from penstock.engines.client.address import api_key, base_url
    from penstock.experiment.collect.run import JudgeAt

    if url is None:
        if model or key_file:
            raise InputError("--judge-model and --judge-key-file go with --judge URL")
        return None
    if not model:
        raise InputError("--judge needs --judge-model NAME")
    # The engines' key is not for another server: the judge gets its own or none.
    return JudgeAt(base_url(url), model, api_key({}, key_file))


def _tables(counts: "list[dict[str, Any]]", out: Path) -> list[Any]:
    from penstock.report.model.table import table

    cells = [(one["model"], f"{one['rows']:,}", f"{one['finished']:,}", f"{one['failed']:,}",
              f"{one['judged']:,}", f"{one['judge_failures']:,}",
              "" if one["mean_quality"] is None else f"{one['mean_quality']:.3f}",
              "" if one["mean_output_tokens"] is None else f"{one['mean_output_tokens']:.0f}")
             for one in counts]
    return [table("Collected", ("model", "rows", "finished", "failed", "judged",
                                "judge failed", "mean quality", "mean tokens"), cells),
            f"rows: {out / 'rows.parquet'}"]
