"""The contract of routing: which replica serves a request."""

from collections.abc import Sequence
from typing import Protocol

from penstock.core.decision import Route
from penstock.core.request import Request
from penstock.core.snapshot import ReplicaSnapshot


class Router(Protocol):
    """Chooses among snapshots of the replicas that may serve the request (never empty)."""

    def route(self, request: Request, replicas: Sequence[ReplicaSnapshot], now_s: float) -> Route:
        """The chosen replica, with the terms of the choice."""
