"""The HTTP side of the gateway (aiohttp, extra ``serve``)."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from secrets import token_hex

import aiohttp
from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.client.of_fleet import facts_of
from penstock.engines.http import METRICS_HEADERS, json_response
from penstock.engines.http_body import read_body
from penstock.fleet.adapter_costs import rooms_of
from penstock.fleet.values import Fleet
from penstock.fleet.values_gateway import NO_GATEWAY_OPTIONS, Tenant
from penstock.policy.route.protocol import Router
from penstock.serving.adapters.adapters import Adapters, adapters_of
from penstock.serving.adapters.calls import AdapterCalls
from penstock.serving.adapters.claims import AdapterClaims, OneProcess
from penstock.serving.application import Part
from penstock.serving.attest.evidence import EvidenceWatcher, check_rules
from penstock.serving.background import Work
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.admission import admitted
from penstock.serving.gateway.ask import CLASS_HEADER, Offer, parse
from penstock.serving.gateway.audited import RequestAudit
from penstock.serving.gateway.choice import Chooser
from penstock.serving.gateway.confidential import ConfidentialCounts
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.gateway.disputes import Disputes
from penstock.serving.gateway.engines import Engines
from penstock.serving.gateway.exact_prefixes import ExactPrefixes
from penstock.serving.gateway.forecasts import Forecasts
from penstock.serving.gateway.isolation import PrefixIsolation
from penstock.serving.gateway.keeper import Keeper
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.metrics import GatewayMetrics
from penstock.serving.gateway.model_pools import ModelPools
from penstock.serving.gateway.model_pools_metrics import ModelPoolsMetrics
from penstock.serving.gateway.openapi import openapi
from penstock.serving.gateway.operations import Operations
from penstock.serving.gateway.page import status_page
from penstock.serving.gateway.proxy import Proxy
from penstock.serving.gateway.tally import Tally
from penstock.serving.gateway.traces import Tracing
from penstock.serving.kv_events import KvEvents, check_kv_events
from penstock.serving.overload import BodyHold, OverloadGuard, default_limits
from penstock.serving.scaling.metrics import ScalingMetrics
from penstock.serving.scaling.scaling import Scaling
from penstock.serving.tenants.audit import AuditLog
from penstock.serving.tenants.gate import GatewayConfig, Identity, TenantGate
from penstock.serving.tenants.metrics import TenantMetrics
from penstock.serving.tenants.report import spending_document


def offer_of(fleet: Fleet) -> Offer:
    """Return the offer of a fleet: its served models and its service classes."""
    served = {group.model.name for group in fleet.replicas if group.endpoints or fleet.scales}
    served |= {model.spec.name for pool in fleet.multiplexing for model in pool.models}
    able = {name for name in served if any(lora is not None for lora in rooms_of(fleet, name))}
    return Offer({c.name: c for c in fleet.service_classes},
                 {m.spec.name: m.spec.max_context_tokens for m in fleet.models
                  if m.spec.name in served}, fleet.gateway.aliases,
                 {one.name: (m.spec.name, one) for m in fleet.models for one in m.adapters
                  if m.spec.name in able})


def gateway_config(fleet: Fleet, limits: Limits) -> GatewayConfig:
    """Return the tenants' configuration from the fleet file."""
    return GatewayConfig(offer_of(fleet), fleet.gateway,
                 {name: m.price for m in fleet.models if m.price is not None
                  for name in (m.spec.name, *(one.name for one in m.adapters))},
                 limits.max_in_flight + limits.max_queue, fleet.disclosure)


def forecasts_of(fleet: Fleet) -> Forecasts:
    """Return the forecasts, with the fleet's forecaster if the file names one. Raises InputError
    for an invalid forecaster file."""
    if fleet.gateway.forecasts is None:
        return Forecasts()
    from penstock.predict.prompts.store import load_forecaster
    forecaster = load_forecaster(Path(fleet.gateway.forecasts))
    return Forecasts(forecaster, {
        model.spec.name: model.quality for model in fleet.models
        if model.spec.name in forecaster.models and not forecaster.judges(model.spec.name)})


class Gateway:
    """OpenAI's API over a fleet's ``engines``."""

    def __init__(self, fleet: Fleet, gate: TenantGate, router: Router, forecasts: Forecasts,
                 session: aiohttp.ClientSession, tracing: Tracing, limits: Limits,
                 on_bug: Callable[[str], None], audit: AuditLog, engines: Engines,
                 log: DecisionLog | None = None, model_pools: ModelPools | None = None,
                 scaling: Scaling | None = None, keeper: Keeper | None = None,
                 num_workers: int = 1, kv_events: KvEvents | None = None,
                 claims: AdapterClaims | None = None) -> None:
        self._routed = routed_part(fleet)
        self._audit = RequestAudit(audit)
        self._multiplexing = (fleet.multiplexing, fleet.multiplexing and fleet.attestation)
        self._engine_tls = fleet.gateway.engine_tls
        self._model_pools = model_pools
        self._gate = gate
        self._scaling = scaling
        self.engines = engines
        self.evidence = EvidenceWatcher(self.engines, fleet.attestation, session, time.time,
                                        time.monotonic, on_bug)
        self._limits = limits
        self._confidential = ConfidentialCounts(fleet.disclosure)
        self._metrics = GatewayMetrics(self._confidential)
        self._metrics.add(TenantMetrics(gate))
        if model_pools is not None:
            self._metrics.add(ModelPoolsMetrics(model_pools, self._confidential))
        if scaling is not None:
            self._metrics.add(ScalingMetrics(scaling.loop))
        self._has_peers = claims is not None
        self._kv_events = kv_events
        exact = None if kv_events is None else ExactPrefixes(kv_events.index, engines, session)
        if kv_events is not None and exact is not None:
            self._metrics.add(kv_events)
            self._metrics.add(exact)
        self.overload = OverloadGuard(default_limits(limits.max_memory_bytes, num_workers),
                                      lambda: gate.offer.classes, time.monotonic)
        self._tally = Tally(gate.offer.classes.values())
        self._adapters = Adapters(self.engines, AdapterCalls(session),
                                  adapters_of(fleet), time.monotonic, on_bug,
                                  OneProcess() if claims is None else claims)
        self._metrics.add(self._adapters)
        self._chooser = Chooser(self.engines, router,
                                disclosure=lambda: self._confidential.disclosure,
                                adapters=self._adapters)
        self._isolation = PrefixIsolation(fleet.gateway, gate.secret)
        self._proxy = Proxy(self._chooser, forecasts, session, self._metrics, self._tally, tracing,
                            limits, time.monotonic, time.time, self._confidential, self._isolation,
                            Disputes(self._metrics.disputed, on_bug, time.monotonic), log,
                            model_pools, self.overload, self._adapters, scaling, exact)
        self._operations = Operations(engines, self._chooser, self._proxy.admission,
                                      self._metrics, self._tally, self._confidential, gate,
                                      self.overload, model_pools, self._adapters, scaling,
                                      kv_events)
        self._keeper = keeper
        self._on_bug = on_bug
        self._page = status_page()
        self._started = int(time.time())

    @property
    def chores(self) -> tuple[Work, ...]:
        """The gateway's own work beside its requests."""
        return (self.overload.run, self._proxy.silence_watches.run,
                *(() if self._scaling is None else self._scaling.work),
                *((self._adapters.follow,) if self._has_peers else ()),
                *(() if self._kv_events is None else (self._kv_events.run,)))

    def part(self) -> Part:
        """The gateway's API."""
        return Part((
            *(("POST", path, self._relay)
              for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")),
            ("GET", "/", self._show), ("GET", "/status", self._show),
            ("GET", "/v1/models", self._list), ("GET", "/health", self._health),
            ("GET", "/metrics", self._text), ("GET", "/v1/penstock/status", self._status),
            ("POST", "/v1/penstock/engines/drain", self._drain),
            ("GET", "/v1/penstock/decisions/{id}", self._decision),
            ("GET", "/v1/penstock/spend", self._spend)),
            lambda: openapi(self._gate.offer), self._limits.max_body_bytes, closing=self._close)

    def private_part(self) -> Part:
        """The API of this process for its keeper."""
        return self._operations.part()

    def guarded(self, part: Part) -> Part:
        """Return a service of others with its guard, and an audit of its orders."""
        permit = partial(self.permit, part.scope)
        routes = [(method, path, self._audit.of(part.acts[path], permit, handler)
                   if method == "POST" and path in part.acts else handler)
                  for method, path, handler in part.routes]
        return replace(part, routes=routes, guard=permit)

    def permit(self, scope: str, http: web.Request) -> Identity:
        """Return the identity of a caller with a right. Raises ServiceError."""
        return self._gate.permit(http.headers, http.remote, scope)

    def adopt(self, fleet: Fleet, router: Router) -> str:
        """Apply a changed fleet. Requests in progress end under the old one. Returns a line about
        the differences. Raises InputError, and then nothing changes."""
        check_kv_events(fleet)
        facts = facts_of(fleet)
        if not facts and self._model_pools is None and self._scaling is None:
            raise InputError("replicas: found none with endpoints; expected at least one")
        if (fleet.multiplexing, fleet.multiplexing and fleet.attestation) != self._multiplexing:
            raise InputError("multiplexing, or the attestation of its devices, has changed, which "
                             "needs a restart of the gateway")
        if fleet.gateway.engine_tls != self._engine_tls:
            raise InputError("gateway.engine_tls has changed, which needs a restart of the gateway")
        config = gateway_config(fleet, self._limits)
        check_rules(fleet.attestation)
        if self._scaling is not None:
            self._scaling.adopt(fleet)
        self._gate.adopt(config)
        self._isolation.adopt(fleet.gateway)
        self.evidence.adopt(fleet.attestation)
        self._confidential.disclosure = fleet.disclosure
        self._adapters.adopt(adapters_of(fleet))
        change = self.engines.adopt(facts)
        self._tally.adopt(config.offer.classes.values())
        # otherwise the router keeps what it has learned
        if (routed := routed_part(fleet)) != self._routed:
            self._routed = routed
            self._chooser.use(router)
        return str(change)

    async def _close(self) -> None:
        """Admit no more requests, reject those that wait for a pool, and give answers in progress
        some time."""
        if self._model_pools is not None:
            self._model_pools.reject_all()

    async def _relay(self, http: web.Request) -> web.StreamResponse:
        tenant = self._gate.authorize(http.headers, http.remote)
        self.overload.check_before_body(http.headers.get(CLASS_HEADER), tenant)
        with self.overload.body() as hold:
            return await self._answered(http, tenant, await self._body(http, hold))

    async def _answered(self, http: web.Request, tenant: Tenant,
                        content: bytes) -> web.StreamResponse:
        """Answer a request whose body is here."""
        body = await parse(content, self.overload.turns)
        found = await admitted(self._gate, tenant, http, content, body, f"dec-{token_hex(16)}")
        if isinstance(found, web.Response):
            return found
        return await self._proxy.answer(http, http.path, found)

    async def _body(self, http: web.Request, hold: BodyHold) -> bytes:
        """Read a request's body within the time limit."""
        if http.content.is_eof():
            return await read_body(http, on_bytes=hold.add)
        try:
            async with asyncio.timeout(self._limits.body_s):
                return await read_body(http, on_bytes=hold.add)
        except TimeoutError:
            raise ServiceError(408, f"the body was not complete after {self._limits.body_s:g} s",
                               "slow_body", headers={"Connection": "close"}) from None

    async def _list(self, http: web.Request) -> web.Response:
        offer, authorize = self._gate.offer, self._gate.authenticate(http.headers, http.remote)
        models = offer.models
        return json_response({"object": "list", "data": [
            {"id": name, "object": "model", "created": self._started, "owned_by": "penstock",
             **({"max_model_len": models[name]} if name in models else {}),
             **({"max_model_len": models[offer.adapters[name][0]],
                 "parent": offer.adapters[name][0]} if name in offer.adapters else {})}
            for name in (offer.names(authorize.tenant) if authorize.tenant else offer.names())]})

    async def _health(self, _: web.Request) -> web.Response:
        now_s = time.monotonic()
        able = any(engine.unavailable(now_s) is None for engine in self._chooser.engines) or (
            self._model_pools is not None and self._model_pools.well)
        return web.Response(status=200 if able else 503)

    async def _text(self, http: web.Request) -> web.Response:
        self.permit("metrics", http)
        return web.Response(headers=METRICS_HEADERS, body=self._operations.metrics()
                            if self._keeper is None else await self._keeper.metrics())

    async def _status(self, http: web.Request) -> web.Response:
        self.permit("status", http)
        return json_response(self._operations.status() if self._keeper is None
                             else await self._keeper.status())

    async def _show(self, _: web.Request) -> web.Response:
        """Return the status page. The page itself has no figures; it fetches them."""
        return web.Response(text=self._page.html, content_type="text/html", headers={
            "Content-Security-Policy": self._page.policy, "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"})

    async def _drain(self, http: web.Request) -> web.Response:
        """Drain an engine (finish its requests, give it no new ones), or undo that."""
        async with self._audit.act(http, self.permit("drain", http), "drain") as act:
            if http.content_type != "application/json":  # no page of another origin sends this type
                raise ServiceError(415, "expected Content-Type: application/json", "invalid_type")
            with self.overload.body() as hold:
                body = await self._body(http, hold)
            drained = self._operations.drain(body, act)
            return json_response(drained if self._keeper is None
                                 else await self._keeper.drain(body))

    async def _decision(self, http: web.Request) -> web.Response:
        own = self._gate.own(self.permit("ask", http), "ask")
        wanted = http.match_info["id"]
        found = self._operations.decision(wanted)
        if found is None and self._keeper is not None:
            found = await self._keeper.decision(wanted)
        if found is None or own not in (None, found["tenant"]) or (
                found["confidential"] and own != found["tenant"]):
            raise ServiceError(404, "no such decision among the kept ones", "not_found")
        return json_response(found["whole" if own is None else "for_tenant"])

    async def _spend(self, http: web.Request) -> web.Response:
        who = self.permit("spend", http)
        own = self._gate.own(who, "spend")
        if own is None:
            await self._audit.add(http, who, "read spending", "all tenants", "done")
        return json_response(await spending_document(self._gate, own))


def routed_part(fleet: Fleet) -> Fleet:
    """Return a fleet reduced to the parts that its router depends on."""
    # Replicas of a scaled fleet come and go while the router knows all their places.
    replicas = tuple(replace(group, endpoints=(), served_as=None, engine="auto")
                     for group in fleet.replicas) if fleet.scales else fleet.replicas
    return replace(fleet, gateway=NO_GATEWAY_OPTIONS, attestation=None, replicas=tuple(
        replace(group, kv_events=(), kv_replay=(), lora=None) for group in replicas),
        models=tuple(replace(model, adapters=()) for model in fleet.models))
