"""``penstock compare``: policies or settings on the same requests, or runs, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.choices import choice_of
from penstock.cli.command import App
from penstock.cli.executor import executor
from penstock.cli.exits import OK
from penstock.cli.fleets import note_kind, read_fleet, seed_range, with_replicas
from penstock.cli.options import (
    AsJson,
    DataDir,
    Html,
    Jobs,
    NumReplicas,
    NumSeeds,
    On,
    OutFile,
    Policies,
    Rates,
    Seed,
    SelfContained,
    Settings,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.cli.compare_told import Telling
    from penstock.experiment.workers import Executor
    from penstock.fleet.values import Fleet
    from penstock.policy.schedule.options import SchedulerOptions

app = App()

Grid = Annotated[list[str] | None, typer.Option(
    "--grid", metavar="KEY=V1,V2,...", show_default=False,
    help="Values of one setting. Repeatable: runs every combination.")]
Scale = Annotated[str | None, typer.Option(
    "--scale", metavar="NAME,NAME,...", show_default=False,
    help="Scale policies, settings after colons: penstock,hpa:target=20. A name alone has the "
         "settings of the file.")]
Bounded = Annotated[bool, typer.Option(
    "--bound/--no-bound", help="With --scale: also search the GPU-hours of a clairvoyant.")]
Resume = Annotated[bool, typer.Option(
    "--resume", help="Keep the rows that are already in --out, run only the others.")]


@app.command(epilog="Example: penstock compare examples/niyama-code.yaml "
                    "--policies penstock,niyama,sarathi:chunk_tokens=256 --seeds 3\n\n"
                    "Example: penstock compare examples/niyama-code.yaml --out grid.csv "
                    "--set policies.schedule=sarathi "
                    "--grid policies.schedule.chunk_tokens=256,512,1024",
             old_options={"--workers": "--jobs"}, words={
    "--rate": "Scale the traffic to these rates, requests per second, separated by commas.",
    "--html": "Also write a page: latency, attainment and goodput of policies, scale policies with "
              "their replicas over time, or runs overlaid."})
def compare(
    what: Annotated[list[Path], typer.Argument(
        metavar="FLEET | RUN_DIR RUN_DIR...", show_default=False,
        help="A fleet file, or folders of simulated or measured runs.")],
    policies: Policies = None, scale: Scale = None, bound: Bounded = True,
    grid: Grid = None, replicas: NumReplicas = None,
    seeds: NumSeeds = 1, settings: Settings = None, data: DataDir = None, seed: Seed = None,
    out: OutFile = None, resume: Resume = False, jobs: Jobs = 0, on: On = None,
    as_json: AsJson = False,
    rate: Rates = None, html: Html = None, self_contained: SelfContained = False,
) -> int:
    """Compare policies on the same requests, a grid of settings, or finished runs.

    --policies takes scheduling policies, and multiplexing policies such as edf:shed=true if models
    share devices. A name that is both replaces both policies.

    Prints attainment and latencies by class, means over the seeds, and each policy's difference to
    the first; with --rate, latency and goodput at every rate. Run folders are not run again: prints
    their figures, with intervals of the differences to the first.

    --grid runs every combination of values and prints one row of figures each. A fleet without
    `replicas` is sized at every point as by `run`. A value may be a YAML mapping in braces or a
    list in brackets.

    --scale runs policies for the number of replicas: attainment, GPU-hours, and the bound, which
    are the GPU-hours of a clairvoyant.
    """
    _check_grid(grid, {"--out": out, "--resume": resume or None})
    from penstock.cli.compare_runs import compare_runs
    from penstock.cli.compare_told import Telling, tell
    from penstock.cli.files import check_name, library
    from penstock.fleet.traffic import check_open

    if html is not None:
        check_name(html, (".html",))
    telling = Telling(as_json, html, library(self_contained))
    given: dict[str, object] = {"--policies": policies, "--grid": grid, "--scale": scale,
                                "--rate": rate, "--html": html}
    if what[0].is_dir() or len(what) > 1:
        for name in ("--policies", "--grid", "--scale", "--rate"):
            if given[name] is not None:
                raise InputError(f"{name} goes with a fleet file, not with the folders of runs")
        return compare_runs(what, seed or 0, telling)
    fleet_file = what[0]
    if grid is not None:
        from penstock.cli.compare_grid import compare_grid

        if policies is not None:
            raise InputError("--policies: has no meaning beside --grid; vary policies.schedule")
        _refuse_beside("--grid", given, "--rate", "--html", "--scale")
        return compare_grid(fleet_file, grid, settings=settings, data=data, seed=seed,
                            num_seeds=seeds, replicas=replicas, out=out, resume=resume,
                            where=executor(jobs, on), as_json=as_json)
    if scale is not None:
        from penstock.cli.compare_scalers import compare_scalers

        _refuse_beside("--scale", given, "--policies", "--rate")
        return compare_scalers(fleet_file, split_policies(scale, "--scale"), settings=settings,
                               data=data, seed=seed, num_seeds=seeds,
                               replicas=replicas, bounded=bound, where=executor(jobs, on),
                               telling=telling)
    if policies is None:
        raise InputError("no --policies; expected for example --policies penstock,sarathi, or "
                         "--grid KEY=V1,V2, or the folders of runs in place of a fleet file")
    from penstock.cli.console import counting
    from penstock.experiment.compare import compare as run_all
    from penstock.experiment.load.plan import numbers_of

    rates = (None,) if rate is None else numbers_of("--rate", rate)
    stated = read_fleet(fleet_file, settings, data, seed)
    if rate is not None:
        check_open(stated.traffic, "--rate")
    if stated.multiplexing:
        return _compare_pools(stated, policies, seeds, replicas, rates, telling, executor(jobs, on),
                              load=lambda more: read_fleet(fleet_file, settings, data, seed, more))
    fleet = with_replicas(stated, replicas)
    note_kind(stated, replicas)
    contenders = [(label, _options(label, fleet_file, settings, data))
                  for label in split_policies(policies)]
    with counting("comparing", len(contenders) * seeds * len(rates)) as on_run:
        found = run_all(fleet, contenders, seed_range(fleet, seeds), rates, on_run,
                        executor(jobs, on))
    tell(fleet.name, seed_range(fleet, seeds), found, telling)
    return OK


def _refuse_beside(option: str, given: dict[str, object], *names: str) -> None:
    """Raise InputError for options that mean nothing beside another."""
    for name in names:
        if given[name] is not None:
            raise InputError(f"{name}: has no meaning beside {option}; leave it out")


def _check_grid(grid: list[str] | None, given: dict[str, object]) -> None:
    """Raise InputError for an option of a grid without one."""
    for name, value in given.items():
        if grid is None and value is not None:
            raise InputError(f"{name}: goes with --grid alone")


def _compare_pools(fleet: "Fleet", policies: str, num_seeds: int, replicas: int | None,
                   rates: "Sequence[float | None]", telling: "Telling", where: "Executor", *,
                   load: "Callable[[dict[str, Any]], Fleet]") -> int:
    from penstock.cli.compare_told import tell
    from penstock.cli.console import counting
    from penstock.experiment.compare import compare_pools

    fleets = {}
    for label in split_policies(policies):
        try:
            fleets[label] = with_replicas(_with_policy(label, fleet, load), replicas)
        except InputError as error:
            raise InputError(f"--policies {label}: {error}") from None
    seeds = seed_range(fleet, num_seeds)
    with counting("comparing", len(fleets) * num_seeds * len(rates)) as on_run:
        found = compare_pools(fleets, seeds, rates, on_run, where)
    tell(fleet.name, seeds, found, telling)
    return OK


def _with_policy(label: str, fleet: "Fleet",
                 load: "Callable[[dict[str, Any]], Fleet]") -> "Fleet":
    """The fleet under a policy: that of its pools and, where it has replicas, of scheduling,
    whichever bears the name and takes the settings. Raises InputError."""
    from penstock.experiment.compare import with_schedule
    from penstock.registry.policies import MULTIPLEXERS, SCHEDULES

    choice = choice_of(label)
    pools = {f"multiplexing[{place}].policy": choice for place in range(len(fleet.multiplexing))}
    if not fleet.replicas:
        return load(pools)
    schedule = {"policies.schedule": choice}
    tries = [schedule] if SCHEDULES.knows(choice["name"]) else []
    if MULTIPLEXERS.knows(choice["name"]):
        tries = [{**schedule, **pools}, *tries, pools] if tries else [pools]
    fault: InputError | None = None
    for changes in tries or [schedule]:
        try:
            found = load(changes)
        except InputError as error:
            fault = fault or error
        else:
            same = "policies.schedule" not in changes
            return found if same else with_schedule(found, found.policies.schedule)
    assert fault is not None
    raise fault


def split_policies(text: str, option: str = "--policies") -> list[str]:
    """The labels of a list of policies. Raises InputError for an empty or repeated one."""
    labels = [label.strip() for label in text.split(",")]
    for place, label in enumerate(labels):
        if not label or label in labels[:place]:
            fault = f"{label!r} appears twice" if label else "a policy is empty"
            raise InputError(f"{option} {text[:80]!r}: {fault}; expected names parted by commas, "
                             "settings after colons")
    return labels


def _options(label: str, fleet_file: Path, settings: list[str] | None,
             data: Path | None) -> "SchedulerOptions":
    """Checked just as if the fleet file said it."""
    try:
        return read_fleet(fleet_file, settings, data,
                          more={"policies.schedule": choice_of(label)}).policies.schedule
    except InputError as error:
        raise InputError(f"--policies {label}: {error}") from None
