"""Several processes of one server: its command again, once for each."""

import asyncio
import sys

from penstock.serving.workers.place import WorkerPlace


def worker_command(place: WorkerPlace, port: int, *more: str) -> list[str]:
    """Return this process's command line for a worker on a port. Of an option that is given twice,
    the last counts."""
    return [sys.executable, "-P", "-m", "penstock", *sys.argv[1:], "--port", str(port), *more,
            "--worker", str(place)]


def worker_serves(stopped: asyncio.Event) -> None:
    """Tell the keeper that this worker serves, and stop when the keeper ends, however that comes:
    its end closes the pipe."""
    sys.stdout.write("serves\n")
    sys.stdout.flush()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopped.set)
