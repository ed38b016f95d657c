"""Relays one request from a client to an engine and back, with retries while nothing has been
sent."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from functools import partial
from itertools import count

import aiohttp
from aiohttp import ServerTimeoutError, web

from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.engines.client.dialects import Question
from penstock.engines.client.state import EngineState, InFlight
from penstock.engines.engine import engine_of
from penstock.policy.route.pools import goes_to_pool
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.adapter_hold import adapter_held, check_adapter, is_tried
from penstock.serving.gateway.admission_queue import AdmissionQueue
from penstock.serving.gateway.answers import DECISION_HEADER, Answers
from penstock.serving.gateway.ask import Ask
from penstock.serving.gateway.attempt import Attempt
from penstock.serving.gateway.calls import EngineCalls
from penstock.serving.gateway.choice import Chooser
from penstock.serving.gateway.confidential import ConfidentialCounts
from penstock.serving.gateway.decision_log import DecisionLog
from penstock.serving.gateway.disputes import Disputes
from penstock.serving.gateway.engine_http import EngineAnswer
from penstock.serving.gateway.exact_prefixes import ExactPrefixes
from penstock.serving.gateway.exchange import (
    KNOWN_ENDS,
    ClientDisconnectedError,
    EngineBusyError,
    EngineFailedError,
    Exchange,
    PartnerFailedError,
    encoded,
    given_up,
    late,
    unusable,
)
from penstock.serving.gateway.forecasts import Forecasts
from penstock.serving.gateway.isolation import PrefixIsolation
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.metrics import GatewayMetrics
from penstock.serving.gateway.model_pools import ModelPools, PoolRejectedError
from penstock.serving.gateway.pairing import Pairing
from penstock.serving.gateway.relay import RelayedStream
from penstock.serving.gateway.silence import SilenceWatch, SilenceWatches
from penstock.serving.gateway.tally import End, Pace, Tally, judged
from penstock.serving.gateway.traces import NO_TRACING, Tracing
from penstock.serving.overload import OverloadGuard
from penstock.serving.scaling.scaling import Scaling
from penstock.serving.tenants.lease import Lease


class Proxy:
    """Relays requests to engines. One event loop owns the proxy."""

    def __init__(self, chooser: Chooser, forecasts: Forecasts, session: aiohttp.ClientSession,
                 metrics: GatewayMetrics, tally: Tally, tracing: Tracing, limits: Limits,
                 clock: Callable[[], float], time_of_day: Callable[[], float],
                 confidential: ConfidentialCounts, isolation: PrefixIsolation, disputes: Disputes,
                 log: DecisionLog | None, model_pools: ModelPools | None,
                 overload: OverloadGuard, adapters: Adapters, scaling: Scaling | None = None,
                 exact: ExactPrefixes | None = None) -> None:
        self._chooser = chooser
        self._isolation = isolation
        self._confidential = confidential
        self._disputes = disputes
        self._model_pools = model_pools
        self._overload = overload
        self._scaling = scaling
        self._exact = exact
        self._adapters = adapters
        self._forecasts = forecasts
        self._metrics = metrics
        self._limits = limits
        self.tally = tally
        self._tracing = tracing
        self.admission = AdmissionQueue(limits.max_in_flight, limits.max_queue, clock)
        self._clock = clock
        self.silence_watches = SilenceWatches(clock)
        self._calls = EngineCalls(session, limits, isolation, clock, time_of_day,
                                  self.silence_watches)
        self._pairing = Pairing(chooser.engines, self._calls, adapters)
        self._answers = Answers(clock, self._record_end)
        self._log = log
        self._numbers = count()

    async def answer(self, http: web.Request, path: str, lease: Lease) -> web.StreamResponse:
        """Relay the engine's answer to the client. Raises ServiceError. The lease is settled in any
        case."""
        begun_s = self._clock()
        # A trace reveals times, lengths and models, so a confidential request has none.
        tracing = NO_TRACING if lease.ask.needs.confidential else self._tracing
        exchange = Exchange(http, path, lease, lease.ask,
                            self._chooser.open(lease.decision_id, lease.ask, begun_s),
                            next(self._numbers), begun_s, RelayedStream(),
                            Pace(lease.ask.service_class.slo, begun_s), tracing.begin(
                                http.headers, lease.decision_id, {
                                    "url.path": path, "penstock.tenant": lease.ask.tenant,
                                    "penstock.service_class": lease.ask.service_class.name,
                                    "gen_ai.request.model": lease.ask.name}))
        outcome, service_class = "cancelled", lease.ask.service_class
        try:
            try:
                self._overload.check(service_class)
                if self._scaling is not None:
                    await self._scaling.enter(lease.ask)
                await self.admission.enter(service_class.priority, service_class.slo)
            except ServiceError as error:
                outcome, exchange.decision.rejected["the gateway"] = "shed", str(error)
                raise
            try:
                response = await self._tried(exchange)
            finally:
                self.admission.leave()
            outcome = "finished" if response.status < 400 else "refused"
            return response
        except PoolRejectedError as error:
            outcome, exchange.decision.rejected["the gateway"] = "shed", str(error)
            error.headers[DECISION_HEADER] = lease.decision_id
            raise
        except ClientDisconnectedError as error:
            raise asyncio.CancelledError from error
        except Exception as error:
            # an error of an engine, of the gateway, or a bug; not a disconnect
            outcome = "failed" if outcome == "cancelled" else outcome
            if isinstance(error, ServiceError):
                error.headers[DECISION_HEADER] = lease.decision_id
            raise
        finally:
            self._settle(exchange, outcome)
            exchange.trace.ended(*(exchange.ending or (outcome, {})))

    # -- attempts -------------------------------------------------------------------------------

    async def _tried(self, exchange: Exchange) -> web.StreamResponse:
        tried: list[EngineState] = []
        exact = None if self._exact is None else await self._exact.of(
            exchange.ask, self._isolation.salt(exchange.ask))
        request = exchange.request = await self._forecasts.request(
            exchange.number, exchange.begun_s, exchange.ask,
            self._isolation.cache(exchange.ask), exact)
        if (model_pools := self._model_pools) is not None and self._goes_to_pool(exchange.ask,
                                                                                 model_pools):
            return await self._answer_from_pool(exchange, request, model_pools)
        while True:
            if len(tried) == self._limits.attempts:
                raise given_up(exchange)
            engine = await self._ready(exchange, request, tried)
            if engine is None:
                continue
            response, engine = await self._answer(exchange, request, engine)
            if response is not None:
                return response
            if is_tried(exchange, engine):
                tried.append(engine)

    def _goes_to_pool(self, ask: Ask, model_pools: ModelPools) -> bool:
        """Whether a request goes to a pool of multiplexed models rather than to a replica."""
        return model_pools.can_serve(ask) and goes_to_pool(
            self._chooser.availability(ask, self._clock()), confidential=ask.needs.confidential,
            attestable=model_pools.attestable(ask))

    async def _answer_from_pool(self, exchange: Exchange, request: Request,
                                model_pools: ModelPools) -> web.StreamResponse:
        """Wait for a slot in a pool and relay the answer."""
        slot = await model_pools.enter(request, exchange.ask)
        while True:
            exchange.more, response = slot.more, None
            exchange.decision.attestation = slot.attestation
            try:
                response = await self._attempt(exchange, request, slot.engine)
                if exchange.unsupported is not None:
                    raise given_up(exchange)
            except BaseException:
                model_pools.leave(slot, "left")
                raise
            if response is not None:
                # An answer that broke off after its first byte counts as a failure, too.
                model_pools.leave(slot, "answered" if exchange.passed.error is None else "failed")
                return response
            try:
                slot = await model_pools.retry(slot, exchange.ask)
            except PoolRejectedError as error:
                if error.code == "failed":
                    raise given_up(exchange) from error
                raise

    async def _answer(self, exchange: Exchange, request: Request, engine: EngineState
                      ) -> tuple[web.StreamResponse | None, EngineState]:
        """Relay the answer of an engine, while its partner computes the prompt, if there is one.
        Where nothing was sent, returns None and the engine that failed."""
        partner, attempt = exchange.partner, partial(self._attempt, exchange, request, engine)
        if partner is None:
            return await attempt(), engine
        response = await self._pairing.together(exchange, request, partner, attempt)
        return response, engine if partner.failure is None else partner.engine

    async def _attempt(self, exchange: Exchange, request: Request,
                       engine: EngineState) -> web.StreamResponse | None:
        """Relay the answer of an engine. Returns None where the engine failed before anything was
        sent."""
        in_flight = InFlight(request.prompt_tokens,
                             self._forecasts.expected_tokens(request, engine.facts.model))
        response = None
        with Attempt(exchange, engine, in_flight, self._clock) as attempt:
            exchange.lease.follow(exchange.answering(engine.facts.model), in_flight)
            async with adapter_held(self._adapters, exchange, engine, self._clock):
                response = await self._asked(exchange, engine, in_flight, attempt.trace_headers)
            attempt.outcome = f"answered {response.status}"
        if response is None and not exchange.ask.needs.confidential:
            self._metrics.retries.labels(engine.facts.url).inc()
        return response

    async def _ready(self, exchange: Exchange, request: Request,
                     tried: list[EngineState]) -> EngineState | None:
        """Return the engine that answers. Where engines have roles, another engine may compute the
        prompt: before, where None is returned if that one failed, which then was tried; or, as the
        exchange's partner, at the same time."""
        pairing, ask = self._pairing, exchange.ask
        if not pairing.active:
            return await self._chosen(exchange, request, tried)
        exchange.more, exchange.partner = {}, None
        engine = await self._chosen(exchange, request, tried,
                                    pairing.not_first(ask, tried, self._clock()))
        if not pairing.splits(engine, ask, tried, self._clock()):
            return engine
        partner = exchange.partner = pairing.partner(exchange, engine)
        if partner is not None:
            exchange.more = partner.fields
        else:
            found = await pairing.prefill(exchange, request, engine)
            if found is None:
                tried.append(engine)
                return None
            if not pairing.splits(engine, ask, tried, self._clock()):
                return None  # no other engine answers any more: the request begins again, whole
            exchange.more = found
        return await self._chosen(exchange, request, tried,
                                  pairing.not_second(engine, ask, tried, self._clock()))

    async def _chosen(self, exchange: Exchange, request: Request, tried: list[EngineState],
                      outside: Collection[EngineState] = ()) -> EngineState:
        exchange.trace.choosing()
        try:
            engine = await self._chooser.choose(request, exchange.decision, exchange.ask, tried,
                                                self._clock(), outside)
            exchange.trace.chosen(engine.facts.url, exchange.decision.terms)
            return engine
        except ServiceError:
            exchange.trace.chosen(None, {})
            if tried:
                raise given_up(exchange) from None
            raise

    async def _asked(self, exchange: Exchange, engine: EngineState, in_flight: InFlight,
                     trace_headers: Mapping[str, str]) -> web.StreamResponse:
        question = self._calls.question(exchange, engine)
        path, body = engine_of(engine.kind).dialect.call(question)
        exchange.asked_s = self._clock()
        partner = exchange.partner
        with self._calls.watch(exchange, engine) as watch, nullcontext() if partner is None \
                else partner.followed(watch, exchange.passed):
            try:
                answer = await self._calls.post(exchange, engine, path, encoded(body), watch,
                                                trace_headers)
                watch.give_up = partial(answer.fail, ServerTimeoutError())
                return await self._relayed(exchange, engine, in_flight, answer, question, watch)
            except EngineFailedError as error:
                if watch.is_late:
                    raise late(exchange.ask) from error
                if partner is not None and partner.failure is not None:
                    raise PartnerFailedError from error
                raise

    async def _relayed(self, exchange: Exchange, engine: EngineState, in_flight: InFlight,
                       answer: EngineAnswer, question: Question,
                       watch: SilenceWatch) -> web.StreamResponse:
        ask, dialect = exchange.ask, engine_of(engine.kind).dialect
        exchange.decision.attempts[-1]["outcome"] = f"answered {answer.status}"
        with answer:
            later = answer.headers.get("Retry-After")
            if dialect.is_busy(answer.status, later):
                raise EngineBusyError(f"answered {answer.status}", later)
            check_adapter(self._adapters, exchange, engine, answer)
            if (failure := unusable(answer)) is not None:
                raise failure
            if ask.stream and answer.status < 400:
                return await self._answers.streamed(exchange, answer, engine, in_flight,
                                                    dialect.stream(question), watch)
            return await self._answers.whole(exchange, answer, engine, dialect, question, watch)

    # -- outcomes -------------------------------------------------------------------------------

    async def _record_end(self, exchange: Exchange) -> None:
        """Record an answer that has ended, so that not even a kill of the gateway loses its
        decision once the client has seen the end."""
        self._settle(exchange, "finished")
        if self._log is not None:
            await self._log.written()

    def _settle(self, exchange: Exchange, outcome: str) -> None:
        """Record the end of a request; only the first call does anything."""
        if exchange.ending is not None:
            return
        ask, passed, now_s = exchange.ask, exchange.passed, self._clock()
        charge = exchange.charge()
        prompt_tokens, output_tokens = charge.prompt_tokens, charge.output_tokens
        if charge.dispute is not None:
            self._disputes.add(exchange.engine, charge.dispute,
                               confidential=ask.needs.confidential)
        if passed.error is not None and outcome == "finished":
            outcome = "broken"
        ttft_s = None if passed.first_token_s is None else passed.first_token_s - exchange.begun_s
        end_reason = passed.finish_reason  # the engine may have put any text there
        end_reason = end_reason if end_reason in (None, *KNOWN_ENDS) else "other"
        exchange.decision.outcome = {
            "outcome": outcome, "e2e_s": now_s - exchange.begun_s,
            "finish_reason": end_reason, "ttft_s": ttft_s,
            "prompt_tokens": prompt_tokens, "output_tokens": output_tokens,
            "charged_nanos": charge.nanos, "dispute": charge.dispute}
        end = End(ask.service_class, outcome, output_tokens, passed.num_tokens,
                  exchange.pace.num_late, ttft_s, now_s - exchange.begun_s)
        if ask.needs.confidential:
            exchange.ending = outcome, {}
            is_met = exchange.decision.outcome["met_targets"] = judged(end)
            model = None if exchange.engine is None else exchange.engine.facts.model
            self._confidential.add(ask.service_class.name, outcome, model, is_met=is_met)
            self._learn(exchange, outcome, output_tokens, ttft_s, now_s)
            return
        is_met = self.tally.add(end, now_s)
        self._metrics.of(ask.name or "", ask.service_class.name).add(
            outcome, prompt_tokens, output_tokens, ttft_s, end.e2e_s, is_met=is_met)
        exchange.decision.outcome["met_targets"] = is_met
        exchange.ending = outcome, {
            "penstock.ttft_s": ttft_s, "penstock.met_targets": is_met,
            "gen_ai.usage.input_tokens": prompt_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
            "gen_ai.response.finish_reasons": end_reason and [end_reason]}
        self._learn(exchange, outcome, output_tokens, ttft_s, now_s)
        if self._log is not None:
            self._log.add({**exchange.decision.document(), **exchange.lease.origin})

    def _learn(self, exchange: Exchange, outcome: str, tokens: int,
               ttft_s: float | None, now_s: float) -> None:
        """Report the outcome to the router and the forecasts."""
        engine = exchange.engine
        if self._scaling is not None:
            self._scaling.ended(exchange.ask, exchange.decision.outcome)
        if engine is None:
            return
        finished = outcome == "finished" and tokens > 0
        if finished:
            self._forecasts.ended(exchange.ask, engine.facts.model, tokens)
        router = self._chooser.router
        if router.learns:
            router.ended(Departure(exchange.number, engine.facts.replica_id, finished, tokens,
                                   ttft_s if exchange.ask.stream else None,
                                   now_s - exchange.begun_s))
