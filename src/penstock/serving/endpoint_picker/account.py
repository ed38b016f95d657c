"""One request on an endpoint, from the choice to its end: the load that routers see, and the
outcome that they learn from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.core.departure import Departure
from penstock.engines.client.state import InFlight
from penstock.serving.endpoint_picker.metrics import FlowMetrics, PickerMetrics
from penstock.serving.endpoint_picker.picker import Pick, Picker
from penstock.serving.gateway.metrics import GatewayMetrics
from penstock.serving.gateway.relay import Relay, RelayedStream
from penstock.serving.gateway.tally import End, Pace, judged

_BUSY = 429


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that is told how requests ended. ``clock`` is monotonic, in seconds."""

    picker: Picker
    gateway: GatewayMetrics
    metrics: PickerMetrics
    clock: Callable[[], float]


class Account:
    """The account of one request. It counts on its engine until ``end``, whose first call alone
    does anything.

    ``asked_s`` is the time of the choice. ``passed`` records the answer as far as it has passed.
    """

    def __init__(self, pick: Pick, fairness_id: str, num_bytes: int, books: Books) -> None:
        self.pick = pick
        self.engine = pick.engine
        self.asked_s = books.clock()
        self.status: int | None = None
        self.passed = RelayedStream()
        self._books = books
        self._relay: Relay | None = None
        self._answered_s: float | None = None
        self._ended = False
        self._pace = Pace(pick.wish.ask.service_class.slo, self.asked_s)
        self._in_flight = InFlight(pick.request.prompt_tokens, books.picker.forecasts.
                                   expected_tokens(pick.request, pick.engine.facts.model))
        self._flow = books.metrics.flow(pick.wish.model, pick.model, fairness_id,
                                        pick.wish.priority)
        self._counts: FlowMetrics = books.metrics.of(self._flow)
        self._counts.requests.inc()
        self._counts.running.inc()
        self._counts.size_bytes.observe(num_bytes)
        self._attempt: dict[str, Any] = {
            "url": self.engine.facts.url, "replica": self.engine.facts.name,
            "at_s": self.asked_s, "outcome": "is in progress"}
        pick.decision.attempts.append(self._attempt)
        self.engine.begin(pick.number, self._in_flight)

    def answered(self, status: int, served: str | None, *, streamed: bool) -> None:
        """Record the head of an answer, and the address that has ``served`` it."""
        self.status = status
        picker, adapter = self._books.picker, self.pick.wish.ask.adapter
        if status == 404 and adapter is not None and picker.adapters is not None:
            picker.adapters.missing(self.engine, adapter)
        if served is not None and served != self.pick.addresses[0]:
            self._move(served)
        if streamed and status < 400:
            self._relay = Relay(self.passed, self._pace, keep_usage=True)

    def heard(self, chunk: bytes, *, at_end: bool) -> None:
        """Record a part of an answer that is streamed."""
        now_s = self._books.clock()
        if self._answered_s is None:
            self._answered_s = now_s
        relay = self._relay
        if relay is None or relay.fault is not None:  # the client gets the bytes in any case
            return
        relay.feed(chunk, now_s, at_end=at_end)
        if self.passed.num_tokens > self._in_flight.output_tokens and not self._ended:
            self.engine.ledger.advance(self._in_flight, self.passed.num_tokens)

    def heard_whole(self, content: bytes) -> None:
        """Record an answer in one piece."""
        self._answered_s = self._books.clock()
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError:
            return
        if isinstance(document, dict) and self.status is not None and self.status < 400:
            self.passed.take_whole(document, self._answered_s)

    def end(self, *, complete: bool) -> None:
        """Record the end of the request, ``complete`` where the gateway has seen its answer's
        end."""
        if self._ended:
            return
        self._ended = True
        self.engine.end(self.pick.number)
        self.pick.release()
        self._counts.running.dec()
        outcome = self._outcome(complete=complete)
        now_s = self._books.clock()
        if outcome in ("failed", "broken"):
            self.engine.failed(now_s)
        elif complete and self.status != _BUSY:
            self.engine.succeeded(now_s, (self._answered_s or now_s) - self.asked_s, self.asked_s)
        self._settle(outcome, now_s)

    # -- details --------------------------------------------------------------------------------

    def _move(self, served: str) -> None:
        """Count the request on the engine that the gateway has fallen back to."""
        engine = self._books.picker.served_by(served, self.pick)
        self._attempt["outcome"] = f"the gateway chose {served}"
        if engine is None or engine is self.engine or self._ended:
            return
        self.engine.end(self.pick.number)
        self.engine = engine
        engine.begin(self.pick.number, self._in_flight)
        self._attempt = {"url": engine.facts.url, "replica": engine.facts.name,
                         "at_s": self._books.clock(), "outcome": "is in progress"}
        self.pick.decision.attempts.append(self._attempt)

    def _outcome(self, *, complete: bool) -> str:
        if self.status is None or not complete:
            return "cancelled"
        if self.status >= 500:
            return "failed"
        if self.status >= 400:
            return "refused"
        # A stream without OpenAI's last event may be that of another API, and is complete.
        return "finished" if self.passed.error is None else "broken"

    def _settle(self, outcome: str, now_s: float) -> None:
        pick, passed, counts = self.pick, self.passed, self._counts
        ask, duration_s = pick.wish.ask, now_s - self.asked_s
        prompt, output = (one if type(one) is int and one >= 0 else None
                          for one in passed.delivered)
        prompt_tokens, output_tokens = prompt or 0, output or 0
        ttft_s = None if passed.first_token_s is None else passed.first_token_s - self.asked_s
        self._attempt["outcome"] = outcome if self.status is None else f"answered {self.status}"
        end = End(ask.service_class, outcome, output_tokens, passed.num_tokens,
                  self._pace.num_late, ttft_s, duration_s)
        is_met = judged(end)
        pick.decision.outcome = {
            "outcome": outcome, "e2e_s": duration_s, "ttft_s": ttft_s, "met_targets": is_met,
            "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
        self._books.gateway.of(ask.name or "", ask.service_class.name).add(
            outcome, prompt_tokens, output_tokens, ttft_s, duration_s, is_met=is_met)
        if outcome == "cancelled":
            self._books.metrics.cancelled.inc()
        elif outcome != "finished":
            self._books.metrics.error(self._flow, str(self.status))
        else:
            self._measure(counts, prompt_tokens, output_tokens, ttft_s, duration_s)
        if ttft_s is not None:
            counts.ttft_s.observe(ttft_s)
        self._learn(output_tokens, ttft_s, duration_s, finished=outcome == "finished")

    def _measure(self, counts: FlowMetrics, prompt_tokens: int, output_tokens: int,
                 ttft_s: float | None, duration_s: float) -> None:
        counts.duration_s.observe(duration_s)
        counts.input_tokens.observe(prompt_tokens)
        counts.output_tokens.observe(output_tokens)
        details = (self.passed.usage or {}).get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        if type(cached) is int and cached >= 0:
            counts.cached_tokens.observe(cached)
        if output_tokens:
            counts.ntpot_s.observe(duration_s / output_tokens)
        last_s = self.passed.last_token_s
        if ttft_s is not None and last_s is not None and output_tokens > 1:
            gaps_s = last_s - self.asked_s - ttft_s
            counts.streaming_tpot_s.observe(gaps_s / (output_tokens - 1))

    def _learn(self, output_tokens: int, ttft_s: float | None, duration_s: float, *,
               finished: bool) -> None:
        """Report the outcome to the router and the forecasts."""
        finished = finished and output_tokens > 0
        picker, ask = self._books.picker, self.pick.wish.ask
        if finished:
            picker.forecasts.ended(ask, self.engine.facts.model, output_tokens)
        router = picker.chooser.router
        if router.learns:
            router.ended(Departure(self.pick.number, self.engine.facts.replica_id, finished,
                                   output_tokens, ttft_s if ask.stream else None, duration_s))
