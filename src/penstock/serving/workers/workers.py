"""Several worker processes of one server on one port, as the process that keeps them sees them.

Each worker is a server of its own, with an event loop, engines and a router of its own. The kernel
spreads connections over them (SO_REUSEPORT). Their load is common (``load_board``); what their
routers and forecasts have learned is not.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from penstock.core.errors import InputError
from penstock.serving.workers.load_board import LoadBoard
from penstock.serving.workers.place import WorkerPlace
from penstock.serving.workers.private import ERRORS, Client, Reply
from penstock.serving.workers.summed_metrics import summed

_PAUSE_S = 1.0  # before a worker that has ended starts again


@dataclass(slots=True)
class Worker:
    """One worker process, and its latest metrics."""

    place: WorkerPlace
    process: asyncio.subprocess.Process | None = None
    serves: bool = False
    metrics: str = ""


class Workers:
    """Starts workers, and starts one again that has ended. ``command(place)`` is a worker's
    command line; the worker prints a line once it serves."""

    def __init__(self, command: Callable[[WorkerPlace], Sequence[str]], folder: Path,
                 num_workers: int, client: Client, note: Callable[[str], None]) -> None:
        (folder / "workers").write_text(str(num_workers))
        self._command = command
        self._folder = folder
        self._client = client
        self._note = note
        self._board = LoadBoard(folder / "load", num_workers)
        self._workers = [Worker(WorkerPlace(number, folder)) for number in range(num_workers)]
        self._dead_metrics = ""
        self._stopping = asyncio.Event()
        self._serving = asyncio.Event()
        self._drained: set[str] = set()
        self.num_restarts = 0
        """How many workers were started again."""

    @property
    def serving(self) -> list[Worker]:
        """The workers that serve now."""
        return [] if self._stopping.is_set() else [one for one in self._workers if one.serves]

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that live."""
        return [one.process.pid for one in self._workers if one.process is not None]

    async def keep(self) -> None:
        """Keep every worker running, until ``stop``; where this is cancelled, kill them. Raises
        InputError where a worker ends by itself before all of them have served."""
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(self._keep(worker))
        except* InputError as found:
            raise found.exceptions[0] from None
        finally:
            self._board.close()

    async def all_serving(self) -> None:
        """Wait until every worker has served."""
        await self._serving.wait()

    def stop(self) -> None:
        """Let the workers drain and end, and with them ``keep``."""
        self._stopping.set()
        for worker in self._workers:
            if worker.process is not None:
                with suppress(ProcessLookupError):
                    worker.process.send_signal(signal.SIGTERM)

    def drain(self, url: str, *, draining: bool) -> None:
        """Keep for workers that start later that an engine is being drained, or no longer."""
        (self._drained.add if draining else self._drained.discard)(url)
        whole = self._folder / "drained.new"
        whole.write_bytes(orjson.dumps(sorted(self._drained)))
        whole.replace(self._folder / "drained")

    async def ask(self, method: str, path: str, body: bytes = b"") -> list[Reply]:
        """Ask every worker that serves, and return the answers of those that answer."""
        return [reply for _, reply in await self._ask(method, path, body)]

    async def first(self, path: str) -> Reply | None:
        """Return the answer of a worker that has what a path names, None where none has."""
        return next((reply for reply in await self.ask("GET", path) if reply.status == 200), None)

    async def look(self) -> None:
        """Keep the latest metrics of each worker: what a worker has counted must not vanish with
        the worker."""
        for worker, reply in await self._ask("GET", "/metrics"):
            if reply.status == 200:
                worker.metrics = reply.body.decode()

    def metrics(self) -> str:
        """Return the metrics of all workers, the ended ones included."""
        return summed((one.metrics for one in self._workers if one.metrics), [self._dead_metrics])

    async def _ask(self, method: str, path: str, body: bytes = b"") -> list[tuple[Worker, Reply]]:
        async def one(worker: Worker) -> list[tuple[Worker, Reply]]:
            with suppress(*ERRORS):
                return [(worker, await self._client.ask(worker.place.socket, method, path, body))]
            return []

        return [pair for found in await asyncio.gather(*map(one, self.serving)) for pair in found]

    async def _keep(self, worker: Worker) -> None:
        while not self._stopping.is_set():
            status = 0
            try:
                status = await self._run(worker)
                why = f"has ended with status {status}"
            except OSError as error:  # no memory for a further process, for example
                why = f"cannot start ({error})"
            has_given_up = status >= 0  # and was not killed
            if has_given_up and not self._serving.is_set() and not self._stopping.is_set():
                raise InputError(f"worker {worker.place.number} did not start; it has told why")
            self._ended(worker, why)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_S):
                    await self._stopping.wait()

    async def _run(self, worker: Worker) -> int:
        """Run a worker's process to its end, and return its status."""
        process = worker.process = await asyncio.create_subprocess_exec(
            *self._command(worker.place),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            start_new_session=True)  # this process handles Ctrl-C in its terminal
        assert process.stdin is not None, "a pipe"
        assert process.stdout is not None, "a pipe"
        try:
            if await process.stdout.readline():
                worker.serves = True
                if all(one.serves for one in self._workers):
                    self._serving.set()
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process.stdin.close()
            await process.stdout.read()

    def _ended(self, worker: Worker, why: str) -> None:
        worker.process, worker.serves = None, False
        if self._stopping.is_set():
            return
        self._board.clear(worker.place.number)
        self._dead_metrics = summed([], [self._dead_metrics, worker.metrics])
        worker.metrics = ""
        self.num_restarts += 1
        self._note(f"worker {worker.place.number} {why}, and starts again")
