"""Traces of requests by OpenTelemetry (extra ``otel``); without the extra, no traces.

A request is one span, with one span for each choice of an engine and one for each attempt. W3C's
trace context (https://www.w3.org/TR/trace-context/) is passed from the client to the engine, also
where nothing is traced here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from penstock.core.errors import missing_extra

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_CONTEXT = ("traceparent", "tracestate")


class Trace(Protocol):
    """Trace of one request."""

    def choosing(self) -> None:
        """An engine is being chosen."""

    def chosen(self, url: str | None, terms: Mapping[str, float]) -> None:
        """An engine was chosen, or none."""

    def attempt(self, url: str) -> Mapping[str, str]:
        """A request goes to an engine. Returns the headers that carry the trace context."""

    def attempted(self, outcome: str, *, failed: bool) -> None:
        """The attempt ended with ``outcome``."""

    def ended(self, outcome: str, facts: Mapping[str, Any]) -> None:
        """The request is over."""


class Tracing(Protocol):
    """Begins traces."""

    def begin(self, headers: Mapping[str, str], decision_id: str,
              facts: Mapping[str, Any]) -> Trace:
        """Begin the trace of a request with these headers. ``facts`` are attributes of its span."""


class PassingTrace:
    """Records nothing and passes on the client's trace context."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def choosing(self) -> None: ...

    def chosen(self, url: str | None, terms: Mapping[str, float]) -> None: ...

    def attempt(self, url: str) -> Mapping[str, str]:
        return self._headers

    def attempted(self, outcome: str, *, failed: bool) -> None: ...

    def ended(self, outcome: str, facts: Mapping[str, Any]) -> None: ...


class NoTracing:
    """Traces nothing."""

    def begin(self, headers: Mapping[str, str], decision_id: str,
              facts: Mapping[str, Any]) -> Trace:
        if "traceparent" not in headers:
            return _NOTHING
        return PassingTrace({name: headers[name] for name in _CONTEXT if name in headers})


_NOTHING = PassingTrace({})
NO_TRACING = NoTracing()


class SpanTrace:
    """One request's spans."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer = tracer
        self._span = span
        self._inner: list[Span] = []  # an attempt may be within another one

    def choosing(self) -> None:
        self._inner.append(self._child("choose"))

    def chosen(self, url: str | None, terms: Mapping[str, float]) -> None:
        inner = self._inner.pop()
        if url is not None:
            inner.set_attribute("server.address", url)
        for name, value in terms.items():
            inner.set_attribute(f"penstock.term.{name}", value)
        inner.end()

    def attempt(self, url: str) -> Mapping[str, str]:
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        inner = self._child("attempt", SpanKind.CLIENT)
        inner.set_attribute("server.address", url)
        self._inner.append(inner)
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers, set_span_in_context(inner))
        return headers

    def attempted(self, outcome: str, *, failed: bool) -> None:
        from opentelemetry.trace import StatusCode

        inner = self._inner.pop()
        inner.set_attribute("penstock.outcome", outcome)
        if failed:
            inner.set_status(StatusCode.ERROR, outcome)
        inner.end()

    def ended(self, outcome: str, facts: Mapping[str, Any]) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("penstock.outcome", outcome)
        for name, value in facts.items():
            if value is not None:
                self._span.set_attribute(name, value)
        if outcome in ("failed", "broken"):
            self._span.set_status(StatusCode.ERROR, outcome)
        self._span.end()

    def _child(self, name: str, kind: Any = None) -> "Span":
        from opentelemetry.trace import SpanKind, set_span_in_context

        return self._tracer.start_span(name, set_span_in_context(self._span),
                                       kind or SpanKind.INTERNAL)


class OtelTracing:
    """Spans by OpenTelemetry's SDK, exported according to its ``OTEL_`` variables."""

    def __init__(self, tracer: "Tracer") -> None:
        self._tracer = tracer

    def begin(self, headers: Mapping[str, str], decision_id: str,
              facts: Mapping[str, Any]) -> Trace:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        found = {name: headers[name] for name in _CONTEXT if name in headers}
        span = self._tracer.start_span("request", TraceContextTextMapPropagator().extract(found),
                                       SpanKind.SERVER)
        span.set_attribute("penstock.decision_id", decision_id)
        for name, value in facts.items():
            if value is not None:
                span.set_attribute(name, value)
        return SpanTrace(self._tracer, span)


def otlp_tracing() -> OtelTracing:
    """Return tracing that sends spans by OTLP over HTTP in the background. Raises InputError."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise missing_extra("--traces", "otel", error) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "penstock"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTracing(provider.get_tracer("penstock"))
