"""``penstock lab inferno``: Inferno's control loop on Kubernetes, and its load emulator."""

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.command import App, FieldText
from penstock.cli.exits import OK
from penstock.cli.exposure import check_exposure
from penstock.cli.options import (
    AllowedHosts,
    DataDir,
    Host,
    Kubeconfig,
    KubeContext,
    KubeNamespace,
    OpenToAll,
    Port,
    Seed,
    TlsCert,
    TlsClientCa,
    TlsKey,
)
from penstock.cli.tls import server_tls
from penstock.core.errors import InputError, nearest

app = App()
_MOST = 1_000_000
_NAMESPACE = {"--namespace": "Namespace of the labelled Deployments; default: all."}


@app.callback(epilog="Example: penstock lab inferno control --namespace infer")
def _inferno() -> None:
    """Inferno's control loop on a Kubernetes cluster, and its load emulator."""


@app.command(epilog="Example: penstock lab inferno control --namespace infer", words=_NAMESPACE | {
    "--data": "Folder of Inferno's data files, in the place of the ConfigMaps."})
def control(
    namespace: KubeNamespace = None,
    period_s: Annotated[float, typer.Option(
        "--period", min=0, max=_MOST, metavar="SECONDS", envvar="INFERNO_CONTROL_PERIOD",
        help="Time between cycles; 0 runs them on demand only.")] = 60.0,
    prometheus: Annotated[str | None, typer.Option(
        "--prometheus", metavar="URL", envvar="INFERNO_PROMETHEUS_URL", show_default=False,
        parser=FieldText("scaling.observe.prometheus"),
        help="Prometheus server with the engines' metrics; default: loads are those of labels.",
    )] = None,
    unserved: Annotated[str, typer.Option(
        "--unserved", metavar="keep|zero|abort",
        help="A server without an allocation keeps its replicas, gets 0 as by Inferno's actuator, "
             "or ends the cycle as by optimizer-light.")] = "keep",
    keep_accelerator: Annotated[bool, typer.Option(
        "--keep-accelerator", help="Order replicas on a server's present accelerator only: a "
                                   "label moves no pod to other hardware.")] = False,
    kubeconfig: Kubeconfig = None, context: KubeContext = None,
    data_namespace: Annotated[str, typer.Option(
        "--data-namespace", metavar="NAME",
        help="Namespace of the ConfigMaps inferno-static-data and inferno-dynamic-data.",
    )] = "inferno",
    data: DataDir = None,
    dynamic: Annotated[bool, typer.Option(
        "--dynamic", envvar="INFERNO_CONTROL_DYNAMIC",
        help="Read static data before each cycle, too.")] = False,
    backend: Annotated[str, typer.Option(
        "--backend", metavar="serversim|llmd", envvar="INFERNO_BACKEND",
        help="serversim: metrics by job, labels and replicas ordered. llmd: metrics by pod, only "
             "replicas ordered.")] = "serversim",
    window_s: Annotated[float, typer.Option(
        "--window", min=1, max=86_400, metavar="SECONDS",
        help="Time of Prometheus over which rates are taken.")] = 60.0,
    min_replicas: Annotated[int, typer.Option(
        "--min-replicas", min=0, max=_MOST, metavar="N",
        help="Least replicas of each server; with 0, one without load has none.")] = 0,
    max_batch: Annotated[int, typer.Option(
        "--pin-batch", min=0, max=_MOST, metavar="N", envvar="DEFAULT_MAX_BATCH_SIZE",
        help="Batch size of all servers; 0 takes that of the model data.")] = 0,
    with_cost: Annotated[bool, typer.Option(
        "--with-cost", help="State the cost of present replicas in currentAlloc, which Inferno's "
                            "collector leaves out.")] = False,
    cycle_log: Annotated[Path | None, typer.Option(
        "--cycle-log", metavar="FILE", show_default=False,
        help="Append a JSON line for each cycle, in Inferno's form.")] = None,
    host: Host = "127.0.0.1", port: Port = 3300, allowed_hosts: AllowedHosts = None,
    open_to_all: OpenToAll = False, tls_cert: TlsCert = None, tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
) -> int:
    """Run Inferno's control loop over labelled Deployments until interrupted.

    Penstock takes the place of Inferno's collector, optimizer, actuator and controller: it reads
    the ConfigMaps, collects loads, decides as /optimizeOne does, and patches labels and replicas.
    GET /invoke runs a cycle, /collect shows what it sees. Needs the extra kubernetes.
    """
    from penstock.cli.console import note
    from penstock.engines.http import run_server
    from penstock.published.inferno.cluster import opening
    from penstock.published.inferno.cluster.cycle_log import CycleLog
    from penstock.published.inferno.cluster.decide import UNSERVED, Rules
    from penstock.published.inferno.cluster.series import BACKENDS
    from penstock.serving.kubernetes.api import open_cluster

    check_exposure(host, tls_client_ca, open_to_all=open_to_all)
    rules = Rules(_one_of("--unserved", unserved, UNSERVED),
                  _one_of("--backend", backend, BACKENDS), keep_accelerator, min_replicas,
                  max_batch, with_cost)
    log = None if cycle_log is None else CycleLog(cycle_log)
    if log is not None:
        log.check()
    settings = opening.Settings(rules, period_s, data_namespace, data, prometheus, window_s, log,
                                dynamic)
    address = opening.Listening(host, port, tuple(allowed_hosts or ()),
                                server_tls(tls_cert, tls_key, tls_client_ca))
    run_server(opening.control(open_cluster(kubeconfig, context, namespace), settings, address,
                               note))
    return OK


@app.command(epilog="Example: penstock lab inferno load --namespace infer --phases phases.yaml",
             words=_NAMESPACE | {"--seed": "Seed of the walk; default: another one each time."})
def load(
    namespace: KubeNamespace = None,
    interval_s: Annotated[float, typer.Option(
        "--interval", min=1e-3, max=_MOST, metavar="SECONDS", envvar="INFERNO_LOAD_INTERVAL",
        help="Time between steps.")] = 20.0,
    phases: Annotated[Path | None, typer.Option(
        "--phases", metavar="FILE", envvar="INFERNO_LOAD_PHASES", show_default=False,
        help="Phases (YAML) in which the nominal rate changes: a list of duration and ratio.",
    )] = None,
    num_steps: Annotated[int | None, typer.Option(
        "--steps", min=1, max=_MOST, metavar="N", show_default=False,
        help="Number of steps; default: until interrupted.")] = None,
    seed: Seed = None,
    kubeconfig: Kubeconfig = None, context: KubeContext = None,
    theta: Annotated[float, typer.Option(
        "--theta", min=0, max=1, metavar="SHARE", envvar="INFERNO_LOAD_THETA",
        help="Share of the way back to the nominal load in a step.")] = 0.2,
    alpha: Annotated[float, typer.Option(
        "--alpha", min=0, max=1, metavar="SHARE", envvar="INFERNO_LOAD_ALPHA",
        help="Standard deviation of a step, as a share of the nominal load.")] = 0.1,
    skew: Annotated[float, typer.Option(
        "--skew", min=0, max=1, metavar="SHARE", envvar="INFERNO_LOAD_SKEW",
        help="How unevenly pods share the load, from equal (0) to random (1).")] = 0.3,
) -> int:
    """Change the load labels of managed Deployments as Inferno's load emulator does.

    Rate and tokens walk around the nominal values that the labels inferno.server.load.nominal
    state. Pods that carry Inferno's labels get their shares.
    """
    import asyncio
    from time import monotonic

    import numpy as np

    from penstock.cli.console import note
    from penstock.published.inferno.cluster.emulator import LoadEmulator
    from penstock.published.inferno.cluster.phases import read_phases
    from penstock.published.inferno.emulated_load import Walk
    from penstock.serving.kubernetes.api import open_cluster

    read = () if phases is None else read_phases(phases)
    cluster = open_cluster(kubeconfig, context, namespace)

    async def run() -> None:
        emulator = LoadEmulator(cluster, np.random.default_rng(seed), Walk(theta, alpha, skew),
                                read, monotonic, note)
        try:
            await emulator.run(interval_s, num_steps)
        finally:
            await cluster.close()

    asyncio.run(run())
    return OK


def _one_of(option: str, word: str, valid: tuple[Any, ...]) -> Any:
    if word not in valid:
        raise InputError(f"{option} {word[:60]!r}{nearest(word[:60], valid)}")
    return word
