"""Models that take turns on devices: which pool a request goes to, and its turn there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

from penstock.core.request import Request
from penstock.engine.live.residency.driver import ResidencyDriver
from penstock.engine.live.residency.turns import RefusedError, Ticket
from penstock.engine.live.state import EngineFacts, EngineState
from penstock.engine.residency import deadline_after_s
from penstock.fleet.values_residency import DevicePool
from penstock.gateway.ask import Ask
from penstock.gateway.errors import GatewayError

_FIRST_ID = -1_000_000  # no router knows of these engines
_KINDS = {"process": "auto", "llama-server": "llamacpp"}


class TurnedAwayError(GatewayError):
    """There is no turn for a request, now or in time."""

    def __init__(self, model: str, refusal: RefusedError) -> None:
        after_s = ceil(refusal.after_s)
        super().__init__(503, f"{model}: {refusal.reason}; try again in {after_s} s", refusal.code,
                         headers={"Retry-After": str(after_s)})


@dataclass(eq=False, slots=True)
class Turn:
    """A request's turn on an engine."""

    ticket: Ticket
    place: "_Place"
    engine: EngineState


@dataclass(frozen=True, slots=True)
class _Place:
    """A model of a pool."""

    pool: DevicePool
    driver: ResidencyDriver
    model: int
    engines: tuple[EngineState, ...]

    @property
    def name(self) -> str:
        return self.pool.models[self.model].spec.name

    @property
    def is_resident(self) -> bool:
        return any(self.model in device.residents for device in self.driver.devices)


class Turns:
    """The pools of a fleet with their drivers."""

    def __init__(self, pools: Sequence[tuple[DevicePool, ResidencyDriver]]) -> None:
        self.pools = pools
        numbers = iter(range(_FIRST_ID, 0))
        self._places = [
            _Place(pool, driver, index, tuple(EngineState(_facts(pool, index, next(numbers)))
                                              for _ in driver.devices))
            for pool, driver in pools for index in range(len(pool.models))]

    @property
    def engines(self) -> Iterator[EngineState]:
        """Of every model on every device."""
        for place in self._places:
            yield from place.engines

    def able(self, ask: Ask) -> bool:
        """Whether any model here may answer a request."""
        return any(self._fitting(ask))

    @property
    def well(self) -> bool:
        """Whether any model may get requests now."""
        return any(place.driver.refusal(place.model) is None for place in self._places)

    async def enter(self, request: Request, ask: Ask) -> Turn:
        """Waits for a turn: of several models that may answer, for one that is there and that few
        wait for. Raises TurnedAwayError."""
        place = min(self._fitting(ask), key=lambda one: (
            one.driver.refusal(one.model) is not None, not one.is_resident,
            one.driver.num_waiting(one.model)))
        try:
            ticket = await place.driver.enter(
                place.model, deadline_after_s(place.pool.models[place.model], ask.service_class),
                request.prompt_tokens, request.max_tokens)
        except RefusedError as error:
            raise TurnedAwayError(place.name, error) from error
        return _turn(ticket, place)

    async def again(self, turn: Turn) -> Turn:
        """Another turn for a request that the engine failed. Raises TurnedAwayError."""
        try:
            return _turn(await turn.place.driver.again(turn.ticket), turn.place)
        except RefusedError as error:
            raise TurnedAwayError(turn.place.name, error) from error

    def leave(self, turn: Turn, end: Literal["answered", "left", "failed"]) -> None:
        """The turn is over."""
        turn.place.driver.leave(turn.ticket, end)

    def _fitting(self, ask: Ask) -> Iterator[_Place]:
        for place in self._places:
            if (ask.models is None or place.name in ask.models) and (
                    place.pool.accelerator.confidential or not ask.needs.confidential):
                yield place

    def document(self) -> list[dict[str, Any]]:
        """The pools as they are now, as plain data."""
        return [{"pool": pool.name, "policy": pool.policy,
                 "devices": [_device(pool, driver, index) for index in range(pool.count)],
                 "models": [_model(pool, driver, index) for index in range(len(pool.models))]}
                for pool, driver in self.pools]


def _facts(pool: DevicePool, index: int, number: int) -> EngineFacts:
    model = pool.models[index]
    engine = model.engine
    return EngineFacts(number, "", model.spec.name, None, model.spec.max_context_tokens, 1.0,
                       "auto" if engine is None else _KINDS.get(engine.kind, engine.kind),
                       None if engine is None else engine.served_as, pool.accelerator.confidential)


def _turn(ticket: Ticket, place: _Place) -> Turn:
    engine = place.engines[ticket.device]
    if engine.facts.url != ticket.url:  # a process has another port each time
        engine.facts = replace(engine.facts, url=ticket.url)
    return Turn(ticket, place, engine)


def _device(pool: DevicePool, driver: ResidencyDriver, index: int) -> dict[str, Any]:
    device = driver.devices[index]
    names = [model.spec.name for model in pool.models]
    return {"device": index, "memory_bytes": device.memory_bytes, "free_bytes": device.free_bytes,
            "resident": {names[model]: one.num_running for model, one in device.residents.items()},
            "loading": None if device.loading is None else names[device.loading],
            "num_loads": device.num_loads}


def _model(pool: DevicePool, driver: ResidencyDriver, index: int) -> dict[str, Any]:
    counts = driver.counts
    return {"model": pool.models[index].spec.name, "num_waiting": driver.num_waiting(index),
            "set_apart": driver.apart(index), "num_started": counts.started[index],
            "num_refused": {reason: num for (model, _, reason), num in counts.refused.items()
                            if model == index}}
