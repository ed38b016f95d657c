"""``penstock serve``: a gateway before a fleet's engines."""

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.exits import OK
from penstock.cli.options import AsJson, DataDir, FleetFile, Seed, Settings, read_fleet
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet
    from penstock.gateway.proxy import Limits

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: penstock serve gateway.yaml --port 8000")
def serve(
    fleet_file: FleetFile, settings: Settings = None, data_dir: DataDir = None,
    host: Annotated[str, typer.Option(
        "--host", metavar="ADDRESS",
        help="Address to listen on; beyond the loopback anybody may ask, without a key.",
    )] = "127.0.0.1",
    port: Annotated[int, typer.Option(
        "--port", min=0, max=65535, metavar="N", help="Port; 0 takes a free one.")] = 8000,
    max_in_flight: Annotated[int, typer.Option(
        "--max-in-flight", min=1, max=1_000_000, metavar="N",
        help="Most requests on engines at once; who comes later is told to come back.")] = 4096,
    attempts: Annotated[int, typer.Option(
        "--attempts", min=1, max=100, metavar="N",
        help="Most engines that are tried for a request before its first byte.")] = 3,
    seed: Seed = None, as_json: AsJson = False,
) -> int:
    """Answer OpenAI's API over the engines of a fleet file until interrupted.

    Engines are the `endpoints` of `replicas`. Each request goes to the engine that the fleet's
    routing policy chooses, streamed as it comes; /v1/penstock/decisions/ID says why, ID being the
    answer's header X-Penstock-Decision. /metrics is for Prometheus. The header X-Penstock-Class
    names a request's service class; left out, the fleet's first.
    """
    try:
        from penstock.engine.http import run_server
        from penstock.gateway.proxy import Limits
    except ImportError as error:
        raise InputError("serve needs aiohttp and prometheus-client, which the extra 'serve' "
                         "brings: pip install 'penstock[serve]'") from error
    fleet = read_fleet(fleet_file, settings, data_dir, seed)
    if not any(group.endpoints for group in fleet.replicas):
        raise InputError(f"{fleet_file}: replicas: none has endpoints, so there is no engine to "
                         "serve with; expected for example endpoints: [http://127.0.0.1:8001]")
    run_server(_serve(fleet, host, port, Limits(max_in_flight, attempts), as_json=as_json))
    return OK


async def _serve(fleet: "Fleet", host: str, port: int, limits: "Limits", *,
                 as_json: bool) -> None:
    import gc
    import sys
    from time import monotonic

    import numpy as np

    from penstock.cli.console import note, print_json
    from penstock.engine.http import stop_signal
    from penstock.engine.parts import replica_facts
    from penstock.gateway.server import running
    from penstock.policy.route.build import make_router

    rng = np.random.default_rng(fleet.run.seed)
    route = fleet.policies.route
    router = make_router(route.name, route.options, replica_facts(fleet),
                         lambda n: int(rng.integers(n)))
    stopped = stop_signal()
    # What is there now stays; looking through it again and again would cost a tenth of the speed.
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    async with running(fleet, router, host, port, limits=limits, on_bug=note) as (url, engines):
        for engine in engines:
            if reason := engine.unavailable(monotonic()):
                note(f"engine {engine.facts.url} {reason}")
        if as_json:
            print_json({"url": url, "engines": [engine.facts.url for engine in engines]})
        else:
            sys.stdout.write(f"gateway {url}\n")
        sys.stdout.flush()
        await stopped.wait()
