"""Metrics, status, drains and decisions of a gateway's own process."""

import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from penstock.engines.http import METRICS_HEADERS, json_response
from penstock.engines.http_body import read_body
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.application import Part
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.admission_queue import AdmissionQueue
from penstock.serving.gateway.audited import Act
from penstock.serving.gateway.choice import Chooser
from penstock.serving.gateway.confidential import ConfidentialCounts, any_confidential
from penstock.serving.gateway.drain import drain
from penstock.serving.gateway.engines import Engines
from penstock.serving.gateway.metrics import GatewayMetrics
from penstock.serving.gateway.model_pools import ModelPools
from penstock.serving.gateway.status import status_document
from penstock.serving.gateway.tally import Tally, tally_document
from penstock.serving.kv_events import KvEvents
from penstock.serving.overload import OverloadGuard
from penstock.serving.scaling.scaling import Scaling
from penstock.serving.tenants.gate import TenantGate

_MOST_BODY_BYTES = 2**16


class Operations:
    """Figures and orders of one process. Callers have been checked."""

    def __init__(self, engines: Engines, chooser: Chooser, admission: AdmissionQueue,
                 metrics: GatewayMetrics, tally: Tally, confidential: ConfidentialCounts,
                 gate: TenantGate, overload: OverloadGuard, model_pools: ModelPools | None,
                 adapters: Adapters, scaling: Scaling | None,
                 kv_events: KvEvents | None = None) -> None:
        self._engines = engines
        self._chooser = chooser
        self._admission = admission
        self._metrics = metrics
        self._tally = tally
        self._confidential = confidential
        self._gate = gate
        self._overload = overload
        self._model_pools = model_pools
        self._scaling = scaling
        self._kv_events = kv_events
        self._adapters = adapters

    def metrics(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        num_waiting = self._admission.num_waiting
        if self._model_pools is not None and any_confidential(self._model_pools.attestation_status):
            num_waiting = self._confidential.disclosure.count(num_waiting)
        self._metrics.show(self._engines, num_waiting, time.monotonic(), time.time())
        self._metrics.show_overload(self._overload.document(self._pad()))
        return self._metrics.text()

    def status(self) -> dict[str, Any]:
        """Return the document of /v1/penstock/status."""
        return {**self._status(), **tally_document([self._tally.counts(time.monotonic())])}

    def drain(self, body: bytes, act: Act) -> dict[str, Any]:
        """Drain engines, or undo that. Raises ServiceError."""
        return drain(self._engines, body, act, self._confidential.disclosure)

    def decision(self, decision_id: str) -> dict[str, Any] | None:
        """Return a kept decision for administrators and for its tenant, None where there is none
        of that id."""
        found = self._chooser.find(decision_id)
        return None if found is None else {
            "tenant": found.tenant, "confidential": found.confidential, "whole": found.document(),
            "for_tenant": found.document_for_tenant(self._chooser.names())}

    def part(self) -> Part:
        """Return the API for the keeper of several processes."""
        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=self.metrics(), headers=METRICS_HEADERS)

        async def status(_: web.Request) -> web.Response:
            return json_response({"status": self._status(),
                                  "counts": self._tally.counts(time.monotonic())})

        async def drain(http: web.Request) -> web.Response:
            return json_response(self.drain(await read_body(http), Act()))

        async def decision(http: web.Request) -> web.Response:
            found = self.decision(http.match_info["id"])
            if found is None:
                raise ServiceError(404, "no such decision", "not_found")
            return json_response(found)

        return private_part(metrics=metrics, status=status, drain=drain, decision=decision)

    def _status(self) -> dict[str, Any]:
        return status_document(
            self._engines, self._admission, self._confidential, self._gate,
            self._model_pools, self._adapters, time.monotonic(), time.time()) \
            | {"overload": self._overload.document(self._pad())} \
            | ({} if self._scaling is None else {"scaling": self._scaling.document()}) \
            | ({} if self._kv_events is None or not (found := self._kv_events.document())
               else {"kv_events": found})

    def _pad(self) -> Callable[[int], int]:
        """Return the rounding of counts that may include confidential requests."""
        everywhere = [*self._engines,
                      *(() if self._model_pools is None else self._model_pools.attestation_status)]
        return self._confidential.disclosure.count if any_confidential(everywhere) else int


def private_part(**handlers: Any) -> Part:
    """Return the API between a keeper and its workers, which is not described."""
    return Part((("GET", "/metrics", handlers["metrics"]), ("GET", "/status", handlers["status"]),
                 ("POST", "/drain", handlers["drain"]),
                 ("GET", "/decisions/{id}", handlers["decision"])),
                lambda: {"paths": {}}, _MOST_BODY_BYTES)
