"""Choice of the endpoints for a request, by the fleet's routing policy."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count
from secrets import token_hex

from penstock.core.request import Request
from penstock.engines.client.state import EngineState
from penstock.engines.engine import name_in_requests
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.adapters.shelf import AdapterError, unavailable
from penstock.serving.endpoint_picker.addresses import address_of, ip_of
from penstock.serving.endpoint_picker.saturation import SaturationLimits, saturation
from penstock.serving.endpoint_picker.wishes import Wish
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import Ask
from penstock.serving.gateway.choice import Chooser, Decision
from penstock.serving.gateway.engines import Engines
from penstock.serving.gateway.exact_prefixes import ExactPrefixes
from penstock.serving.gateway.forecasts import Forecasts

NO_ENDPOINTS = "no_engine"
SATURATED = "saturated"


def do_nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A chosen engine, the addresses for the gateway (the chosen one first, then its fallbacks),
    and the decision."""

    number: int
    wish: Wish
    engine: EngineState
    addresses: tuple[str, ...]
    decision: Decision
    request: Request
    release: Callable[[], None] = do_nothing
    """Ends the hold of the adapter that the request asks for."""

    @property
    def model(self) -> str:
        """The engine's name for its model, or for the adapter of the request."""
        return name_in_requests(self.engine, self.wish.ask.adapter)


class Picker:
    """Chooses among engines. One event loop owns the picker. At most ``num_fallbacks`` further
    endpoints are named."""

    def __init__(self, engines: Engines, chooser: Chooser, forecasts: Forecasts,
                 limits: SaturationLimits, num_fallbacks: int, clock: Callable[[], float],
                 adapters: Adapters | None = None, exact: ExactPrefixes | None = None) -> None:
        self.adapters = adapters
        self.exact = exact
        self.engines = engines
        self.chooser = chooser
        self.forecasts = forecasts
        self._limits = limits
        self._num_fallbacks = num_fallbacks
        self._clock = clock
        self._numbers = count()
        self._turn = count()

    async def pick(self, wish: Wish, subset: frozenset[str] | None) -> Pick:
        """Choose for a request. Raises ServiceError."""
        ask, now_s = wish.ask, self._clock()
        decision = self.chooser.open(f"dec-{token_hex(16)}", ask, now_s)
        outside = self._outside(subset)
        if wish.priority < 0 and self.saturation(ask.models, outside) >= 1.0:
            decision.rejected["the endpoint picker"] = "the endpoints are saturated"
            raise ServiceError(429, "the endpoints are saturated, and the request's priority is "
                                    "negative; try again in 1 s", SATURATED,
                               headers={"Retry-After": "1"})
        number = next(self._numbers)
        exact = None if self.exact is None else await self.exact.of(ask)
        request = await self.forecasts.request(number, now_s, ask, exact=exact)
        engine, release = await self._held(request, decision, ask, outside)
        addresses = (address_of(engine.facts.url), *self._fallbacks(engine, wish, outside))
        return Pick(number, wish, engine, addresses, decision, request, release)

    async def _held(self, request: Request, decision: Decision, ask: Ask,
                    outside: Collection[EngineState]
                    ) -> tuple[EngineState, Callable[[], None]]:
        """Return the chosen engine, with the adapter that the request asks for loaded. Raises
        ServiceError."""
        faults: dict[EngineState, AdapterError] = {}
        while True:
            try:
                engine = await self.chooser.choose(request, decision, ask, tuple(faults),
                                                   self._clock(), outside)
            except ServiceError:
                if not faults:
                    raise
                raise unavailable([f"{one.facts.name} {error}" for one, error in faults.items()],
                                  min(one.after_s for one in faults.values())) from None
            if ask.adapter is None or self.adapters is None:
                return engine, do_nothing
            try:
                return engine, await self.adapters.hold(engine, ask.adapter)
            except AdapterError as error:
                faults[engine] = error

    def any_ready(self, subset: frozenset[str] | None) -> str:
        """Return the ready endpoint with the fewest requests, for a request without a body. Raises
        ServiceError where none is ready."""
        now_s, outside = self._clock(), self._outside(subset)
        ready = [one for one in self.engines
                 if one not in outside and one.unavailable(now_s) is None]
        if not ready:
            raise ServiceError(503, "no endpoint is ready", NO_ENDPOINTS,
                               headers={"Retry-After": "1"})
        return address_of(min(ready, key=lambda one: len(one.in_flight)).facts.url)

    def selected(self, names: Sequence[str], subset: frozenset[str] | None) -> str:
        """Return the next of the endpoints that a conformance test names, in turns. Raises
        ServiceError where the pool has none of them."""
        outside = self._outside(subset)
        pool = dict.fromkeys(address_of(one.facts.url) for one in self.engines
                             if one not in outside)
        found = [address for name in names for address in pool
                 if name in (address, ip_of(address))]
        if not found:
            raise ServiceError(429, f"the pool has none of the selected endpoints "
                                    f"{', '.join(names)[:80]}", SATURATED)
        return found[next(self._turn) % len(found)]

    def served_by(self, address: str, pick: Pick) -> EngineState | None:
        """Return the engine at an address that serves the model of a pick, None where it left the
        pool."""
        model = served_name(pick.engine)
        return next((one for one in self.engines if served_name(one) == model
                     and address_of(one.facts.url) == address), None)

    def saturation(self, models: Collection[str] | None = None,
                   outside: Collection[EngineState] = ()) -> float:
        """Return the mean saturation of the engines that serve any of these models."""
        able = [one for one in self.engines if not one.draining and one not in outside
                and (models is None or one.facts.model in models)]
        return saturation(able, self._limits, self._clock())

    def _outside(self, subset: frozenset[str] | None) -> frozenset[EngineState]:
        """Return the engines that the gateway does not admit."""
        if subset is None:
            return frozenset()
        return frozenset(one for one in self.engines if address_of(one.facts.url) not in subset)

    def _fallbacks(self, chosen: EngineState, wish: Wish,
                   outside: Collection[EngineState]) -> list[str]:
        """Return further endpoints that could answer the same body, the least busy first."""
        if not self._num_fallbacks or wish.ask.adapter is not None:
            return []  # an adapter is loaded on the chosen engine alone
        now_s, model, name = self._clock(), chosen.facts.model, wish.ask.service_class.name
        able = [one for one in self.engines
                if one is not chosen and one not in outside and one.facts.model == model
                and served_name(one) == served_name(chosen) and one.unavailable(now_s) is None
                and (one.facts.service_classes is None or name in one.facts.service_classes)
                and wish.ask.prompt_tokens < one.facts.kv_total_tokens]
        able.sort(key=lambda one: max(len(one.in_flight), (one.load.num_running or 0)
                                      + (one.load.num_waiting or 0)))
        return [address_of(one.facts.url) for one in able[:self._num_fallbacks]]


def served_name(engine: EngineState) -> str:
    """Return the engine's name for its model."""
    return name_in_requests(engine, None)
