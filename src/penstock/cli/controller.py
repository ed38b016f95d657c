"""``penstock controller``: fleets on a Kubernetes cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.options import Host, Kubeconfig, KubeContext, KubeNamespace, Port

if TYPE_CHECKING:
    from penstock.serving.kubernetes.api import Cluster

app = App()
_SHUTDOWN_S = 2.0


@app.command(epilog="Example: penstock controller --namespace inference --records records")
def controller(
    kubeconfig: Kubeconfig = None, context: KubeContext = None,
    namespace: KubeNamespace = None,
    records: Annotated[Path, typer.Option(
        "--records", metavar="DIR",
        help="Folder of the records of decisions, which `penstock lab replay` reads.")] =
    Path("penstock-records"),
    host: Host = "127.0.0.1", port: Port = 8080,
    external_scaler_port: Annotated[int | None, typer.Option(
        "--external-scaler-port", min=0, max=65535, metavar="PORT", show_default=False,
        help="Port of KEDA's external scaler (gRPC); default: there is none.")] = None,
    identity: Annotated[str | None, typer.Option(
        "--identity", metavar="NAME", show_default=False,
        help="Name in the Lease that chooses one of several controllers; default: the host's "
             "name and a random number.")] = None,
    crds: Annotated[bool, typer.Option(
        "--crds", help="Print the custom resource definitions as YAML and leave.")] = False,
) -> int:
    """Keep the fleets of a Kubernetes cluster as their files and policies want them.

    A Fleet object's spec is a fleet file with the section kubernetes. Penstock plans its groups
    where the file states none, and creates their Deployments or LeaderWorkerSets, or adopts those
    that exist; the fleet's scale policy decides how many replicas there are. `kubectl get fleets`
    shows what was decided. /metrics has Penstock's number for your HPA or KEDA. Needs the extra
    kubernetes. For Deployments with Inferno's labels there is `penstock lab inferno control`.
    """
    import os
    import socket

    from penstock.engines.http import run_server

    if crds:
        return _print_crds()
    from penstock.serving.kubernetes.api import open_cluster

    cluster = open_cluster(kubeconfig, context, namespace)
    name = identity or f"{socket.gethostname()}-{os.urandom(3).hex()}"
    run_server(_control(cluster, name, records, host, port, external_scaler_port))
    return OK


def _print_crds() -> int:
    import sys

    import yaml

    from penstock.serving.kubernetes.crd import definitions

    yaml.safe_dump_all(definitions(), sys.stdout, sort_keys=False, width=100)
    return OK


async def _control(cluster: "Cluster", identity: str, records: Path, host: str, port: int,
                   scaler_port: int | None) -> None:
    import asyncio
    import time
    from contextlib import AsyncExitStack

    import aiohttp

    from penstock.cli.console import note
    from penstock.engines.http import listening, stop_signal
    from penstock.serving.kubernetes.controller import Controller
    from penstock.serving.kubernetes.election import Election
    from penstock.serving.kubernetes.keda import ExternalScaler, serving
    from penstock.serving.kubernetes.metrics import ControllerMetrics
    from penstock.serving.kubernetes.server import make_app

    stopped, metrics = stop_signal(), ControllerMetrics()
    async with aiohttp.ClientSession() as session:
        election = Election(cluster, cluster.own_namespace, identity, time.monotonic, note)
        kept = Controller(cluster, election, session, records, metrics, note)
        async with AsyncExitStack() as servers:
            url = await servers.enter_async_context(listening(
                make_app(kept, metrics, host, note), host, port, _SHUTDOWN_S))
            note(f"controller {identity} listens on {url}")
            if scaler_port is not None:
                address = await servers.enter_async_context(serving(
                    ExternalScaler(kept.wanted), host, scaler_port))
                note(f"external scaler listens on {address}")
            task = asyncio.create_task(kept.run())
            ended = asyncio.create_task(stopped.wait())
            await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
            for one in (task, ended):
                one.cancel()
            await asyncio.gather(ended, return_exceptions=True)
            try:
                await task
            except asyncio.CancelledError:
                pass
            finally:
                await cluster.close()
