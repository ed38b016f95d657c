"""Errors of the gateway's API."""

from penstock.serving.errors import ServiceError


class GatewayError(ServiceError):
    """An answer of the gateway other than 200."""
