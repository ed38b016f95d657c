"""Model multiplexing behind the gateway: which pool a request goes to, and its slot there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

from penstock.core.attestation import Attestation, attestation_violation, refusal
from penstock.core.disclosure import Disclosure
from penstock.core.request import Request
from penstock.engines.client.state import EngineFacts, EngineState
from penstock.engines.engine import engine_of
from penstock.fleet.multiplex_factory import deadline_after_s
from penstock.fleet.values_adapters import Adapter
from penstock.fleet.values_multiplexing import DevicePool
from penstock.policy.route.pools import PooledModel, choose_pooled
from penstock.serving.attest.evidence import pool_facts
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import Ask
from penstock.serving.multiplex.driver import MultiplexDriver
from penstock.serving.multiplex.tickets import RefusedError, Ticket

_FIRST_ID = -1_000_000  # routers do not know these engines


class PoolRejectedError(ServiceError):
    """A pool rejects a request: it cannot run now or in time."""

    def __init__(self, model: str, refusal: RefusedError) -> None:
        after_s = ceil(refusal.after_s)
        super().__init__(503, f"{model}: {refusal.reason}; try again in {after_s} s", refusal.code,
                         headers={"Retry-After": str(after_s)})


@dataclass(eq=False, slots=True)
class PoolSlot:
    """A request's slot on an engine. ``attestation`` is the one that admits a confidential
    request."""

    ticket: Ticket
    place: "_Place"
    engine: EngineState
    attestation: Attestation | None = None

    @property
    def more(self) -> dict[str, Any]:
        """Fields that replace the client's in every request to the engine: clients do not decide
        when a model is unloaded."""
        return dict(engine_of(self.engine.kind).while_multiplexed)


@dataclass(frozen=True, slots=True)
class _Place:
    """A model of a pool, with the attestation status of the pool for confidential requests."""

    pool: DevicePool
    driver: MultiplexDriver
    model: int
    engines: tuple[EngineState, ...]
    attestation_status: EngineState

    @property
    def name(self) -> str:
        return self.pool.models[self.model].spec.name

    def takes(self, adapter: Adapter | None) -> bool:
        """Whether the model's engine may have an adapter."""
        lora = self.pool.models[self.model].lora
        return adapter is None or (lora is not None and lora.takes(adapter))

    def seen(self, number: int) -> PooledModel:
        """Return the model's present state under the caller's number."""
        resident = any(self.model in device.residents for device in self.driver.devices)
        return PooledModel(number, resident, self.driver.num_waiting(self.model),
                           self.driver.refusal(self.model) is not None)


class ModelPools:
    """The pools of a fleet with their drivers. ``attestation_status`` has the status of each pool
    for confidential requests."""

    def __init__(self, pools: Sequence[tuple[DevicePool, MultiplexDriver]],
                 wall_s: Callable[[], float]) -> None:
        self.pools = pools
        self._wall_s = wall_s
        self.attestation_status = [EngineState(pool_facts(pool)) for pool, _ in pools]
        numbers = iter(range(_FIRST_ID, 0))
        self._places = [
            _Place(pool, driver, index, tuple(EngineState(_facts(pool, index, next(numbers)))
                                              for _ in driver.devices), attestation_status)
            for (pool, driver), attestation_status in zip(pools, self.attestation_status,
                                                          strict=True)
            for index in range(len(pool.models))]

    def can_serve(self, ask: Ask) -> bool:
        """Whether any multiplexed model may answer a request."""
        return any(self._fitting(ask))

    def attestable(self, ask: Ask) -> bool:
        """Whether a device that may answer a request can be attested, now or later."""
        return any(place.pool.attestation is not None for place in self._fitting(ask))

    @property
    def well(self) -> bool:
        """Whether any multiplexed model may get requests now."""
        return any(place.driver.refusal(place.model) is None for place in self._places)

    async def enter(self, request: Request, ask: Ask) -> PoolSlot:
        """Wait for a slot. Among several models that may answer, prefers a loaded model with a
        short queue. Raises PoolRejectedError, and ServiceError where a confidential request has no
        attested device."""
        places = self._trusted(ask)
        place = places[choose_pooled([one.seen(number) for number, one in enumerate(places)]).place]
        try:
            ticket = await place.driver.enter(
                place.model, deadline_after_s(place.pool.models[place.model], ask.service_class),
                request.prompt_tokens, request.max_tokens)
        except RefusedError as error:
            raise PoolRejectedError(place.name, error) from error
        return self._still_trusted(_slot(ticket, place), ask)

    async def retry(self, slot: PoolSlot, ask: Ask) -> PoolSlot:
        """Wait for another slot after the engine failed the request. Raises the errors of
        ``enter``."""
        try:
            ticket = await slot.place.driver.retry(slot.ticket)
        except RefusedError as error:
            raise PoolRejectedError(slot.place.name, error) from error
        return self._still_trusted(_slot(ticket, slot.place), ask)

    def leave(self, slot: PoolSlot, end: Literal["answered", "left", "failed"]) -> None:
        """Give the slot back."""
        slot.place.driver.leave(slot.ticket, end)

    def reject_all(self) -> None:
        """Reject all waiting requests, while their clients can still receive the error."""
        for _, driver in self.pools:
            driver.reject_all()

    def _fitting(self, ask: Ask) -> Iterator[_Place]:
        for place in self._places:
            if (ask.models is None or place.name in ask.models) and place.takes(ask.adapter):
                yield place

    def _trusted(self, ask: Ask) -> list[_Place]:
        """Return the models that may answer. Raises ServiceError with the reason where a
        confidential request has no attested device."""
        found = list(self._fitting(ask))
        if not ask.needs.confidential:
            return found
        why = [attestation_violation(place.attestation_status.confidentiality, self._wall_s())
               for place
               in found]
        if trusted := [place for place, one in zip(found, why, strict=True) if one is None]:
            return trusted
        reason = refusal(one for one in why if one is not None)
        if any(place.pool.attestation is not None for place in found):
            raise ServiceError(503, reason, "no_engine", headers={"Retry-After": "1"})
        raise ServiceError(400, reason, "needs_unmet")

    def _still_trusted(self, slot: PoolSlot, ask: Ask) -> PoolSlot:
        """Return the slot. Gives it back and raises ServiceError where its device is no longer
        attested: a request may have waited for minutes."""
        if not ask.needs.confidential:
            return slot
        now_s, known = self._wall_s(), slot.place.attestation_status.confidentiality
        if (why := attestation_violation(known, now_s)) is not None:
            self.leave(slot, "left")
            raise ServiceError(503, refusal([why]), "no_engine", headers={"Retry-After": "1"})
        slot.attestation = next(one for one in known.attestations if one.fresh(now_s))
        return slot

    def disclosed(self, disclosure: Disclosure) -> list[tuple[DevicePool, MultiplexDriver]]:
        """Return the pools whose figures may be disclosed in full. In a pool with confidential
        requests, the loaded models and the number of loads would reveal what those requests are
        about."""
        return [(pool, driver) for pool, driver in self.pools
                if pool.attestation is None or disclosure.allow_model_counts]

    def document(self, disclosure: Disclosure) -> list[dict[str, Any]]:
        """Return the present state of the pools as plain data, with padded totals for pools that
        may not be disclosed."""
        disclosed = [pool for pool, _ in self.disclosed(disclosure)]
        return [{"pool": pool.name, "policy": pool.policy,
                 "devices": [_device(pool, driver, index) for index in range(pool.count)],
                 "models": [_model(pool, driver, index) for index in range(len(pool.models))]}
                if pool in disclosed else _totals(pool, driver, disclosure)
                for pool, driver in self.pools]


def _facts(pool: DevicePool, index: int, number: int) -> EngineFacts:
    model = pool.models[index]
    engine = model.engine
    kind = "auto" if engine is None else engine_of(engine.kind).called_as or engine.kind
    return EngineFacts(number, "", model.spec.name, None, model.spec.max_context_tokens, 1.0, kind,
                       None if engine is None else engine.served_as, pool.accelerator.confidential,
                       lora=model.lora)


def _slot(ticket: Ticket, place: _Place) -> PoolSlot:
    engine = place.engines[ticket.device]
    if engine.facts.url != ticket.url:  # a restarted process has another port
        engine.facts = replace(engine.facts, url=ticket.url)
    # A model that was loaded again may have lost its adapters.
    engine.num_losses = place.driver.devices[ticket.device].num_loads
    return PoolSlot(ticket, place, engine)


def _totals(pool: DevicePool, driver: MultiplexDriver, disclosure: Disclosure) -> dict[str, Any]:
    counts = driver.counts
    return {"pool": pool.name, "policy": pool.policy, "num_devices": pool.count,
            "num_models": len(pool.models),
            "num_waiting": disclosure.count(sum(map(driver.num_waiting, range(len(pool.models))))),
            "num_started": disclosure.count(sum(counts.started.values())),
            "num_refused": disclosure.count(sum(counts.refused.values()))}


def _device(pool: DevicePool, driver: MultiplexDriver, index: int) -> dict[str, Any]:
    device = driver.devices[index]
    names = [model.spec.name for model in pool.models]
    return {"device": index, "memory_bytes": device.memory_bytes, "free_bytes": device.free_bytes,
            "resident": {names[model]: one.num_running for model, one in device.residents.items()},
            "loading": None if device.loading is None else names[device.loading],
            "num_loads": device.num_loads}


def _model(pool: DevicePool, driver: MultiplexDriver, index: int) -> dict[str, Any]:
    counts = driver.counts
    return {"model": pool.models[index].spec.name, "num_waiting": driver.num_waiting(index),
            "set_apart": driver.apart(index), "num_started": counts.started[index],
            "num_refused": {reason: num for (model, _, reason), num in counts.refused.items()
                            if model == index}}
