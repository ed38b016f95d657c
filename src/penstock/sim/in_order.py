"""Checks of the input of an event loop."""

from collections.abc import Iterable
from math import inf

from penstock.core.errors import InputError


def check_in_order(requests: Iterable[tuple[int, float]]) -> None:
    """Check that requests (pairs of id and arrival in seconds) are in order of arrival, and that
    each id is its place. Raises InputError for the first violation."""
    before_s = -inf
    for place, (request_id, arrival_s) in enumerate(requests):
        if request_id != place or not before_s <= arrival_s < inf:
            raise InputError(f"request {request_id} at {arrival_s} s, place {place}: expected "
                             "requests in order of arrival, named by it")
        before_s = arrival_s
