"""Two-stage routing: first the model, then the replica."""

from collections.abc import Mapping, Sequence

from penstock.core.decision import Route
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot
from penstock.policy.route.facts import Offer
from penstock.policy.route.models.protocol import ModelRouter
from penstock.policy.route.protocol import Router

_MOST_REMEMBERED = 1 << 17


class TwoStage:
    """``models`` chooses among the models of the candidates, ``dispatcher`` among the replicas of
    the chosen one. A request that names its model goes directly to the dispatcher."""

    learns = True

    def __init__(self, models: ModelRouter, dispatcher: Router,
                 offers: Mapping[str, Offer]) -> None:
        self._models = models
        self._dispatcher = dispatcher
        self._offers = offers
        self._chosen: dict[int, tuple[str, int]] = {}

    @property
    def looks_into_queues(self) -> bool:
        """Whether the dispatcher needs queues."""
        return self._dispatcher.looks_into_queues

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        served = {replica.model for replica in replicas}
        if request.model or len(served) < 2:
            return self._dispatcher.route(request, replicas, now_s)
        offers = sorted((self._offers[model] for model in served),
                        key=lambda offer: (offer.size, offer.model))
        model = self._models.choose(request, offers, now_s)
        if len(self._chosen) >= _MOST_REMEMBERED:
            self._chosen.clear()
        self._chosen[request.request_id] = (model, request.prompt_tokens)
        route = self._dispatcher.route(
            request, [replica for replica in replicas if replica.model == model], now_s)
        return route.replace(rejected={
            **route.rejected, **{r.replica_id: f"the router chose {model}" for r in replicas
                                 if r.model != model}})

    def ended(self, departure: Departure) -> None:
        chosen = self._chosen.pop(departure.request_id, None)
        if chosen is not None:
            self._models.ended(departure, *chosen)
        if self._dispatcher.learns:
            self._dispatcher.ended(departure)
