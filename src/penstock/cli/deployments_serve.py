"""The server of a folder of deployments."""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.engines.tls import ServerTls

_SHUTDOWN_S = 2.0


def run_here(folder: Path, host: str, port: int, names: tuple[str, ...], queue: str,
             period_s: float, start_s: float, tls: "ServerTls | None") -> None:
    """Serve until interrupted. Raises InputError."""
    from penstock.engines.http import run_server
    from penstock.serving.deployments.requests import make_queue

    make_queue(queue)
    run_server(_serve(folder, host, port, names, queue, period_s, start_s, tls))


async def _serve(folder: Path, host: str, port: int, names: tuple[str, ...], queue: str,
                 period_s: float, start_s: float, tls: "ServerTls | None") -> None:
    import typer

    from penstock.cli.console import note
    from penstock.engines.beside import beside
    from penstock.engines.http import listening, stop_signal
    from penstock.serving.deployments.cluster import SERVER, announce
    from penstock.serving.deployments.opening import OpenOptions, opened, watch
    from penstock.serving.deployments.store import InUseError
    from penstock.serving.deployments.verbs import LocalDeployments
    from penstock.serving.planning.deployments import make_app

    try:
        async with opened(folder, OpenOptions(queue, start_s, lock_timeout_s=1.0), note) as control:
            stopped = stop_signal()
            app = make_app(LocalDeployments(control), host, note, names)
            async with listening(app, host, port, _SHUTDOWN_S, tls=tls) as url:
                announce(folder, url)
                typer.echo(f"deployments {url}")
                try:
                    async with beside(watch(control, period_s, note)):
                        await stopped.wait()
                finally:
                    (folder / SERVER).unlink(missing_ok=True)
    except InUseError:
        raise InputError(f"{folder}: another command or server has this folder open") from None
