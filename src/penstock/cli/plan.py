"""``penstock plan``: who runs where, at the least cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App, worded
from penstock.cli.executor import executor
from penstock.cli.fleets import overrides_of, read_fleet
from penstock.cli.options import (
    AsJson,
    Classes,
    ClockUnit,
    ColumnNames,
    Confidence,
    DataDir,
    E2e,
    Gpus,
    Itl,
    Jobs,
    MaxContext,
    MaybeTimeLimit,
    ModelName,
    NoReport,
    NumRequests,
    On,
    OutDir,
    OutputLengths,
    OwnCatalog,
    Precisions,
    PriceBasis,
    Prices,
    PromptLengths,
    Rate,
    ScheduledBy,
    Seed,
    SelfContained,
    Settings,
    SloPercentile,
    Tpot,
    TraceName,
    Ttft,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.fleet.draft import Assumption, Draft
    from penstock.fleet.values import Fleet

FleetFile = Annotated[Path | None, typer.Argument(
    metavar="FLEET", help="The fleet file (YAML).", show_default=False)]
WhatIf = Annotated[list[str] | None, worded("--what-if", "plan:what_if", "KEY=VALUE")]
Bundle = Annotated[Path | None, typer.Option(
    "--inferno", metavar="DIR", show_default=False,
    help="Plan an Inferno bundle instead: a folder of its JSON files, or one file.")]
Solver = Annotated[str | None, typer.Option(
    "--solver", metavar="NAME", show_default=False,
    help="Inferno: unlimited, greedy, milp-single or milp-multi; default: the bundle's options.")]
Saturation = Annotated[str | None, typer.Option(
    "--saturation", metavar="POLICY", show_default=False,
    help="Inferno: how the greedy solver shares leftover accelerators: None, PriorityExhaustive, "
         "PriorityRoundRobin or RoundRobin; default: the bundle's.")]
Delayed = Annotated[bool | None, typer.Option(
    "--delayed-best-effort/--no-delayed-best-effort", show_default=False,
    help="Inferno: share leftover accelerators after all priorities, not after each.")]
CapacityFactor = Annotated[float, typer.Option(
    "--capacity-factor", min=0.0, max=1e6, metavar="F",
    help="Inferno: multiply the number of accelerators by this factor, rounded down.")]

app = App()


@app.command(epilog="Example: penstock plan --model llama-3.3-70b --gpu h100-80gb:4 --rate 5 "
                    "--ttft 1 --itl 0.05\n\n"
                    "Example: penstock plan examples/quickstart.yaml --out plans/first\n\n"
                    "Example: penstock plan --model qwen3-32b --gpu h100-80gb --rate 20 --ttft 2 "
                    "--itl 0.05 --confidence 0.95\n\n"
                    "Example: penstock plan --inferno examples/inferno-bundle.json "
                    "--solver milp-single", words={
    "--time-limit": "Inferno: stop the MILP after this time, seconds, with its best plan. (more "
                    "than 0)"})
def plan(fleet_file: FleetFile = None, model: ModelName = None, gpu: Gpus = None,
         rate: Rate = None, ttft: Ttft = None, itl: Itl = None, classes: Classes = None,
         engine: ScheduledBy = None, confidence: Confidence = None, tpot: Tpot = None,
         e2e: E2e = None, percentile: SloPercentile = None,
         trace: TraceName = None, prompt_tokens: PromptLengths = None,
         output_tokens: OutputLengths = None, price: Prices = None, precisions: Precisions = None,
         max_context: MaxContext = None, requests: NumRequests = None,
         price_basis: PriceBasis = None, catalog: OwnCatalog = None, columns: ColumnNames = None,
         clock: ClockUnit = None,
         inferno: Bundle = None, settings: Settings = None,
         data: DataDir = None, seed: Seed = None, out: OutDir = None, as_json: AsJson = False,
         what_if: WhatIf = None, jobs: Jobs = 0, on: On = None,
         no_report: NoReport = False, solver: Solver = None,
         saturation: Saturation = None, delayed: Delayed = None,
         capacity_factor: CapacityFactor = 1.0, time_limit_s: MaybeTimeLimit = None,
         self_contained: SelfContained = False) -> int:
    """Choose accelerators, parallelism, precision and replicas at the least cost, and simulate
    them.

    Plans a fleet file, or --model, --gpu, --rate and targets; prints its assumptions. Simulates the
    proposal on the fleet's own traffic, corrects it until all objectives hold, and says how certain
    that is. In the fleet file, `replicas` is the running fleet and `plan` limits the choice. Writes
    plan.json, report.html and fleet.yaml with the proposed replicas. Exit status 1 if traffic is
    not served or an objective is missed.
    """
    given: dict[str, Any] = {
        "model": model, "gpu": gpu, "rate": rate, "ttft": ttft, "itl": itl, "tpot": tpot,
        "classes": classes, "engine": engine, "e2e": e2e, "percentile": percentile, "trace": trace,
        "prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "price": price,
        "precisions": precisions, "max_context": max_context, "requests": requests,
        "catalog": catalog, "columns": columns, "clock": clock}
    _refuse_mixtures(fleet_file, inferno, given)
    given["price_basis"] = price_basis
    _refuse_others({"--solver": solver, "--saturation": saturation, "--time-limit": time_limit_s,
                    "--capacity-factor": None if capacity_factor == 1.0 else capacity_factor,
                    "--[no-]delayed-best-effort": delayed} if inferno is None else
                   {"--set": settings, "--price-basis": price_basis, "--what-if": what_if,
                    "--data": data, "--seed": seed, "--no-report": no_report or None,
                    "--confidence": confidence, "--self-contained": self_contained or None,
                    "--on": on},
                   "a fleet file" if inferno is None else "--inferno")
    if inferno is not None:
        from penstock.cli.plan_inferno import Request, plan_bundle

        request = Request(solver, saturation, delayed, capacity_factor, time_limit_s)
        return plan_bundle(inferno, request, out, as_json)
    from penstock.cli.files import library
    from penstock.cli.plan_fleet import plan_and_report
    from penstock.cli.runs_record import begin

    begun = begin("plan", fleet_file)
    source = fleet_file or _draft(given)
    more: dict[str, Any] = {} if confidence is None else {"plan.confidence": confidence}
    if price_basis is not None and fleet_file is not None:  # a draft has its prices already
        more["price_basis"] = price_basis
    fleet = _read(source, settings, data, seed, more)
    other = _as_it_might_be(what_if, source, settings, data, seed, more) if what_if else None
    return plan_and_report(fleet, out, begun=begun, as_json=as_json, page=not no_report,
                           library=library(self_contained),
                           other=None if other is None else (tuple(what_if or ()), other),
                           assumed=() if isinstance(source, Path) else source.assumed,
                           unstated=_unstated(source, fleet, settings),
                           where=executor(jobs, on))


def _draft(given: dict[str, Any]) -> "Draft":
    from penstock.cli.answers import draft_of

    return draft_of(given)


def _unstated(source: "Path | Draft", fleet: "Fleet",
              settings: list[str] | None) -> "tuple[Assumption, ...]":
    """Return the values that the fleet file and --set leave open."""
    if not isinstance(source, Path):
        return ()
    from penstock.fleet.draft import unstated
    from penstock.fleet.files import read_text
    from penstock.fleet.load import read_marked

    return unstated(read_marked(read_text(source), str(source), overrides_of(settings)).data, fleet)


def _read(source: "Path | Draft", settings: list[str] | None, data: Path | None,
          seed: int | None, more: dict[str, Any] | None = None) -> "Fleet":
    """The fleet of a file or of a draft, with the command line's changes."""
    if isinstance(source, Path):
        return read_fleet(source, settings, data, seed, more, to_plan=True)
    from penstock.cli.answers import fleet_of

    return fleet_of(source, overrides_of(settings, data, seed, more), data_dir=data)


def _refuse_mixtures(fleet_file: Path | None, inferno: Path | None, given: dict[str, Any]) -> None:
    """Raise InputError unless exactly one thing is to be planned: a file, options or a bundle."""
    spelt = {"classes": "class", "columns": "map"}
    stated = [f"--{spelt.get(name, name).replace('_', '-')}"
              for name, value in given.items() if value not in (None, [])]
    if fleet_file is not None and inferno is not None:
        raise InputError("plan: expected a fleet file or --inferno DIR, not both")
    if fleet_file is not None and stated:
        raise InputError(f"{stated[0]}: has no meaning beside a fleet file; change the file's "
                         "value with --set")
    if inferno is not None and stated:
        raise InputError(f"{stated[0]}: has no meaning beside --inferno; leave it out")
    if fleet_file is None and inferno is None and not (given["model"] and given["gpu"]):
        raise InputError("plan: expected a fleet file or --inferno DIR, or --model, --gpu and "
                         "--rate, such as --model llama-3.3-70b --gpu h100-80gb:4 --rate 5")


def _as_it_might_be(what_if: list[str], source: "Path | Draft", settings: list[str] | None,
                    data: Path | None, seed: int | None, more: dict[str, Any]) -> "Fleet":
    """The fleet with the settings of --what-if; it is sound without them."""
    from penstock.fleet.settings import parse_value, split_setting

    changes: dict[str, Any] = {}
    for key, text in (split_setting(setting, "--what-if") for setting in what_if):
        if key in changes:
            raise InputError(f"--what-if {key[:60]}: appears twice; expected one value")
        changes[key] = parse_value(text, f"--what-if {key}")
    try:
        return _read(source, settings, data, seed, {**more, **changes})
    except InputError as error:
        place, override, rest = str(error).partition("override")
        fault = f" {rest.removeprefix(':').strip()}" if override and not place else f": {error}"
        raise InputError(f"--what-if{fault}") from None


def _refuse_others(given: dict[str, object], beside: str) -> None:
    """Raise InputError for the first option that says nothing to what is planned."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name}: has no meaning beside {beside}; leave it out")
