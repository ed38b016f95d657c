"""One stream of a gateway: one HTTP request with its answer, as a state machine.

A stream takes the messages of the gateway in order and returns the replies. The reply to the
request's headers waits until the body is complete, since the choice depends on the body.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import orjson

from penstock.core.request import AUTO
from penstock.engines.discreet_log import trace_of
from penstock.engines.http_body import BodyError
from penstock.fleet.values_gateway import Tenant
from penstock.serving.endpoint_picker import messages
from penstock.serving.endpoint_picker.account import Account, Books
from penstock.serving.endpoint_picker.answer import AnswerBody
from penstock.serving.endpoint_picker.head import DEFAULT_FLOW, DROPPED, REQUEST_ID, Head
from penstock.serving.endpoint_picker.limits import PickerOptions
from penstock.serving.endpoint_picker.picker import NO_ENDPOINTS, SATURATED, Pick
from penstock.serving.endpoint_picker.pool_rules import NO_RULES, PoolRules
from penstock.serving.endpoint_picker.wishes import Wish, read_wish
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import ANYBODY, Offer, parse
from penstock.serving.overload import OverloadGuard

DECISION = "x-penstock-decision"
SERVED_RESULT = "x-conformance-test-served-endpoint"
SELECTED_RESULT = "x-conformance-test-selected-endpoint"
_ECHO = "x-echo-set-header"
_EVENT_STREAM = "text/event-stream"
_REASONS = {NO_ENDPOINTS: "rejected-no-endpoints",
            "adapter_unavailable": "rejected-no-endpoints", SATURATED: "rejected-saturated",
            "not_in_time": "rejected-saturated", "overloaded": "rejected-saturated"}


@dataclass(frozen=True, slots=True)
class StreamContext:
    """Shared by all streams. ``refused`` gives the reason not to admit a new stream, None to admit
    it; ``on_bug`` gets tracebacks."""

    books: Books
    offer: Callable[[], Offer]
    guard: OverloadGuard
    options: PickerOptions
    refused: Callable[[], ServiceError | None]
    on_bug: Callable[[str], None]
    tenant: Tenant = ANYBODY
    rules: Callable[[], PoolRules] = lambda: NO_RULES


class PickerStream:
    """The state of one stream. ``done`` once no further message counts."""

    def __init__(self, context: StreamContext) -> None:
        self.done = False
        self.account: Account | None = None
        self._context = context
        self._held = ExitStack()
        self._hold = self._held.enter_context(context.guard.body())
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._has_replied = False  # to the request's headers
        self._wish: Wish | None = None
        self._selected = ""
        self._decision_id = ""
        self._answer: AnswerBody | None = None

    async def take(self, message: Any) -> list[Any]:
        """Take the next message of the gateway and return the replies to it."""
        if self.done:
            return []
        kind = message.WhichOneof("request")
        try:
            return await self._replies(kind, message)
        except (ServiceError, BodyError) as error:
            return [self._refusal(error)]
        except Exception as error:
            self._context.on_bug(trace_of(error))
            if self._has_replied:  # the gateway must learn that this stream cannot go on
                raise
            return [self._refusal(ServiceError(
                500, f"this is a bug in Penstock ({type(error).__name__})", "bug"))]

    def close(self) -> None:
        """Release everything, whether the answer has ended or not."""
        self.done = True
        self._held.close()
        if self.account is not None:
            self.account.end(complete=False)

    async def _replies(self, kind: str | None, message: Any) -> list[Any]:
        if kind == "request_headers" and self._head is None:
            return self._on_request_headers(message)
        if self._head is None or kind == "request_headers":
            raise ServiceError(500, f"the gateway sent {kind} out of order", "protocol")
        if kind == "request_body":
            self._add(message.request_body.body)
            return await self._on_body_end(at_end=True) if message.request_body.end_of_stream \
                else []
        if kind == "request_trailers":
            replies = [] if self._has_replied else await self._on_body_end(at_end=False)
            return [*replies, messages.trailers(kind)]
        return self._on_answer(kind, message)

    def _on_answer(self, kind: str | None, message: Any) -> list[Any]:
        if kind == "response_headers":
            return self._on_response_headers(message)
        if kind == "response_body":
            body = message.response_body
            return self._on_response_body(body.body, at_end=body.end_of_stream)
        if kind == "response_trailers":
            replies = messages.response_body(self._feed(b"", at_end=True), at_end=False)
            self._finish()
            return [*replies, messages.trailers(kind)]
        return []

    # -- the request ----------------------------------------------------------------------------

    def _on_request_headers(self, message: Any) -> list[Any]:
        if (refused := self._context.refused()) is not None:
            raise refused
        self._head = head = messages.head_of(message)
        if message.request_headers.end_of_stream:
            address = self._named(head) or self._context.books.picker.any_ready(head.subset)
            return [self._request_head(head, address, None)]
        for name, mode in messages.body_modes(message):
            raise ServiceError(500, f"{name}: the gateway is configured with {mode}; an endpoint "
                                    "picker needs FULL_DUPLEX_STREAMED", "protocol")
        self._context.guard.check_before_body(head.objective, self._context.tenant)
        if (head.content_bytes or 0) > self._context.options.max_body_bytes:
            raise self._too_large()
        return []

    def _add(self, piece: bytes) -> None:
        if self._has_replied:
            raise ServiceError(500, "the gateway sent a body after its end", "protocol")
        self._hold.add(len(piece))
        if self._hold.num_bytes > self._context.options.max_body_bytes:
            raise self._too_large()
        self._body.append(piece)

    async def _on_body_end(self, *, at_end: bool) -> list[Any]:
        """Choose, now that the body is complete, and pass it on."""
        assert self._head is not None, "a body comes after its head"
        head, body = self._head, b"".join(self._body)
        self._body.clear()
        if address := self._named(head):
            return [self._request_head(head, address, len(body)),
                    *messages.request_body(body, at_end=at_end)]
        pick, body = await self._pick(head, body)
        self.account = Account(pick, head.fairness_id, len(body), self._context.books)
        replies = [self._request_head(head, ",".join(pick.addresses), len(body)),
                   *messages.request_body(body, at_end=at_end)]
        self._held.close()  # the gateway has the body now
        return replies

    async def _pick(self, head: Head, body: bytes) -> tuple[Pick, bytes]:
        """Return the choice, and the body for the engine."""
        context, begun_s = self._context, self._context.books.clock()
        content = await parse(body, context.guard.turns)
        self._wish = wish = read_wish(content, head, context.offer(), context.rules())
        context.guard.check(wish.ask.service_class)
        pick = await context.books.picker.pick(wish, head.subset)
        self._decision_id = pick.decision.decision_id
        context.books.metrics.decision_s.observe(context.books.clock() - begun_s)
        if wish.is_changed or wish.ask.body["model"] != pick.model:
            body = orjson.dumps({**wish.ask.body, "model": pick.model})
        return pick, body

    def _named(self, head: Head) -> str:
        """Return the endpoint that a conformance test asks for, empty where it asks for none."""
        if not (self._context.options.conformance and head.selection):
            return ""
        return self._context.books.picker.selected(head.selection, head.subset)

    def _request_head(self, head: Head, endpoints: str, num_bytes: int | None) -> Any:
        self._has_replied, self._selected = True, endpoints
        more = {} if head.headers.get(REQUEST_ID) else {
            REQUEST_ID: self._decision_id or f"req-{token_hex(16)}"}
        if self._context.options.conformance:
            more[_ECHO] = f"{SELECTED_RESULT}:{endpoints}"
        return messages.request_head(endpoints, more, num_bytes)

    # -- the answer -----------------------------------------------------------------------------

    def _on_response_headers(self, message: Any) -> list[Any]:
        headers = messages.headers_of(message.response_headers)
        served, more = messages.served_of(message), {}
        if self._context.options.conformance:
            more[SERVED_RESULT] = served or "fail: the gateway does not tell"
            more[SELECTED_RESULT] = self._selected
        removed: tuple[str, ...] = ()
        if (account := self.account) is not None:
            more[DECISION] = self._decision_id
            streamed = headers.get("content-type", "").lower().startswith(_EVENT_STREAM)
            account.answered(_status(headers), served, streamed=streamed)
            self._answer = AnswerBody(
                account, _renamed(account.pick), streamed=streamed,
                is_packed=headers.get("content-encoding", "identity") != "identity")
            removed = ("content-length",) if self._answer.is_rewritten else ()
        if message.response_headers.end_of_stream:
            self._finish()
        return [messages.response_head(more, removed)]

    def _on_response_body(self, chunk: bytes, *, at_end: bool) -> list[Any]:
        passed = self._feed(chunk, at_end=at_end)
        if at_end:
            self._finish()
        return messages.response_body(passed, at_end=at_end)

    def _feed(self, chunk: bytes, *, at_end: bool) -> bytes:
        return chunk if self._answer is None else self._answer.feed(chunk, at_end=at_end)

    def _finish(self) -> None:
        if self.account is not None:
            self.account.end(complete=True)

    # -- errors ---------------------------------------------------------------------------------

    def _refusal(self, error: ServiceError | BodyError) -> Any:
        """Return the reply that ends the request, after which the stream is done."""
        if isinstance(error, BodyError):
            error = ServiceError(error.status, str(error), "body")
        self._count(error)
        self.close()
        headers: dict[str, str] = {name.lower(): value for name, value in error.headers.items()
                                   if name.lower() != "connection"}
        if (reason := _REASONS.get(error.code)) is not None:
            headers[DROPPED] = reason
        return messages.immediate(error.status, orjson.dumps(error.document()), headers,
                                  f"penstock: {error.code}")

    def _count(self, error: ServiceError) -> None:
        """Count a request that got no endpoint, by what is known of it."""
        wish, metrics = self._wish, self._context.books.metrics
        model, priority = ("", 0) if wish is None else (wish.ask.model or "", wish.priority)
        fairness_id = DEFAULT_FLOW if self._head is None else self._head.fairness_id
        metrics.error(metrics.flow(model, "", fairness_id, priority), str(error.status))

    def _too_large(self) -> ServiceError:
        most_mb = self._context.options.max_body_bytes / 2**20
        return ServiceError(413, f"body: larger than {most_mb:.3g} MB, the most that the endpoint "
                                 "picker takes (--max-body-mb)", "body")


def _status(headers: Mapping[str, str]) -> int:
    stated = headers.get(":status", "")
    return int(stated) if stated.isdecimal() else 502


def _renamed(pick: Pick) -> tuple[str, str] | None:
    """Return the engine's name of the model and the client's, None where the client may see the
    engine's: it is the same name, or the client has left the choice of the model."""
    name = pick.wish.model
    return None if name in (pick.model, AUTO) else (pick.model, name)
