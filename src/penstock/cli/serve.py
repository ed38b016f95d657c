"""``penstock serve``: a gateway before a fleet's engines."""

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.fleets import ledger_file, ledger_url, read_fleet
from penstock.cli.options import (
    AllowedHosts,
    AsJson,
    DataDir,
    FleetFile,
    Host,
    LedgerUrl,
    MaxBodyMb,
    OpenToAll,
    Port,
    Seed,
    Settings,
    TlsCert,
    TlsClientCa,
    TlsKey,
    WorkerOf,
    Workers,
)
from penstock.cli.tls import server_tls
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.engines.tls import ServerTls
    from penstock.fleet.values import Fleet
    from penstock.policy.route.protocol import Router
    from penstock.serving.gateway.limits import Limits
    from penstock.serving.gateway.running import Access
    from penstock.serving.gateway.traces import Tracing

app = App()
_PLANNERS = 2


@app.command(epilog="Example: penstock serve gateway.yaml --port 8000")
def serve(
    fleet_file: FleetFile, host: Host = "127.0.0.1", port: Port = 8000, ledger: LedgerUrl = None,
    open_to_all: OpenToAll = False,
    tls_cert: TlsCert = None, tls_key: TlsKey = None, tls_client_ca: TlsClientCa = None,
    settings: Settings = None, allowed_hosts: AllowedHosts = None, data_dir: DataDir = None,
    max_in_flight: Annotated[int, typer.Option(
        "--max-in-flight", min=1, max=1_000_000, metavar="N",
        help="Most requests on engines at once; others wait.")] = 4096,
    max_queue: Annotated[int, typer.Option(
        "--max-queue", min=0, max=1_000_000, metavar="N",
        help="Most waiting requests, the most urgent class first; others, and requests that "
             "would be late, get status 429.")] = 1000,
    attempts: Annotated[int, typer.Option(
        "--attempts", min=1, max=100, metavar="N",
        help="Most engines to try for a request before its first byte.")] = 3,
    max_body_mb: MaxBodyMb = 16,
    max_memory_mb: Annotated[int | None, typer.Option(
        "--max-memory-mb", min=256, max=16_000_000, metavar="N", show_default=False,
        help="Memory of this process from which requests are shed, the least urgent class first; "
             "default: half of the machine's or control group's.")] = None,
    traces: Annotated[bool, typer.Option(
        "--traces", help="Send a trace of each request by OTLP, to the endpoint in the OTEL_ "
                         "variables.",
    )] = False,
    decisions: Annotated[Path | None, typer.Option(
        "--decisions", metavar="FILE", show_default=False,
        help="Append every decision and its outcome to a file of JSON lines, without prompts "
             "and answers.",
    )] = None,
    deployments: Annotated[Path | None, typer.Option(
        "--deployments", metavar="DIR", show_default=False,
        help="Also serve the deployments of a folder, and their API with admin keys.",
    )] = None,
    audit: Annotated[Path | None, typer.Option(
        "--audit", metavar="FILE", show_default=False,
        help="Append who administered to a file of JSON lines; a ledger has the same entries.",
    )] = None,
    advise: Annotated[bool, typer.Option(
        "--advise", help="Let policies.scale decide and record, and leave the number of replicas "
                         "as it is.")] = False,
    workers: Workers = 1, worker: WorkerOf = None,
    seed: Seed = None, as_json: AsJson = False,
) -> int:
    """Serve OpenAI's API in front of a fleet's engines until interrupted.

    The engines are the `endpoints` of `replicas`; replicas without endpoints, whose engine
    (emulated, llamacpp, sglang, vllm) is started; and the models of `multiplexing`, which are
    loaded on demand. The fleet's routing policy chooses the engine of each request. The header
    X-Penstock-Class states a request's service class; default: the fleet's first.
    /v1/penstock/decisions/ID explains a decision; the answer's header X-Penstock-Decision has the
    ID. /metrics is for Prometheus. If the fleet file has tenants, or keys exist (`penstock keys`),
    requests need a key, and spending is recorded in a ledger. The file is read again when it
    changes, or on SIGHUP. With --workers, several processes serve engines that run already, and
    are one gateway to clients, administrators and Prometheus.
    """
    from penstock.engines.http import run_server
    from penstock.serving.deployments.startable import NAMES, is_started
    from penstock.serving.gateway.limits import Limits
    from penstock.serving.gateway.pairing import check_roles
    from penstock.serving.gateway.running import Access
    from penstock.serving.gateway.running_workers import check_workers
    from penstock.serving.gateway.traces import NoTracing, otlp_tracing
    from penstock.serving.scaling.plan import check_scaling
    from penstock.serving.tenants.audit import AuditFile
    tls = server_tls(tls_cert, tls_key, tls_client_ca)
    fleet = read_fleet(fleet_file, settings, data_dir, seed)
    if not (deployments or fleet.multiplexing or fleet.scales) and not any(
            group.endpoints or is_started(group) for group in fleet.replicas):
        raise InputError(f"{fleet_file}: replicas: none has endpoints, so there is no engine to "
                         "serve with; expected for example endpoints: [http://127.0.0.1:8001], or "
                         f"an engine that can be started: {NAMES}")
    check_roles(fleet)
    if workers > 1:
        check_workers(fleet, deployments)
        if worker is None:
            run_server(_keep(fleet, workers, host, port, "http" if tls is None else "https",
                             as_json=as_json))
            return OK
    if fleet.scales:
        check_scaling(fleet, advise=advise)
    elif advise:
        raise InputError("--advise: policies.scale is none, so there is nothing to advise")
    own_ledger = ledger_file(fleet_file)
    if ledger is None and (fleet.gateway.tenants or own_ledger.exists()):
        ledger = ledger_url(own_ledger)
    limits = Limits(ceil(max_in_flight / workers), ceil(max_queue / workers), attempts,
                    max_body_bytes=max_body_mb * 2**20,
                    max_memory_bytes=None if max_memory_mb is None else max_memory_mb * 2**20)
    access = Access(ledger, open_to_all, tuple(allowed_hosts or ()),
                    None if audit is None else AuditFile(audit))
    run_server(_serve(fleet, lambda: read_fleet(fleet_file, settings, data_dir, seed), fleet_file,
                      host, port, limits, access, otlp_tracing() if traces else NoTracing(),
                      decisions, deployments, tls, worker, advise=advise, as_json=as_json))
    return OK


async def _serve(fleet: "Fleet", read: "Callable[[], Fleet]", path: Path, host: str, port: int,
                 limits: "Limits", access: "Access", tracing: "Tracing",
                 decisions: Path | None, deployments: Path | None, tls: "ServerTls | None",
                 worker: str | None, *, advise: bool, as_json: bool) -> None:
    import gc
    from functools import partial

    import numpy as np

    from penstock.cli.announce import announce, note_unavailable
    from penstock.cli.console import note
    from penstock.cli.workers import worker_serves
    from penstock.engines.http import stop_signal
    from penstock.fleet.replica_factory import dispatch_of
    from penstock.policy.route.live_index import LiveIndex
    from penstock.serving.deployments.routed import routed_deployments
    from penstock.serving.deployments.started import started_replicas
    from penstock.serving.gateway.decision_log import DecisionLog
    from penstock.serving.gateway.forecasts import BudgetPrices
    from penstock.serving.gateway.reload import Reload
    from penstock.serving.gateway.running import running
    from penstock.serving.planning.jobs import Jobs
    from penstock.serving.planning.operations import OPERATIONS
    from penstock.serving.planning.server import USUAL, Processes, part
    from penstock.serving.scaling.plan import ScalingPlan
    from penstock.serving.workers.place import WorkerPlace

    own = None if worker is None else WorkerPlace.of(worker)
    # Workers must not draw the same numbers, and so choose the same engines at a time.
    rng = np.random.default_rng(fleet.run.seed if own is None else [fleet.run.seed, own.number])
    prices = BudgetPrices()
    live = LiveIndex()

    def router_of(fleet: "Fleet") -> "Router":
        return dispatch_of(fleet, lambda n: int(rng.integers(n)), prices.markup, live=live)

    stopped = stop_signal()
    # What is there now stays; looking through it again and again would cost a tenth of the speed.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    folder = path.resolve().with_suffix(".engines")
    planners = Processes(_PLANNERS)
    planning = part(OPERATIONS, Jobs(USUAL, note), planners.call)
    if decisions is not None and own is not None:  # one process writes a file, and rotates it
        decisions = decisions.with_name(f"{decisions.stem}.{own.number}{decisions.suffix}")
    log = DecisionLog(decisions, note) if decisions is not None else None
    async with started_replicas(fleet, folder / "replicas", note) as started, routed_deployments(
            deployments, note) as routed:
        def whole(fleet: "Fleet") -> "Fleet":
            return routed.fleet(started.fleet(fleet))

        scaling = ScalingPlan(fleet, started, folder / "scaling.jsonl", advise
                              ) if fleet.scales else None
        fleet = whole(fleet)
        reload = Reload(path, lambda: whole(read()), router_of)
        async with running(fleet, router_of(fleet), host, port, limits=limits, access=access,
                           reload=reload, tracing=tracing, prices=prices, log=log,
                           engines_folder=folder, tls=tls, scaling=scaling, on_bug=note,
                           beside=[planning, *routed.parts],
                           work=[partial(one.run, reload.asked.set) for one in (started, routed)],
                           worker=own, live=live) as (url, engines):
            routed.announce(url)
            if own is None or own.number == 0:
                note_unavailable(engines)
            if own is None:
                announce({"url": url, "engines": [one.facts.url for one in engines]},
                         f"gateway {url}", as_json=as_json)
            else:
                worker_serves(stopped)
            await stopped.wait()
    planners.close()
    if log is not None:
        log.close()


async def _keep(fleet: "Fleet", num_workers: int, host: str, port: int, scheme: str, *,
                as_json: bool) -> None:
    """Keep workers running: this command again, once for each."""
    from penstock.cli.announce import announce
    from penstock.cli.console import note
    from penstock.cli.workers import worker_command
    from penstock.engines.http import stop_signal
    from penstock.serving.gateway.running_workers import running_workers

    stopped = stop_signal()
    async with running_workers(worker_command, num_workers, host, port, scheme, note) as (
            url, workers):
        announce({"url": url, "engines": [endpoint for group in fleet.replicas
                                          for endpoint in group.endpoints],
                  "workers": workers.pids}, f"gateway {url}", as_json=as_json)
        await stopped.wait()
