"""The scaling of a gateway, as its requests and its operators meet it."""

from collections.abc import Callable
from typing import Any

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.policy.scale.demand import DemandMeter
from penstock.serving.gateway.ask import Ask
from penstock.serving.scaling.deferring import LiveDeferring
from penstock.serving.scaling.holding import LiveHolding
from penstock.serving.scaling.loop import LiveScaling


class Scaling:
    """The scaling of a gateway, as its requests meet it."""

    def __init__(self, loop: LiveScaling, holding: LiveHolding, demand: DemandMeter,
                 deferring: LiveDeferring | None = None) -> None:
        self.loop = loop
        self._holding = holding
        self._demand = demand
        self._deferring = deferring

    @property
    def work(self) -> tuple[Callable[[], Any], ...]:
        """Work beside the requests."""
        deferring = self._deferring
        return (self.loop.run, self.loop.tend, self._holding.run,
                *(() if deferring is None else (deferring.look, deferring.run)))

    async def enter(self, ask: Ask) -> None:
        """Hold a deferrable request back, count its arrival, and wait until a replica is ready.
        Raises ServiceError."""
        deferred = self._deferring is not None and await self._deferring.enter(ask)
        self._demand.arrived(ask.model or "", ask.service_class.name, ask.prompt_tokens,
                             deferred=deferred)
        await self._holding.enter(ask)

    def ended(self, ask: Ask, outcome: dict[str, Any]) -> None:
        """Count the end of a request. A request that its client gave up is neither finished nor
        lost."""
        model, name = ask.model or "", ask.service_class.name
        if outcome["outcome"] == "finished":
            self._demand.finished(model, name, outcome["prompt_tokens"], outcome["output_tokens"],
                                  met=bool(outcome["met_targets"]))
        elif outcome["met_targets"] is not None:
            self._demand.lost(model, name)

    def adopt(self, fleet: Fleet) -> None:
        """Apply the endpoints of a changed file. Raises InputError, and then nothing changes."""
        num_places = [group.num_places for group in self.loop.groups]
        num_expected = sum(1 if num is None else num for num in num_places)
        if len(fleet.replicas) != num_expected:
            raise InputError("replicas: the number of groups has changed, which needs a restart "
                             "while policies.scale is in use")
        number = first = 0
        for group, num in zip(self.loop.groups, num_places, strict=True):
            count = fleet.replicas[number].count if num is None else num
            group.adopt(range(first, first + count))
            number += 1 if num is None else num
            first += count

    def document(self) -> dict[str, Any]:
        """Return the present state as plain data."""
        deferred = {} if self._deferring is None else {"num_deferred": self._deferring.num_waiting}
        return {**self.loop.document(), "num_held": self._holding.num_waiting, **deferred}
