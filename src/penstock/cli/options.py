"""Options that several commands share, and what they mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import field_option
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet

FleetFile = Annotated[Path, typer.Argument(
    metavar="FLEET", help="The fleet file (YAML).", show_default=False)]
Settings = Annotated[list[str] | None, typer.Option(
    "--set", metavar="KEY=VALUE", show_default=False,
    help="Replace a value of the fleet file, such as traffic[0].rate_per_s=4; repeatable.")]
DataDir = Annotated[Path | None, typer.Option(
    "--data", "--data-dir", metavar="DIR", show_default=False,
    help="Where relative trace files are looked for besides the fleet file's folder.")]
Seed = Annotated[int | None, typer.Option(
    "--seed", min=0, metavar="N", help="Seed of every random choice; default: the file's.",
    show_default=False)]
NumSeeds = Annotated[int, typer.Option(
    "--seeds", min=1, max=1000, metavar="N",
    help="How many seeds to run, from the fleet file's (or --seed) on.")]
NumReplicas = Annotated[int | None, typer.Option(
    "--replicas", min=1, metavar="N", show_default=False,
    help="Number of replicas, in place of the fleet file's.")]
AsJson = Annotated[bool, typer.Option(
    "--json", help="Print one JSON document on stdout, and nothing else there.")]
OutDir = Annotated[Path | None, typer.Option(
    "--out", metavar="DIR", show_default=False,
    help="Folder of the run's files; default: runs/<fleet name>.")]

TrainDir = Annotated[Path, typer.Option(
    "--train", metavar="DIR", show_default=False,
    help="Folder to learn from: profiles by penstock profile, or tables laid out as MaverIQ's.")]
MeasuredOn = Annotated[str, typer.Option(
    "--accelerator", metavar="NAME", help="What everything was measured on.")]
OwnCatalog = Annotated[Path | None, typer.Option(
    "--catalog", metavar="PATH", show_default=False,
    help="Your own accelerators and models, beside those that ship.")]
NumAccelerators = Annotated[int, typer.Option(
    "--accelerators", min=1, max=64, metavar="N", help="How many of them there are.")]
UsedGib = Annotated[str | None, typer.Option(
    "--used-gib", metavar="LIST", show_default=False,
    help="Memory already used on each, such as 10,0,0,30; default: none.")]

LedgerUrl = Annotated[str | None, typer.Option(
    "--ledger", metavar="URL", envvar="PENSTOCK_LEDGER_URL", show_default=False,
    help="Where keys and spending are kept, as an SQLAlchemy URL; default: a SQLite file beside "
         "the fleet file, FLEET.ledger.db.")]


# A fleet without a file: options that answer what a fleet file would.
ModelName = Annotated[str | None, typer.Option(
    "--model", metavar="NAME", show_default=False,
    help="Model of the catalog, or the path of a Hugging Face config.json.")]
Gpus = Annotated[list[str] | None, typer.Option(
    "--gpu", metavar="NAME[:COUNT]", show_default=False,
    help="GPUs that may be used, such as h100-80gb:4; without a count, as many as needed. "
         "Repeatable.")]
Rate = Annotated[float | None, field_option("--rate", "traffic.rate_per_s", "R")]
Ttft = Annotated[float | None, field_option("--ttft", "service_classes.slo.ttft_s", "S")]
Itl = Annotated[float | None, field_option("--itl", "service_classes.slo.itl_s", "S")]
E2e = Annotated[float | None, field_option("--e2e", "service_classes.slo.e2e_s", "S")]
SloPercentile = Annotated[float | None, field_option(
    "--percentile", "service_classes.slo.percentile", "P")]
Classes = Annotated[list[str] | None, typer.Option(
    "--class", metavar="NAME[:KEY=VALUE...]", show_default=False,
    help="A service class, such as chat, batch or code:share=0.3:ttft=5. Keys: share, rate, "
         "priority, ttft, itl, e2e, percentile, trace, prompt, output. Repeatable.")]
Engine = Annotated[str | None, typer.Option(
    "--engine", metavar="NAME", show_default=False,
    help="Whose scheduler the replicas have: vllm, sglang, or penstock.")]
Prices = Annotated[list[str] | None, typer.Option(
    "--price", metavar="[GPU=]USD", show_default=False,
    help="Price of one GPU for one hour; default: the catalog's. Repeatable.")]
TraceName = Annotated[str | None, typer.Option(
    "--trace", metavar="NAME|FILE", show_default=False,
    help="Lengths that ship with Penstock, such as azure-2023-conv, or a trace file.")]
PromptTokens = Annotated[str | None, typer.Option(
    "--prompt-tokens", metavar="N|DIST", show_default=False,
    help="Prompt length: always 512, or quantiles of a lognormal such as "
         "p50=400,p99=6000,max=8000.")]
OutputTokens = Annotated[str | None, typer.Option(
    "--output-tokens", metavar="N|DIST", show_default=False, help="Output length, likewise.")]
Precisions = Annotated[str | None, typer.Option(
    "--precision", metavar="LIST", show_default=False,
    help="Formats that the weights may have, such as bf16,fp8.")]
MaxContext = Annotated[int | None, field_option(
    "--max-context", "models.max_context_tokens", "N")]
NumRequests = Annotated[int | None, field_option("--requests", "run.num_requests", "N")]


def ledger_file(fleet_file: Path) -> Path:
    """The ledger that belongs to a fleet file where no other is named."""
    return fleet_file.resolve().with_suffix(".ledger.db")


def ledger_url(path: Path) -> str:
    """The URL of a ledger in a file."""
    return f"sqlite:///{path}"


def read_fleet(path: Path, settings: Sequence[str] | None = None, data_dir: Path | None = None,
               seed: int | None = None, more: dict[str, Any] | None = None, *,
               to_plan: bool = False) -> "Fleet":
    """The fleet file with the command line's changes; ``to_plan`` as for ``load_fleet``. Raises
    InputError."""
    from penstock.fleet.load import load_fleet

    return load_fleet(path, overrides_of(settings, data_dir, seed, more), data_dir,
                      to_plan=to_plan)


def overrides_of(settings: Sequence[str] | None = None, data_dir: Path | None = None,
                 seed: int | None = None, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """The command line's changes to a fleet file. Raises InputError, also for a ``data_dir`` that
    is not there."""
    from penstock.fleet.settings import parse_settings

    overrides = {**parse_settings(settings or ()), **(more or {})}
    if seed is not None:
        overrides["run.seed"] = seed
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"--data {data_dir}: no such folder")
    return overrides


def seed_range(fleet: "Fleet", num_seeds: int) -> range:
    """The seeds of a command that runs several."""
    return range(fleet.run.seed, fleet.run.seed + num_seeds)


def with_replicas(fleet: "Fleet", count: int | None) -> "Fleet":
    """The fleet with replicas: its own, or ``count`` of its only group.

    Raises InputError when it states none and no number is given, when it has several groups to
    give the number to, and when the fleet has too few accelerators.
    """
    from dataclasses import replace

    if count is None:
        if not fleet.replicas and not fleet.residency:
            raise InputError(f"fleet {fleet.name} states no replicas; state them, give "
                             "--replicas N, or find their number with `penstock run`")
        return fleet
    if fleet.residency and not fleet.replicas:
        raise InputError(f"--replicas {count}: models of fleet {fleet.name} take turns on devices; "
                         "set their number with --set residency[0].count=N")
    groups = fleet.replicas or fleet.sizing.kinds()
    if len(groups) > 1:
        raise InputError(f"--replicas {count}: the fleet has {len(groups)} groups of replicas; set "
                         "each one's number with --set replicas[0].count=N")
    group = replace(groups[0], count=count)
    available = fleet.pool(group.accelerator.name).count
    shared = sum(pool.count for pool in fleet.residency if pool.accelerator is group.accelerator)
    if available is not None and group.num_accelerators + shared > available:
        beside = f" beside {shared} of residency" if shared else ""
        raise InputError(f"--replicas {count} need {group.num_accelerators} "
                         f"{group.accelerator.name}{beside}; the fleet has {available}")
    return replace(fleet, replicas=(group,))


def check_journal(fleet: "Fleet", *, journal: bool) -> None:
    """Raises InputError where a journal is asked for and nothing would keep one."""
    if journal and fleet.residency and not fleet.replicas:
        raise InputError("--journal: devices that models take turns on keep none")


def refuse_turns(fleet: "Fleet", command: str, instead: str) -> None:
    """Raises InputError for a fleet whose models take turns, before a ``command`` answers for
    replicas that it does not state."""
    if fleet.residency:
        raise InputError(f"models of fleet {fleet.name} take turns on devices (residency), of "
                         f"which {command} knows nothing; expected {instead}")


def note_kind(fleet: "Fleet", count: int | None) -> None:
    """Say of what kind the ``count`` replicas of ``--replicas`` are where the file does not.

    It is the first accelerator, while a plan would choose among all.
    """
    if count is None or fleet.replicas or fleet.sizing.stated or len(fleet.accelerators) < 2:
        return
    from penstock.cli.console import note

    note(f"--replicas {count}: of {fleet.accelerators[0].accelerator.name}, the first accelerator "
         "of the file; `penstock plan` chooses the cheapest kind")
