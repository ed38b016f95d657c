"""Messages of Envoy's external processing: what a gateway says, and the replies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from penstock.serving.endpoint_picker import external_processor as ext_proc
from penstock.serving.endpoint_picker.head import DESTINATION, SERVED, SUBSET, Head, listed

MOST_PIECE_BYTES = 62_000
"""Most bytes of a body in one reply: gRPC's usual window of 64 KiB with room for the frame."""

_SUBSET_SPACE, _LB_SPACE = "envoy.lb.subset_hint", "envoy.lb"
_STREAMED = "FULL_DUPLEX_STREAMED"


def headers_of(headers: Any) -> dict[str, str]:
    """Return the headers of an ``HttpHeaders``, the first of several with one name."""
    found: dict[str, str] = {}
    for one in headers.headers.headers:
        found.setdefault(one.key, one.raw_value.decode("utf-8", "replace") or one.value)
    return found


def head_of(message: Any) -> Head:
    """Return the head of a message with request headers."""
    return Head(headers_of(message.request_headers), _subset(message.metadata_context))


def served_of(message: Any) -> str | None:
    """Return the ``ip:port`` that has served the request, None where the gateway does not tell."""
    value = _value(message.metadata_context, _LB_SPACE, SERVED)
    return (value.string_value or None) if value is not None else None


def body_modes(message: Any) -> Iterator[tuple[str, str]]:
    """Yield the modes of both bodies that the gateway states and that cannot carry an endpoint
    picker's replies. Older gateways state none."""
    if not message.HasField("protocol_config"):
        return
    config = message.protocol_config
    for name in ("request_body_mode", "response_body_mode"):
        mode = ext_proc.BODY_MODES.get(getattr(config, name), "another mode")
        if mode not in (_STREAMED, "NONE"):
            yield name, mode


def _subset(context: Any) -> frozenset[str] | None:
    value = _value(context, _SUBSET_SPACE, SUBSET)
    if value is None:
        return None
    if value.WhichOneof("kind") == "list_value":
        return frozenset(part for one in value.list_value.values
                         for part in listed(one.string_value))
    return frozenset(listed(value.string_value))  # any other kind names no endpoint


def _value(context: Any, space: str, key: str) -> Any:
    if space not in context.filter_metadata:  # indexing would create it
        return None
    return context.filter_metadata[space].fields.get(key)


# -- replies ----------------------------------------------------------------------------------


def request_head(endpoints: str, more: Mapping[str, str], num_bytes: int | None) -> Any:
    """Return the reply to the request's headers: the endpoints as header and as metadata.
    ``num_bytes`` is the body's length, None without a body."""
    reply = ext_proc.ProcessingResponse()
    common = reply.request_headers.response
    common.clear_route_cache = True
    length = {} if num_bytes is None else {"content-length": str(num_bytes)}
    _set(common.header_mutation, {DESTINATION: endpoints, **length, **more})
    space = reply.dynamic_metadata.fields[_LB_SPACE].struct_value
    space.fields[DESTINATION].string_value = endpoints
    return reply


def request_body(body: bytes, *, at_end: bool = True) -> list[Any]:
    """Return the replies that carry the request's body."""
    return [_piece("request_body", piece, at_end=at_end and is_last)
            for piece, is_last in pieces(body)]


def response_head(more: Mapping[str, str], removed: Sequence[str] = ()) -> Any:
    """Return the reply to the answer's headers."""
    reply = ext_proc.ProcessingResponse()
    mutation = reply.response_headers.response.header_mutation
    _set(mutation, more)
    mutation.remove_headers.extend(removed)
    return reply


def response_body(body: bytes, *, at_end: bool) -> list[Any]:
    """Return the replies that carry a part of the answer. The end has a reply in any case."""
    return [_piece("response_body", piece, at_end=at_end and is_last)
            for piece, is_last in pieces(body)] if body or at_end else []


def trailers(kind: str) -> Any:
    """Return the empty reply to ``request_trailers`` or ``response_trailers``."""
    reply = ext_proc.ProcessingResponse()
    getattr(reply, kind).SetInParent()
    return reply


def immediate(status: int, body: bytes, headers: Mapping[str, str], details: str) -> Any:
    """Return the reply that ends a request with an error."""
    reply = ext_proc.ProcessingResponse()
    found = reply.immediate_response
    found.status.code = status
    found.body = body
    found.details = details
    _set(found.headers, {"content-type": "application/json", **headers})
    return reply


def pieces(body: bytes) -> Iterable[tuple[bytes, bool]]:
    """Yield pieces of a body that fit into replies, each with whether it is the last."""
    last = max(0, len(body) - 1) // MOST_PIECE_BYTES
    for number in range(last + 1):
        start = number * MOST_PIECE_BYTES
        yield body[start:start + MOST_PIECE_BYTES], number == last


def _piece(kind: str, body: bytes, *, at_end: bool) -> Any:
    reply = ext_proc.ProcessingResponse()
    streamed = getattr(reply, kind).response.body_mutation.streamed_response
    streamed.body = body
    streamed.end_of_stream = at_end
    return reply


def _set(mutation: Any, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        one = mutation.set_headers.add()
        one.header.key = name
        one.header.raw_value = value.encode()
        # The default would append to a header that the client has sent.
        one.append_action = ext_proc.OVERWRITE_IF_EXISTS_OR_ADD
