"""What gateways say to an endpoint picker, in the published messages, and pickers to say it to."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.state import EngineFacts
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.endpoint_picker import external_processor as ext_proc
from penstock.serving.endpoint_picker.limits import PickerOptions
from penstock.serving.endpoint_picker.running import books_of
from penstock.serving.endpoint_picker.stream import PickerStream, StreamContext
from penstock.serving.gateway.engines import Engines
from penstock.serving.gateway.server import offer_of
from penstock.serving.overload import OverloadGuard, default_limits
from support.small_fleet import FLEET

MODEL = "llama-3-8b"
DESTINATION = "x-gateway-destination-endpoint"


def request_head(headers: Mapping[str, str] | None = None, *, at_end: bool = False,
                 subset: Any = None, path: str = "/v1/completions") -> Any:
    """The first message; ``subset`` is a list, a text, or any other value of the metadata."""
    message = ext_proc.ProcessingRequest()
    for name, value in {":method": "GET" if at_end else "POST", ":path": path,
                        **(headers or {})}.items():
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    message.request_headers.end_of_stream = at_end
    if subset is not None:
        space = message.metadata_context.filter_metadata["envoy.lb.subset_hint"]
        space.update({f"{DESTINATION}-subset": subset})
    return message


def request_body(body: bytes | Mapping[str, Any], *, at_end: bool = True) -> Any:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return ext_proc.ProcessingRequest(request_body=ext_proc.HttpBody(
        body=content, end_of_stream=at_end))


def trailers(kind: str) -> Any:
    return ext_proc.ProcessingRequest(**{kind: ext_proc.HttpTrailers()})


def response_head(status: int = 200, kind: str = "application/json", served: str | None = None,
                  *, at_end: bool = False, **headers: str) -> Any:
    message = ext_proc.ProcessingRequest()
    for name, value in {":status": str(status), "content-type": kind, **headers}.items():
        message.response_headers.headers.headers.add(key=name.replace("_", "-"),
                                                     raw_value=value.encode())
    message.response_headers.end_of_stream = at_end
    if served is not None:
        message.metadata_context.filter_metadata["envoy.lb"].update(
            {f"{DESTINATION}-served": served})
    return message


def response_body(body: bytes | Mapping[str, Any], *, at_end: bool = True) -> Any:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return ext_proc.ProcessingRequest(response_body=ext_proc.HttpBody(
        body=content, end_of_stream=at_end))


def set_headers(mutation: Any) -> dict[str, str]:
    return {one.header.key: one.header.raw_value.decode() for one in mutation.set_headers}


def head_mutation(reply: Any) -> dict[str, str]:
    """The headers that the reply to a request's headers sets."""
    assert reply.WhichOneof("response") == "request_headers", reply
    return set_headers(reply.request_headers.response.header_mutation)


def body_of(replies: Sequence[Any], kind: str) -> bytes:
    """The body that replies carry on."""
    return b"".join(getattr(one, kind).response.body_mutation.streamed_response.body
                    for one in replies if one.WhichOneof("response") == kind)


def address(number: int) -> str:
    return f"10.0.0.{number + 1}:8000"


class SmallPool:
    """A pool of engines that look idle, its picker, and a clock that stands still."""

    def __init__(self, count: int = 3, options: PickerOptions | None = None,
                 served_as: str | None = None, router: Any = None, seen: bool = True,
                 **overrides: Any) -> None:
        self.fleet = parse_fleet(FLEET, overrides={
            "accelerators": [{"name": "a100-80gb", "count": 64}],
            "replicas": [{"count": count,
                          "endpoints": [f"http://{address(n)}" for n in range(count)]}],
            **overrides})
        self.now_s = 100.0
        self.engines = Engines([
            EngineFacts(number, f"http://{address(number)}", MODEL, None, 100_000, 1.0,
                        served_as=served_as) for number in range(count)])
        if seen:
            for engine in self.engines:
                engine.observe(EngineLoad(0, 0, 0.0), self.now_s)
        self.options = options or PickerOptions()
        self.books = books_of(self.fleet, self.engines, router or LeastLoaded(), self.options,
                              lambda: self.now_s)
        offer = offer_of(self.fleet)
        self.guard = OverloadGuard(default_limits(2**40), lambda: offer.classes,
                                   lambda: self.now_s)
        self.bugs: list[str] = []
        self.refusal: Any = None
        self.context = StreamContext(self.books, lambda: offer, self.guard, self.options,
                                     lambda: self.refusal, self.bugs.append)

    def stream(self) -> PickerStream:
        return PickerStream(self.context)

    async def asked(self, body: bytes | Mapping[str, Any] | None = None,
                    headers: Mapping[str, str] | None = None,
                    subset: Any = None) -> tuple[PickerStream, list[Any]]:
        """A stream whose request is complete, and the replies so far."""
        stream = self.stream()
        replies = await stream.take(request_head(headers, subset=subset))
        if not stream.done:
            replies += await stream.take(request_body(
                {"model": MODEL, "prompt": "hello", "max_tokens": 8} if body is None else body))
        return stream, replies

    def num_in_flight(self) -> list[int]:
        return [len(engine.in_flight) for engine in self.engines]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.books.metrics.registry.get_sample_value(name, labels)
