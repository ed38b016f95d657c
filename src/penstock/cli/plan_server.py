"""``penstock lab plan-server``: planning over HTTP."""

from typing import Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.exposure import check_exposure
from penstock.cli.options import (
    AllowedHosts,
    Host,
    MaxBodyMb,
    OpenToAll,
    Port,
    TimeLimit,
    TlsCert,
    TlsClientCa,
    TlsKey,
)
from penstock.cli.tls import server_tls

app = App()
_SHUTDOWN_S = 5.0


@app.command(epilog="Example: penstock lab plan-server --port 8080", words={
    "--time-limit": "Longest time of a plan, seconds; callers may ask for less. (more than 0; "
                    "default: 120)"})
def plan_server(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    allowed_hosts: AllowedHosts = None,
    open_to_all: OpenToAll = False,
    max_body_mb: MaxBodyMb = 16,
    num_at_once: Annotated[int, typer.Option(
        "--plans", min=1, max=1024, metavar="N", help="Most concurrent plans of fleet files.")] = 2,
    num_waiting: Annotated[int, typer.Option(
        "--waiting", min=0, max=100_000, metavar="N",
        help="Most waiting plans; further requests get status 429.")] = 8,
    time_limit_s: TimeLimit = 120.0,
    memory_mb: Annotated[int, typer.Option(
        "--plan-memory-mb", min=256, max=1_000_000, metavar="N",
        help="Memory limit of a plan of a fleet file, in MB.")] = 4096,
) -> int:
    """Serve the planning API over HTTP until interrupted.

    /v1/plan takes a fleet file (JSON or YAML) and returns the output of `penstock plan --json`;
    /v1/queue/* analyses one replica. /optimizeOne, /solve, /target and /optimize behave like
    Inferno's programs. /docs lists all operations, /openapi.json is their machine-readable
    description.
    """
    import sys

    from penstock.cli.console import note
    from penstock.engines.http import listening, run_server, stop_signal
    from penstock.serving.planning.jobs import Limits
    from penstock.serving.planning.operations import OPERATIONS
    from penstock.serving.planning.server import make_app

    async def run() -> None:
        limits = Limits(num_at_once, num_waiting, time_limit_s, memory_mb)
        app = make_app(OPERATIONS, max_body_mb * 2**20, note, limits, host,
                       tuple(allowed_hosts or ()))
        stopped = stop_signal()
        async with listening(app, host, port, _SHUTDOWN_S, tls=tls) as url:
            note(f"listening on {url} (operations: /docs); Ctrl-C stops")
            sys.stderr.flush()
            await stopped.wait()

    check_exposure(host, tls_client_ca, open_to_all=open_to_all)
    tls = server_tls(tls_cert, tls_key, tls_client_ca)
    run_server(run())
    return OK
