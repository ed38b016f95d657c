"""``penstock endpoint-picker``: chooses the replica of each request for a gateway."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.exposure import check_exposure
from penstock.cli.fleets import read_fleet
from penstock.cli.options import (
    AllowedHosts,
    AsJson,
    DataDir,
    FleetFile,
    Host,
    Kubeconfig,
    KubeContext,
    KubeNamespace,
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
    from penstock.serving.endpoint_picker.limits import PickerOptions
    from penstock.serving.endpoint_picker.running import Places
    from penstock.serving.kubernetes.api import Cluster
    from penstock.serving.kubernetes.objects import Ref

app = App()


@app.command(epilog="Example: penstock endpoint-picker gateway.yaml --port 9002")
def endpoint_picker(
    fleet_file: FleetFile, host: Host = "127.0.0.1", port: Port = 9002,
    metrics_port: Annotated[int, typer.Option(
        "--metrics-port", min=0, max=65535, metavar="N",
        help="Port of /health, /ready and /metrics (HTTP); 0 takes a free port.")] = 9090,
    open_to_all: OpenToAll = False,
    tls_cert: TlsCert = None, tls_key: TlsKey = None, tls_client_ca: TlsClientCa = None,
    tls_self_signed: Annotated[bool, typer.Option(
        "--tls-self-signed", help="Speak TLS with a certificate made at the start, which gateways "
                                  "must not verify.")] = False,
    settings: Settings = None, allowed_hosts: AllowedHosts = None, data_dir: DataDir = None,
    fallbacks: Annotated[int, typer.Option(
        "--fallbacks", min=0, max=16, metavar="N",
        help="Name this many further endpoints, for gateways that try them in order; Envoy's "
             "ORIGINAL_DST clusters take one address alone.")] = 0,
    max_streams: Annotated[int, typer.Option(
        "--max-streams", min=1, max=1_000_000, metavar="N",
        help="Most open requests; others get status 429.")] = 10_000,
    max_body_mb: MaxBodyMb = 16,
    workers: Workers = 1, worker: WorkerOf = None,
    drain_s: Annotated[float, typer.Option(
        "--drain-s", min=0.0, max=3600.0, metavar="S",
        help="Time for open requests to end after SIGTERM, seconds.")] = 30.0,
    conformance: Annotated[bool, typer.Option(
        "--conformance", help="For conformance tests only: any client may name its endpoint "
                              "(test-epp-endpoint-selection), and answers tell who served "
                              "them.")] = False,
    pods: Annotated[bool, typer.Option(
        "--pods", help="The endpoints are the ready pods of the groups' workloads on a cluster "
                       "(replicas[].kubernetes).")] = False,
    pool: Annotated[str | None, typer.Option(
        "--pool", metavar="NAMESPACE/NAME", show_default=False,
        help="The endpoints are the ready pods of this InferencePool, with the InferenceObjectives "
             "and InferenceModelRewrites that refer to the pool.")] = None,
    kubeconfig: Kubeconfig = None, context: KubeContext = None,
    namespace: KubeNamespace = None,
    seed: Seed = None, as_json: AsJson = False,
) -> int:
    """Choose the replica of each request for Envoy, Istio or another gateway, until interrupted.

    The gateway carries the bytes and asks over gRPC (external processing, endpoint picker protocol
    of the Gateway API inference extension). The endpoints are the `endpoints` of `replicas`, each
    an IP address with a port, or with --pods or --pool the pods of a cluster; the fleet's routing
    policy chooses. The header x-llm-d-inference-objective names a service class. /metrics and
    /ready have a port of their own. The file is read again when it changes, or on SIGHUP; with
    --pods or --pool it is not. Needs the extra 'kubernetes'.
    """
    from penstock.engines.http import run_server
    from penstock.serving.endpoint_picker.requirements import check_packages

    check_packages()
    from penstock.serving.endpoint_picker.limits import PickerOptions
    from penstock.serving.endpoint_picker.running import Places

    if tls_self_signed and (tls_cert or tls_key or tls_client_ca):
        raise InputError("--tls-self-signed: expected no other option of TLS beside it")
    if pods and pool is not None:
        raise InputError("--pods, --pool: expected one of the two")
    tls = server_tls(tls_cert, tls_key, tls_client_ca)
    check_exposure(host, tls_client_ca, open_to_all=open_to_all)
    places = Places(host, port, metrics_port, tuple(allowed_hosts or ()))
    if worker is None and workers > 1:
        run_server(_keep(workers, places, drain_s, as_json=as_json))
        return OK
    fleet = read_fleet(fleet_file, settings, data_dir, seed)
    cluster, ref = None, None
    if pods or pool is not None:
        from penstock.serving.endpoint_picker.pods import check_pods, pool_ref
        from penstock.serving.kubernetes.api import open_cluster

        if pool is None:
            check_pods(fleet)
        else:
            ref = pool_ref(pool, fleet, namespace)
            namespace = ref.namespace or namespace
        cluster = open_cluster(kubeconfig, context, namespace)
    elif not any(group.endpoints for group in fleet.replicas):
        raise InputError(f"{fleet_file}: replicas: none has endpoints, so there is nothing to "
                         "choose from; expected for example endpoints: [http://10.0.0.1:8000]")
    options = PickerOptions(max_streams, max_body_mb * 2**20, None, fallbacks, drain_s, conformance)
    run_server(_serve(fleet, lambda: read_fleet(fleet_file, settings, data_dir, seed), fleet_file,
                      places, options, tls, cluster, ref, worker,
                      self_signed=tls_self_signed, as_json=as_json))
    return OK


async def _serve(fleet: "Fleet", read: "Callable[[], Fleet]", path: Path, places: "Places",
                 options: "PickerOptions", tls: "ServerTls | None", cluster: "Cluster | None",
                 pool: "Ref | None", worker: str | None, *, self_signed: bool,
                 as_json: bool) -> None:
    import gc
    from contextlib import AsyncExitStack

    import numpy as np

    from penstock.cli.announce import announce, note_unavailable
    from penstock.cli.console import note
    from penstock.cli.workers import worker_serves
    from penstock.engines.http import stop_signal
    from penstock.fleet.replica_factory import dispatch_of
    from penstock.policy.route.live_index import LiveIndex
    from penstock.serving.endpoint_picker.pods import pod_endpoints
    from penstock.serving.endpoint_picker.pool_rules import NO_RULES
    from penstock.serving.endpoint_picker.running import running_picker
    from penstock.serving.gateway.reload import Reload
    from penstock.serving.workers.place import WorkerPlace

    own = None if worker is None else WorkerPlace.of(worker)
    # Workers must not draw the same numbers, and so choose the same endpoints at a time.
    rng = np.random.default_rng(fleet.run.seed if own is None else [fleet.run.seed, own.number])

    live = LiveIndex()

    def router_of(fleet: "Fleet") -> "Router":
        return dispatch_of(fleet, lambda n: int(rng.integers(n)), lambda _: 0.0, live=live)

    stopped = stop_signal()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    credentials = _credentials(tls, self_signed=self_signed)
    async with AsyncExitStack() as stack:
        pods = None if cluster is None else await stack.enter_async_context(
            pod_endpoints(fleet, cluster, note, pool))
        fleet = fleet if pods is None else pods.fleet
        # A file's change of endpoints is followed; pods change by themselves.
        reload = Reload(path, read, router_of) if pods is None else None
        running = await stack.enter_async_context(running_picker(
            fleet, router_of(fleet), places, options, credentials=credentials, endpoints=pods,
            rules=(lambda: NO_RULES) if pods is None else pods.rules, reload=reload,
            worker=own, live=live, on_bug=note))
        if own is None:
            note_unavailable(running.engines)
            announce({"address": running.address, "url": running.url,
                      "engines": [engine.facts.url for engine in running.engines]},
                     f"endpoint-picker {running.address} {running.url}", as_json=as_json)
        else:
            worker_serves(stopped)
        await stopped.wait()


async def _keep(num_workers: int, places: "Places", drain_s: float, *, as_json: bool) -> None:
    """Keep workers running: this command again, once for each."""
    from penstock.cli.announce import announce
    from penstock.cli.console import note
    from penstock.cli.workers import worker_command
    from penstock.engines.http import stop_signal
    from penstock.serving.endpoint_picker.running_workers import running_workers

    stopped = stop_signal()
    async with running_workers(worker_command, num_workers, places, drain_s, note) as running:
        announce({"address": running.address, "url": running.url,
                  "workers": running.workers.pids},
                 f"endpoint-picker {running.address} {running.url}", as_json=as_json)
        await stopped.wait()


def _credentials(tls: "ServerTls | None", *, self_signed: bool) -> Any:
    from penstock.serving.endpoint_picker.credentials import (
        file_credentials,
        self_signed_credentials,
    )
    if self_signed:
        return self_signed_credentials()
    return None if tls is None else file_credentials(tls)
