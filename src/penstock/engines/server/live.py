"""The live requests of an engine that Penstock schedules: submission, tokens, cancellation."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from penstock.core.decision import Accept, Reject
from penstock.core.request import Request
from penstock.core.step import StepPlan
from penstock.engines.server.stream import RefusedError, Token, TokenStream

if TYPE_CHECKING:
    from penstock.engines.server.metrics import EngineMetrics


@dataclass(slots=True, kw_only=True)
class LiveRequest:
    """A live request. Times are in engine time, -1 for not yet."""

    request: Request
    stream: TokenStream
    num_tokens: int = 0
    first_scheduled_s: float = -1.0
    last_token_s: float = -1.0


Live = TypeVar("Live", bound=LiveRequest)


class Call(NamedTuple, Generic[Live]):
    """A client's call at a time: it submitted a request, or (``live`` None) cancelled it."""

    moment_ps: int
    request_id: int
    live: Live | None


class LiveRequests(ABC, Generic[Live]):
    """The clients' side of an engine. The engine processes calls when it can, and returns
    tokens."""

    def __init__(self, metrics: "EngineMetrics | None" = None) -> None:
        self._metrics = metrics
        self._calls: deque[Call[Live]] = deque()
        self._live: dict[int, Live] = {}
        self._woken = asyncio.Event()
        self._closed: str | None = None

    # -- implemented by engines -----------------------------------------------------------------

    @abstractmethod
    def _now_ps(self) -> int:
        """Return the present engine time."""

    @abstractmethod
    def _add(self, live: Live, now_ps: int) -> Accept | Reject:
        """Offer a request to the scheduler."""

    @abstractmethod
    def _abort(self, request_id: int, now_ps: int) -> None:
        """Abort a request in the scheduler."""

    # -- calls of clients -----------------------------------------------------------------------

    @property
    def num_live(self) -> int:
        """Number of submitted requests that have neither ended nor been refused."""
        return len(self._live) + sum(call.live is not None for call in self._calls)

    async def _submit(self, live: Live, now_ps: int) -> TokenStream:
        """Submit a request and return its stream once it is accepted. Raises RefusedError."""
        if self._closed is not None:
            raise RefusedError(self._closed)
        self._call(Call(now_ps, live.request.request_id, live))
        try:
            await live.stream.accepted()
        except asyncio.CancelledError:
            self.cancel(live.request.request_id)
            raise
        return live.stream

    def cancel(self, request_id: int) -> None:
        """Cancel a request and free its KV cache. Does nothing if it has already ended."""
        if request_id in self._live or any(call.request_id == request_id for call in self._calls):
            self._call(Call(self._now_ps(), request_id, None))

    def _call(self, call: Call[Live]) -> None:
        self._calls.append(call)
        self._woken.set()

    def close(self, reason: str) -> None:
        """Refuse all requests in progress and all new ones."""
        self._closed = reason
        waiting = [call.live for call in self._calls if call.live is not None]
        for live in [*self._live.values(), *waiting]:
            live.stream.refuse(reason)
        self._calls.clear()

    # -- outcomes -------------------------------------------------------------------------------

    def _hear(self, call: Call[Live]) -> None:
        if call.live is None:
            if call.request_id in self._live:
                self._abort(call.request_id, call.moment_ps)
                self._refuse(call.request_id, "the request was cancelled", "abort")
            return
        answer = self._add(call.live, call.moment_ps)
        if isinstance(answer, Reject):
            call.live.stream.refuse(answer.reason, final=True)
            return
        self._live[call.request_id] = call.live
        call.live.stream.accept()

    def _planned(self, plan: StepPlan, now_s: float) -> None:
        """Record the requests that are computed for the first time."""
        for chunk in plan.chunks:
            live = self._live[chunk.request_id]
            if live.first_scheduled_s < 0:
                live.first_scheduled_s = now_s

    def _preempted(self, preempted: Sequence[int]) -> None:
        if preempted and self._metrics:
            self._metrics.preempted(len(preempted))

    def _refuse(self, request_id: int, reason: str, ended: str) -> None:
        """End a request without its last token."""
        self._live.pop(request_id).stream.refuse(reason)
        if self._metrics:
            self._metrics.ended(ended)

    def _give(self, live: Live, reason: str | None, now_s: float, token_id: int = -1) -> None:
        """Give a request its next token. With a ``reason`` it is the last one."""
        live.num_tokens += 1
        live.stream.put(Token(live.num_tokens - 1, now_s, reason, token_id))
        if self._metrics:
            _count(self._metrics, live, reason, now_s)
        live.last_token_s = now_s
        if reason is not None:
            del self._live[live.request.request_id]


def _count(metrics: "EngineMetrics", live: LiveRequest, reason: str | None, now_s: float) -> None:
    arrival_s = live.request.arrival_s
    if live.num_tokens == 1:
        metrics.first_token(live.request.prompt_tokens, now_s - arrival_s,
                            live.first_scheduled_s - arrival_s)
    else:
        metrics.next_token(now_s - live.last_token_s)
    if reason is not None:
        metrics.ended(reason, now_s - arrival_s)
