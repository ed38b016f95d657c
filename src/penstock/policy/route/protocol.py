"""The contract of routing: which replica serves a request."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from penstock.core.decision import Route
from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot


class Router(Protocol):
    """Chooses among snapshots of the replicas that may serve the request (never empty): of its
    model and class, and attested where it is confidential.

    ``looks_into_queues`` asks for snapshots that list the replica's requests; ``learns`` asks to be
    told how requests ended.
    """

    @property
    def looks_into_queues(self) -> bool:
        """Whether snapshots must carry their queue."""

    @property
    def learns(self) -> bool:
        """Whether ``ended`` must be called and expected lengths kept up to date."""

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        """Return the chosen replica, with the terms of the choice."""

    def ended(self, departure: Departure) -> None:
        """A request that was routed has left its replica."""


@runtime_checkable
class BatchRouter(Router, Protocol):
    """A router that decides better on several requests together than one by one."""

    def route_many(self, requests: Sequence[Request],
                   replicas: Sequence[Sequence[ReplicaSnapshot]], now_s: float) -> list[Route]:
        """Return routes of requests that wait at the same moment, each with its own candidates, in
        order."""


class PlainRouter:
    """Base of routers that keep no state of requests."""

    looks_into_queues = False
    learns = False

    def ended(self, departure: Departure) -> None:
        """Do nothing."""
