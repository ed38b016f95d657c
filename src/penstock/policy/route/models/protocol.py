"""The contract of a model router, and its inputs."""

from collections.abc import Sequence
from typing import Protocol

from penstock.core.departure import Departure
from penstock.core.request import Request
from penstock.policy.route.facts import Offer


class ModelRouter(Protocol):
    """Chooses one of the offers (never empty, in order of size)."""

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        """Choose the model for a request."""

    def ended(self, departure: Departure, model: str, prompt_tokens: int) -> None:
        """A request has left the model's replica."""


class Forgetful:
    """Base of model routers that do not learn."""

    def ended(self, departure: Departure, model: str, prompt_tokens: int) -> None:
        """Do nothing."""


def quality(request: Request, offer: Offer) -> float:
    """Return the expected quality of a request on a model."""
    forecast = request.forecasts.get(offer.model)
    return offer.quality if forecast is None else forecast.quality


def cost(request: Request, offer: Offer, output_tokens: float) -> float:
    """Return the expected cost of a request on a model; ``output_tokens`` stands in for a
    forecast."""
    forecast = request.forecasts.get(offer.model)
    output = output_tokens if forecast is None else forecast.output_tokens
    return (request.prompt_tokens * offer.price.input_per_token
            + min(output, float(request.max_tokens)) * offer.price.output_per_token)


def scaled(values: Sequence[float]) -> list[float]:
    """Scale values to 0 (least) to 1 (most); all 0.5 where they are equal."""
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else 0.5 for v in values]


