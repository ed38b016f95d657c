"""The engine that computes the prompt of a request while another one answers."""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from penstock.engines.client.connectors import Meeting
from penstock.engines.client.state import EngineState
from penstock.serving.gateway.relay import RelayedStream
from penstock.serving.gateway.silence import SilenceWatch


class Partner:
    """An ``engine`` that was chosen for the prompt of a request, and its part once that has begun.
    The other engine gets the ``fields``, by which both meet.

    The other engine waits for the KV cache of this one. So a failure of this one ends the attempt
    of the other, as long as no token has come.
    """

    def __init__(self, engine: EngineState, meeting: Meeting, fields: Mapping[str, Any]) -> None:
        self.engine = engine
        self.meeting = meeting
        self.fields = fields
        self._task: asyncio.Task[Any] | None = None

    @property
    def is_done(self) -> bool:
        """Whether the engine has computed the prompt and sent the KV cache."""
        task = self._task
        return task is not None and task.done() and not task.cancelled() \
            and task.exception() is None

    @property
    def failure(self) -> BaseException | None:
        """The error with which the engine's part ended, None without one."""
        task = self._task
        return None if task is None or not task.done() or task.cancelled() else task.exception()

    def begin(self, part: Coroutine[Any, Any, Any]) -> None:
        """Begin the engine's part."""
        self._task = asyncio.create_task(part)

    async def leave(self) -> None:
        """End the engine's part, if it has not ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextmanager
    def followed(self, watch: SilenceWatch, passed: RelayedStream) -> Iterator[None]:
        """End the attempt under ``watch`` when this engine fails before a token has come."""
        def ended(_: "asyncio.Task[Any]") -> None:
            if self.failure is not None and not passed.num_tokens:
                watch.abandon()

        assert self._task is not None, "its part has begun"
        self._task.add_done_callback(ended)
        try:
            yield
        finally:
            self._task.remove_done_callback(ended)
