"""Choices independent of the request: always one model, or models by fixed shares."""

from collections.abc import Callable, Mapping, Sequence

from penstock.core.request import Request
from penstock.policy.route.facts import Offer
from penstock.policy.route.models.protocol import Forgetful


class FixedModel(Forgetful):
    """Always the ``smallest``, the ``largest``, or the model of that name."""

    def __init__(self, which: str = "largest") -> None:
        self._which = which

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        if self._which == "smallest":
            return offers[0].model
        named = [offer.model for offer in offers if offer.model == self._which]
        return named[0] if named else offers[-1].model


class FixedMix(Forgetful):
    """Models at random by fixed shares. ``draw()`` gives a number from 0 to 1, 1 excluded."""

    def __init__(self, shares: Mapping[str, float], draw: Callable[[], float]) -> None:
        self._shares = shares
        self._draw = draw

    def choose(self, request: Request, offers: Sequence[Offer], now_s: float) -> str:
        shares = [max(0.0, self._shares.get(offer.model, 0.0)) for offer in offers]
        point = self._draw() * sum(shares)
        chosen = offers[-1].model
        for offer, share in zip(offers, shares, strict=True):
            if share > 0.0:
                chosen = offer.model  # also where rounding leaves a remainder
                point -= share
                if point < 0.0:
                    break
        return chosen
