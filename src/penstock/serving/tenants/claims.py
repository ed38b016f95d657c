"""Requests that claim to be the first with their idempotency key."""

from typing import NamedTuple

KEPT_S = 25 * 3600.0
"""A key is remembered for 24 hours after the whole hour in which it was first sent."""


class Earlier(NamedTuple):
    """An earlier request with the same key. ``charged_nanos`` is None while it is in progress."""

    body_digest: str
    decision_id: str
    charged_nanos: int | None


class Claim(NamedTuple):
    """A request that wants to be the first with its key. ``digest`` is that of tenant and key."""

    digest: str
    body_digest: str
    decision_id: str
