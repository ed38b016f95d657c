"""Factories of admission policies: each takes its settings, the router behind it and its
context."""

from collections.abc import Mapping
from typing import Any

from penstock.policy.admit.feasible import FeasibleOnly
from penstock.policy.route.context import RouterContext
from penstock.policy.route.protocol import Router


def admit_all(_settings: Mapping[str, Any], router: Router, _context: RouterContext) -> Router:
    """Admit every request."""
    return router


def feasible(settings: Mapping[str, Any], router: Router, context: RouterContext) -> Router:
    """Admit the requests that some replica is likely to serve in time."""
    return FeasibleOnly(router, context.facts, context.usual(), **settings)
