"""Routing of a fleet's requests to its pools and their models, by the gateway's rules."""

from collections.abc import Sequence
from typing import NamedTuple

from penstock.core.attestation import attestation_violation
from penstock.core.request import Request
from penstock.core.units import PS_PER_S
from penstock.policy.route.pools import PooledModel, choose_pooled, goes_to_pool
from penstock.sim.dispatch import Dispatcher
from penstock.sim.kernel import NO_SOURCE
from penstock.sim.multiplex.pools import SimulatedPool


class _Place(NamedTuple):
    """A model of a pool, by its number in the pool."""

    pool: SimulatedPool
    model: int

    @property
    def attestable(self) -> bool:
        known = self.pool.pool.confidentiality
        return known.mode_on and bool(known.attestations)

    def seen(self, place: int) -> PooledModel:
        source = self.pool.source
        resident = any(self.model in device.residents for device in source.devices)
        num_waiting = source.num_waiting[self.model]
        return PooledModel(place, resident, num_waiting, num_waiting >= self.pool.pool.max_queue)


class PoolDoor:
    """Routes requests to the pools of a fleet. ``dispatcher`` knows which requests its replicas may
    take."""

    def __init__(self, pools: Sequence[SimulatedPool], dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._places = {name: [_Place(pool, model) for pool in pools
                               for model, one in enumerate(pool.pool.models)
                               if name in ("", one.spec.name)]
                        for name in ("", *(one.spec.name for pool in pools
                                           for one in pool.pool.models))}

    def deliver(self, request: Request, now_ps: int) -> int:
        """Deliver a request to a pool and return its source's number, NO_SOURCE where replicas must
        serve the request."""
        places = self._fitting(request)
        confidential, now_s = request.needs.confidential, now_ps / PS_PER_S
        if not places or not goes_to_pool(
                self._dispatcher.availability(request, now_s), confidential=confidential,
                attestable=any(place.attestable for place in places)):
            return NO_SOURCE
        if confidential:  # where no pool may take it, a pool gives the reason
            places = [place for place in places if attestation_violation(
                place.pool.pool.confidentiality, now_s) is None] or places
        chosen = places[0] if len(places) == 1 else places[
            choose_pooled([one.seen(place) for place, one in enumerate(places)]).place]
        chosen.pool.arrive(request, chosen.model, now_ps)
        return chosen.pool.source.number

    def _fitting(self, request: Request) -> Sequence[_Place]:
        """Return the models that may answer a request."""
        places = self._places.get(request.model, ())
        return places if not request.adapter else [
            place for place in places if place.pool.takes(request, place.model)]

    def missed(self, request: Request) -> None:
        """Record a request that arrives after the end of the run and that a pool would have
        served."""
        places = self._fitting(request)
        if places and not self._dispatcher.availability(request, request.arrival_s).ever:
            places[0].pool.missed(request, places[0].model)
