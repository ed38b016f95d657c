"""Tokens that scaling shows to other servers, from the environment."""

import os

TOKEN = "PENSTOCK_SCALING_TOKEN"
"""Environment variable with the bearer token of the webhook."""

PROMETHEUS_TOKEN = "PENSTOCK_PROMETHEUS_TOKEN"
"""Environment variable with the bearer token of ``scaling.observe.prometheus``."""


def bearer(variable: str) -> dict[str, str]:
    """Return the header with the token of an environment variable, nothing where it is not set."""
    token = os.environ.get(variable)
    return {} if token is None else {"Authorization": f"Bearer {token}"}
