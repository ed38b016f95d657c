"""``penstock bench``: load on a live endpoint, measured against objectives."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import App
from penstock.cli.fleets import read_fleet
from penstock.cli.options import (
    Api,
    ApiKeyFile,
    AsJson,
    AskedModel,
    Body,
    ClassName,
    ClockUnit,
    ColumnNames,
    Concurrencies,
    DataDir,
    Duration,
    E2e,
    FromFleet,
    Itl,
    NoReport,
    NumRequests,
    OutDir,
    OutputRange,
    PromptKind,
    PromptRange,
    Rates,
    Seed,
    SelfContained,
    Settings,
    SloPercentile,
    TaskTime,
    Timeout,
    Tpot,
    TraceFile,
    Ttft,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.experiment.load.plan import LoadPlan
    from penstock.fleet.values import Fleet

app = App()
_EXAMPLE = ("Example: penstock bench http://127.0.0.1:8000 --rate 4 --duration 60 --ttft 1\n\n"
            "Example: penstock bench http://127.0.0.1:8000 --trace log.csv "
            "--map input_tokens=in,output_tokens=out,arrived_at=ts:ms")


@app.command(epilog=_EXAMPLE, words={
    "--fleet": "Fleet file with the traffic and the service classes."})
def bench(
    url: Annotated[str | None, typer.Argument(
        metavar="URL", show_default=False,
        help="An OpenAI-compatible server; its key is in PENSTOCK_API_KEY or OPENAI_API_KEY."
    )] = None,
    rate: Rates = None, requests: NumRequests = None, duration: Duration = None, ttft: Ttft = None,
    itl: Itl = None, tpot: Tpot = None, e2e: E2e = None, task: TaskTime = None,
    percentile: SloPercentile = None,
    concurrency: Concurrencies = None, fleet_file: FromFleet = None,
    prompt_tokens: PromptRange = None, output_tokens: OutputRange = None,
    lengths: Annotated[str | None, typer.Option(
        "--lengths", metavar="TABLE", show_default=False,
        help="Lengths from a built-in table instead, such as azure-2023-conv.")] = None,
    arrivals: Annotated[str | None, typer.Option(
        "--arrivals", metavar="PROCESS", show_default=False,
        help="poisson (default), constant, gamma:CV or ramp:START:END:SECONDS.")] = None,
    trace: TraceFile = None, columns: ColumnNames = None, clock: ClockUnit = None,
    sessions: Annotated[bool, typer.Option(
        "--sessions", help="Send next turns of the trace after the answers before.")] = False,
    class_name: ClassName = None, model: AskedModel = None,
    api: Api = "completions", prompts: PromptKind = "text",
    prompt_file: Annotated[Path | None, typer.Option(
        "--prompt-file", metavar="FILE", show_default=False,
        help="Send your own prompts from a JSON or JSON lines file, or a folder of such files; "
             "formats: docs/reference/traffic.md.")] = None,
    shared_prompt_tokens: Annotated[int, typer.Option(
        "--shared-prompt-tokens", min=0, max=10_000_000, metavar="N",
        help="Begin all prompts with the same N tokens; by default prompts share nothing.")] = 0,
    no_stream: Annotated[bool, typer.Option(
        "--no-stream", help="Request answers without streaming.")] = False,
    model_ends: Annotated[bool, typer.Option(
        "--model-ends", help="Let the model end its answers (no ignore_eos).")] = False,
    class_to_engine: Annotated[bool, typer.Option(
        "--class-to-engine",
        help="Also send the class in vllm_xargs, for engines without a gateway.")] = False,
    body: Body = None, timeout: Timeout = 600.0,
    first_token_timeout: Annotated[float | None, typer.Option(
        "--first-token-timeout", min=1e-3, max=1e6, metavar="SECONDS", show_default=False,
        help="Longest time for the first token.")] = None,
    api_key_file: ApiKeyFile = None,
    tenant_keys: Annotated[Path | None, typer.Option(
        "--tenant-keys", metavar="FILE", show_default=False,
        help="API keys of the traffic's tenants, as a JSON object.")] = None,
    header: Annotated[list[str] | None, typer.Option(
        "--header", metavar="'NAME: VALUE'", show_default=False,
        help="Extra header of every request; repeatable.")] = None,
    guidellm_out: Annotated[Path | None, typer.Option(
        "--guidellm-out", metavar="FILE", show_default=False,
        help="Also write GuideLLM's JSON.")] = None,
    guidellm_in: Annotated[Path | None, typer.Option(
        "--guidellm-in", metavar="FILE", show_default=False,
        help="Send nothing; convert a GuideLLM report to a run.")] = None,
    out: OutDir = None, settings: Settings = None, data: DataDir = None, seed: Seed = None,
    as_json: AsJson = False, no_report: NoReport = False,
    self_contained: SelfContained = False,
) -> int:
    """Load an OpenAI-compatible server, and report latencies and attainment by class.

    Sends requests at their due times, however slow the server is; latencies count from the due
    times. Requests that time out, are refused or fail count as missed. Writes the same files as
    `run`, for `lab report` and `compare`. Exit status 1 if a class misses its objective.
    """
    from dataclasses import replace

    from penstock.cli.answers import slo_of
    from penstock.cli.bench_runs import Pages, import_runs, run_levels, run_once
    from penstock.cli.files import library
    from penstock.cli.load_input import given_prompts, plan_of, target_of
    from penstock.cli.runs_record import begin
    from penstock.cli.trace_columns import columns_beside
    from penstock.core.slo import Slo
    from penstock.experiment.load.plan import LoadOptions, numbers_of, option_plan

    begun = begin("bench", fleet_file)
    pages = Pages(not no_report, library(self_contained))
    slo = Slo(**slo_of({"ttft": ttft, "itl": itl, "tpot": tpot, "e2e": e2e,
                        "percentile": percentile}, "--itl and --tpot"), task_s=task)
    if guidellm_in is not None:
        if url is not None:
            raise InputError("--guidellm-in: sends nothing, so it takes no URL")
        return import_runs(guidellm_in, slo, class_name, out, as_json=as_json, pages=pages,
                           begun=begun)
    if url is None:
        raise InputError("no URL; expected for example http://127.0.0.1:8000")
    if rate is not None and concurrency is not None:
        raise InputError("--rate and --concurrency exclude each other; give one of them")
    target = target_of(
        url, api=api, model=model, prompts=prompts, stream=not no_stream, exact=not model_ends,
        class_to_engine=class_to_engine, body=body, timeout_s=timeout,
        first_token_timeout_s=first_token_timeout, api_key_file=api_key_file,
        shared_prompt_tokens=shared_prompt_tokens, headers=header or (),
        tenant_key_file=tenant_keys)
    rates = numbers_of("--rate", rate) if rate is not None else ()
    fleet = _fleet(fleet_file, settings, data, seed)
    options = LoadOptions(
        rates[0] if rates else None, requests, duration, prompt_tokens or "256",
        output_tokens or "64", lengths, arrivals or "poisson", trace, slo, class_name, seed or 0,
        columns_beside(trace, columns, clock), sessions)
    plan = plan_of(fleet, options, {
        "--prompt-tokens": prompt_tokens, "--output-tokens": output_tokens, "--lengths": lengths,
        "--arrivals": arrivals, "--trace": trace, "--map": columns, "--clock": clock,
        "--sessions": sessions or None, "--ttft": ttft, "--itl": itl, "--tpot": tpot,
        "--e2e": e2e, "--task": task,
        **({} if concurrency else {"--requests": requests, "--duration": duration})},
        concurrency is not None)
    given = given_prompts(prompt_file, {"--prompt-tokens": prompt_tokens, "--lengths": lengths,
                                        "--trace": trace, "--prompts ids": prompts == "ids" or None,
                                        "--shared-prompt-tokens": shared_prompt_tokens or None})

    def asking(plan: "LoadPlan") -> "LoadPlan":
        return plan.asking(given, prompt_file) if prompt_file is not None else plan

    plan = asking(plan)
    keep = (out, guidellm_out)

    def at_rate(level: float) -> "LoadPlan":
        """The file's requests at another pace; of options, those that come in the same time."""
        if fleet is not None:
            return plan.at_rate(level)
        return asking(option_plan(replace(options, rate_per_s=level)))

    if concurrency is not None:
        levels = numbers_of("--concurrency", concurrency)
        if any(level != int(level) or level > 100_000 for level in levels):
            raise InputError(f"--concurrency {concurrency[:60]!r}: expected whole numbers up to "
                             "100,000")
        return run_levels(
            target, lambda level: plan.at_concurrency(int(level), requests, duration),
            "concurrency", levels, *keep, as_json=as_json, pages=pages, begun=begun)
    if len(rates) > 1:
        return run_levels(target, at_rate, "rate_per_s", rates, *keep, as_json=as_json, pages=pages,
                          begun=begun)
    return run_once(target, at_rate(rates[0]) if rates else plan, *keep, as_json=as_json,
                    pages=pages, begun=begun)


def _fleet(path: Path | None, settings: list[str] | None, data: Path | None,
           seed: int | None) -> "Fleet | None":
    if path is not None:
        return read_fleet(path, settings, data, seed)
    if settings or data is not None:
        raise InputError(f"{'--set' if settings else '--data'} changes a fleet file; give --fleet")
    return None
