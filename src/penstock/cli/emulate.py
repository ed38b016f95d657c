"""``penstock emulate``: a fleet of engines that answer over HTTP, without a GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.command import App
from penstock.cli.exits import OK
from penstock.cli.fleets import read_fleet
from penstock.cli.options import (
    AsJson,
    DataDir,
    Everything,
    FleetFile,
    Host,
    JournalDir,
    Port,
    Seed,
    Settings,
    WhichReplica,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.engines.emulated.cluster import EmulatedCluster, EmulatorOptions
    from penstock.fleet.values import Fleet

app = App()
_PATIENCE_S = 5.0


@app.command(epilog="Example: penstock emulate examples/quickstart.yaml --set "
                    "'replicas=[{count: 2}]' --port 8001", words={
    "--all": "Serve every replica, as without this option."})
def emulate(
    fleet_file: FleetFile, host: Host = "127.0.0.1", port: Port = 8001,
    speed: Annotated[float, typer.Option(
        "--speed", min=1e-3, max=1e6, metavar="X",
        help="Engine time per real time: with 10, steps are ten times as fast.")] = 1.0,
    replica: WhichReplica = None, settings: Settings = None, data_dir: DataDir = None,
    every: Everything = False,
    seed: Seed = None, journal: JournalDir = None,
    kv_events: Annotated[int | None, typer.Option(
        "--kv-events", min=0, max=65_534, metavar="PORT", show_default=False,
        help="Publish the events of the replicas' KV caches as vLLM does: the first replica on "
             "this port and their replay on the next, the others on the following ones; 0 takes "
             "free ports. Needs engine.prefix_caching.")] = None,
    as_json: AsJson = False,
) -> int:
    """Serve a fleet's replicas over HTTP, with a step-time model instead of a GPU, until
    interrupted.

    Each replica is an engine with its own port, OpenAI's API (completions and chat, streamed or
    not) and vLLM's /metrics. Prints one line per replica when all replicas listen: name, URL,
    model, accelerator.
    """
    import asyncio

    from penstock.engines.emulated.cluster import EmulatorOptions

    if every and replica is not None:
        raise InputError(f"--all and --replica {replica} exclude each other; give one of them")
    fleet = read_fleet(fleet_file, settings, data_dir, seed)
    if journal is not None:
        _prepare(journal, fleet)
    if kv_events is not None and not fleet.engine.prefix_caching:
        raise InputError("--kv-events: the replicas cache no prefixes, so there are no events; "
                         "expected engine.prefix_caching: true")
    options = EmulatorOptions(host, port, None if replica is None else (replica,), speed,
                              fleet.run.seed, journal, kv_events)
    asyncio.run(_serve(fleet, options, as_json=as_json))
    return OK


def _prepare(folder: Path, fleet: "Fleet") -> None:
    """A folder from which ``penstock lab replay`` can start."""
    from penstock.fleet.write import to_yaml

    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"--journal {folder}: holds files already; expected a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.yaml").write_text(to_yaml(fleet), encoding="utf-8")


async def _serve(fleet: "Fleet", options: "EmulatorOptions", *, as_json: bool) -> None:
    import asyncio
    import sys

    from penstock.cli.console import note
    from penstock.engines.emulated.cluster import emulated_cluster
    from penstock.engines.http import stop_signal

    stopped = stop_signal()
    async with emulated_cluster(fleet, options, note) as cluster:
        _show(cluster, as_json=as_json)
        sys.stdout.flush()
        failing = asyncio.create_task(cluster.watch())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((failing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            failing.result()
        failing.cancel()
        await cluster.drain(_PATIENCE_S)


def _show(cluster: "EmulatedCluster", *, as_json: bool) -> None:
    from penstock.cli.console import print_json

    rows = [(one.name, one.url, one.group.model.name, one.group.accelerator.name,
             *(() if one.kv_sockets is None else one.kv_sockets[:2])) for one in cluster.replicas]
    if as_json:
        keys = ("name", "url", "model", "accelerator", "kv_events", "kv_replay")[:len(rows[0])]
        print_json({"replicas": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    for row in rows:
        typer.echo(" ".join(row))
