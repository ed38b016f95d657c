"""``penstock deployments``: models from their registration to their removal."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.command import App, states, worded
from penstock.cli.deployments_input import HERE, Folder, Name
from penstock.cli.exits import OK
from penstock.cli.exposure import check_exposure
from penstock.cli.options import (
    Accuracy,
    AllowedHosts,
    AsJson,
    BatchSize,
    BudgetS,
    Depths,
    EngineKind,
    EngineSettings,
    Everything,
    FleetFile,
    FleetModel,
    Host,
    KvPrecisionOr16,
    LeastAccuracy,
    LongestS,
    MaxTokensOrAny,
    MaybeDesign,
    MaybeFirstSeed,
    MaybeIntent,
    MaybeTrainDir,
    NeededEngine,
    OpenToAll,
    OutputTokens,
    Pipeline,
    PlacerName,
    Port,
    Precision,
    PrecisionList,
    Precisions,
    Tensor,
    TlsCert,
    TlsClientCa,
    TlsKey,
    WaitingRate,
)
from penstock.cli.tls import server_tls
from penstock.core.errors import InputError

app = App()


@app.callback(epilog="Example: penstock deployments init fleet.yaml")
def _deployments() -> None:
    """Register, profile, deploy by intent, query and remove models.

    Deployments are stored in a folder and outlive every command: their engines run until they are
    removed. While `deployments serve` runs on a folder, the other commands call that server.
    """


@app.command(epilog="Example: penstock deployments init fleet.yaml --train ../data/maveriq")
def init(
    fleet_file: FleetFile, folder: Folder = HERE, train: MaybeTrainDir = None,
) -> int:
    """Make a folder for deployments on a fleet's accelerators, which must be of one kind."""
    from penstock.cli.console import note
    from penstock.serving.deployments.cluster import create_cluster

    cluster = create_cluster(folder, fleet_file, train)
    note(f"{folder}: for deployments on {len(cluster.devices())} {cluster.accelerator.name}")
    return OK


@app.command(epilog="Example: penstock deployments register chat --model llama-2-7b "
                    "--engine emulate --with speed=10")
def register(
    name: Name,
    model: FleetModel,
    engine: NeededEngine = "sim",
    options: EngineSettings = None, folder: Folder = HERE, as_json: AsJson = False,
) -> int:
    """Register a model under a name."""
    from penstock.cli.deployments_input import ask, settings, show_one

    found = settings(options)
    if "model" in found and Path(found["model"]).exists():  # a server may run in another folder
        found["model"] = str(Path(found["model"]).resolve())
    order = {"name": name, "model": model, "engine": engine, "options": found}
    return ask(folder, "register", "", order, show_one, as_json=as_json)


@app.command(epilog="Example: penstock deployments profile chat --precision fp16,int4")
def profile(
    name: Name,
    path: Annotated[Path | None, worded("--from", "profile:path", "PATH")] = None,
    engine: EngineKind = None,
    precisions: PrecisionList = None,
    design: MaybeDesign = None,
    depths: Depths = None,
    budget_s: BudgetS = None,
    seed: MaybeFirstSeed = None,
    options: EngineSettings = None, folder: Folder = HERE, as_json: AsJson = False,
) -> int:
    """Measure a few layers of a deployment's model, like `penstock profile fingerprint`."""
    from penstock.cli.deployments_input import ask, given, listed, settings, show_one
    from penstock.cli.profile_input import whole_numbers

    order = given(path=None if path is None else str(path.resolve()), engine=engine,
                  precisions=listed(precisions), design=design,
                  depths=None if depths is None else whole_numbers("--depths", depths),
                  budget_s=budget_s, seed=seed, settings=settings(options), wait=True)
    return ask(folder, "profile", name, order, show_one, as_json=as_json, title="profiling")


@app.command(epilog="Example: penstock deployments deploy chat --intent min_lat --slo 2")
def deploy(
    name: Name, intent: MaybeIntent = None, slo_s: LongestS = None, rate_per_s: WaitingRate = None,
    precisions: Precisions = None,
    dry_run: Annotated[bool, worded("--dry-run", "deploy:dry_run")] = False,
    sure: Annotated[bool, worded("--sure/--unsure", "deploy:sure")] = True,
    accuracy: Accuracy = None, least_accuracy: LeastAccuracy = None,
    most_accelerators: Annotated[int | None, states(
        "--most-accelerators", "deploy:most_accelerators", "N")] = None,
    output_tokens: OutputTokens = 100, batch: BatchSize = 1, placer: PlacerName = "penstock",
    precision: Precision = None, kv_precision: KvPrecisionOr16 = "fp16", tensor: Tensor = 1,
    pipeline: Pipeline = 1,
    confidential: Annotated[bool, worded("--confidential", "deploy:confidential")] = False,
    folder: Folder = HERE, as_json: AsJson = False,
) -> int:
    """Choose a configuration, reserve memory, start the engine and wait until it is healthy.

    Exit status 1, with nothing reserved, if no configuration meets the requirements, if there is
    not enough memory, or if the engine does not start.
    """
    from penstock.cli.deployments_input import ask, given, listed, show_decision
    from penstock.cli.files import read_json

    if precision is None and (tensor, pipeline, kv_precision) != (1, 1, "fp16"):
        raise InputError("--tensor, --pipeline and --kv-precision state a configuration; give its "
                         "--precision, too")
    exact = None if precision is None else {
        "tensor": tensor, "pipeline": pipeline, "precision": precision,
        "kv_precision": kv_precision}
    order = given(intent=intent, slo_s=slo_s, sure=sure, precisions=listed(precisions),
                  accuracy=None if accuracy is None else read_json(accuracy),
                  least_accuracy=least_accuracy, most_accelerators=most_accelerators,
                  rate_per_s=rate_per_s, output_tokens=output_tokens, batch=batch, placer=placer,
                  configuration=exact, confidential=confidential, dry_run=dry_run, wait=True)
    return ask(folder, "deploy", name, order, show_decision, as_json=as_json, title="deploying")


@app.command(epilog="Example: penstock deployments infer chat 'Once upon a time' --max-tokens 50")
def infer(
    name: Name,
    prompt: Annotated[str, typer.Argument(
        metavar="PROMPT", help="{infer:prompt}", show_default=False)],
    max_tokens: MaxTokensOrAny = None,
    temperature: Annotated[float | None, states("--temperature", "infer:temperature", "T")] = None,
    seed: Annotated[int | None, states("--seed", "infer:seed", "INTEGER")] = None,
    head: Annotated[bool, worded("--head", "infer:head")] = False,
    folder: Folder = HERE, as_json: AsJson = False,
) -> int:
    """Send a prompt to a running deployment."""
    from penstock.cli.deployments_input import ask, given, show_reply

    order = given(prompt=prompt, max_tokens=max_tokens, temperature=temperature, seed=seed,
                  head=head)
    return ask(folder, "infer", name, order, show_reply, as_json=as_json)


@app.command("list", epilog="Example: penstock deployments list --json", words={
    "--all": "Include removed deployments."})
def list_(
    removed: Everything = False,
    folder: Folder = HERE, as_json: AsJson = False,
) -> int:
    """List deployments with their states."""
    from penstock.cli.deployments_input import ask, show_all

    return ask(folder, "list", "", {}, lambda answer: show_all(answer, removed=removed),
               as_json=as_json)


@app.command(epilog="Example: penstock deployments show chat")
def show(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> int:
    """Show one deployment."""
    from penstock.cli.deployments_input import ask, show_one

    return ask(folder, "show", name, {}, show_one, as_json=as_json)


@app.command(epilog="Example: penstock deployments events chat")
def events(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> int:
    """List a deployment's state changes, the oldest first."""
    from penstock.cli.deployments_input import ask, show_events

    return ask(folder, "events", name, {}, show_events, as_json=as_json)


@app.command(epilog="Example: penstock deployments devices")
def devices(folder: Folder = HERE, as_json: AsJson = False) -> int:
    """List the accelerators and their reserved memory."""
    from penstock.cli.deployments_input import ask, show_devices

    return ask(folder, "devices", "", {}, show_devices, as_json=as_json)


@app.command(epilog="Example: penstock deployments restart chat")
def restart(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> int:
    """Start an unhealthy deployment's engine again."""
    from penstock.cli.deployments_input import ask, show_one

    return ask(folder, "restart", name, {"wait": True}, show_one, as_json=as_json,
               title="restarting")


@app.command(epilog="Example: penstock deployments remove chat")
def remove(
    name: Name,
    cancel: Annotated[bool, worded("--cancel", "remove:cancel")] = False,
    folder: Folder = HERE, as_json: AsJson = False,
) -> int:
    """Stop a deployment's engine and release its memory."""
    from penstock.cli.deployments_input import ask, show_one

    return ask(folder, "remove", name, {"cancel": cancel, "wait": True}, show_one,
               as_json=as_json, title="removing")


@app.command(epilog="Example: penstock deployments serve --port 8090")
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8090,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    allowed_hosts: AllowedHosts = None,
    open_to_all: OpenToAll = False,
    queue: Annotated[str, typer.Option(
        "--queue", metavar="NAME",
        help="penstock, or maveriq: one queue for all accelerators, with head-of-line blocking.",
    )] = "penstock",
    period_s: Annotated[float, typer.Option(
        "--look-every", min=0.01, max=3600.0, metavar="SECONDS",
        help="Interval of the engines' health checks.")] = 2.0,
    start_s: Annotated[float, typer.Option(
        "--start-limit", min=0.1, max=1e6, metavar="SECONDS",
        help="Longest time for an engine to start.")] = 600.0,
    folder: Folder = HERE,
) -> int:
    """Monitor the deployments, restart failed engines and serve the HTTP API until interrupted.

    Engines keep running when this command ends; its next start adopts them. /openapi.json describes
    the API.
    """
    from penstock.cli.deployments_serve import run_here

    check_exposure(host, tls_client_ca, open_to_all=open_to_all)
    run_here(folder, host, port, tuple(allowed_hosts or ()), queue, period_s, start_s,
             server_tls(tls_cert, tls_key, tls_client_ca))
    return OK
