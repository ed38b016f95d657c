"""Factories of admission: each takes its settings, the router behind it and its context."""

from collections.abc import Mapping
from typing import Any

from penstock.policy.admit.feasible import FeasibleOnly
from penstock.policy.route.context import RouterContext
from penstock.policy.route.protocol import Router


def admit_all(_settings: Mapping[str, Any], router: Router, _context: RouterContext) -> Router:
    """Every request enters."""
    return router


def feasible(settings: Mapping[str, Any], router: Router, context: RouterContext) -> Router:
    """Requests enter that a replica is likely to serve in time."""
    return FeasibleOnly(router, context.facts, context.usual(), **settings)
