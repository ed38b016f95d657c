"""Engines as processes on this machine, queried over loopback HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from penstock.core.errors import InputError
from penstock.engines import process
from penstock.engines.client.client import (
    CHAT,
    COMPLETIONS,
    ClientTimeouts,
    EngineClient,
    client_session,
)
from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.commands import Command, check_runnable, command_of
from penstock.serving.deployments.deployments import Deployment, Instance
from penstock.serving.deployments.engines import EngineError, Reply

_LOOK_S = 0.1
_HEALTH_S = 5.0
_MOST_LOG_BYTES = 64 * 2**20


class ProcessEngines:
    """Starts the command of a deployment and identifies the process by its id and start time.

    An engine that does not answer within ``start_s`` has failed to start. ``command`` builds
    command lines; the default knows the kinds in ``commands.OPTIONS``.
    """

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, start_s: float = 600.0,
                 answer_s: float = 600.0,
                 command: Callable[[Cluster, Deployment, int], Command] = command_of) -> None:
        self._cluster = cluster
        self._session = session
        self._start_s = start_s
        self._answer_s = answer_s
        self._command = command

    async def start(self, one: Deployment, begun: Callable[[Instance], None]) -> None:
        check_runnable(one)
        port = process.free_port()
        command = self._command(self._cluster, one, port)
        path = self._cluster.log_file(one.name)
        if path.exists() and path.stat().st_size > _MOST_LOG_BYTES:
            path.replace(path.with_suffix(".old.log"))
        with path.open("ab") as log:
            gated = process.begin(command.argv, process.environment(command.environment), log,
                                  self._cluster.run_folder(one.name))
        instance = Instance(f"http://127.0.0.1:{port}", gated.pid,
                            process.started_mark(gated.pid), str(path), command.served_as)
        try:
            begun(instance)
        except BaseException:
            gated.shut()
            raise
        gated.open()
        await self._until_healthy(instance)

    def is_alive(self, instance: Instance) -> bool:
        return process.is_same(instance.pid, instance.started)

    async def is_healthy(self, one: Deployment) -> bool:
        if one.instance is None or not self.is_alive(one.instance):
            return False
        return await self._answers(one.instance)

    async def ask(self, one: Deployment, request: Mapping[str, Any]) -> Reply:
        assert one.instance is not None
        client = EngineClient(self._session, one.instance.url,
                              ClientTimeouts(total_s=self._answer_s))
        body = {**request, "model": one.instance.served_as, "stream": False}
        answer = await client.ask(body, CHAT if "messages" in request else COMPLETIONS)
        if not answer.finished:
            raise EngineError(f"{answer.outcome}: {answer.reason}")
        return Reply(answer.text, answer.ended_s - answer.sent_s, answer.prompt_tokens,
                     answer.output_tokens, answer.finish_reason)

    async def stop(self, instance: Instance, grace_s: float) -> None:
        await process.end(instance.pid, instance.started, grace_s)

    async def _until_healthy(self, instance: Instance) -> None:
        until_s = time.monotonic() + self._start_s
        while not await self._answers(instance):
            if not self.is_alive(instance):
                raise EngineError("it ended while it started"
                                  f"{process.last_words(Path(instance.log))}")
            if time.monotonic() > until_s:
                raise EngineError(f"it did not answer within {self._start_s:g} s"
                                  f"{process.last_words(Path(instance.log))}")
            await asyncio.sleep(_LOOK_S)

    async def _answers(self, instance: Instance) -> bool:
        """Whether the instance is healthy and still this instance: another server may have taken
        its port."""
        try:
            async with asyncio.timeout(_HEALTH_S):
                async with self._session.get(f"{instance.url}/health") as response:
                    if response.status != 200:
                        return False
                cards = await EngineClient(self._session, instance.url).models()
        except (aiohttp.ClientError, TimeoutError, OSError, InputError):
            return False
        return any(card.name == instance.served_as for card in cards)


@asynccontextmanager
async def process_engines(cluster: Cluster, **options: Any) -> AsyncIterator[ProcessEngines]:
    """Yield engines as processes. The processes keep running after the context ends."""
    async with client_session() as session:
        yield ProcessEngines(cluster, session, **options)
