"""Default forecast of a request without a forecast of its own."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from penstock.core.departure import Departure
from penstock.core.forecast import Forecast
from penstock.core.request import Request
from penstock.policy.route.facts import ReplicaFacts
from penstock.predict.length import LengthPredictor

_MOST_OPEN = 1 << 17


class UsualForecasts:
    """The mean quality of each model, and the observed lengths of the request's class."""

    def __init__(self, facts: Sequence[ReplicaFacts], lengths: LengthPredictor) -> None:
        self._qualities = {fact.offer.model: fact.offer.quality for fact in facts}
        self._lengths = lengths
        self._class_of: OrderedDict[int, str] = OrderedDict()

    def of(self, request: Request) -> Mapping[str, Forecast]:
        """Return the request's own forecasts, and default ones for other models, by model."""
        own = request.forecasts
        if own and self._qualities.keys() <= own.keys():
            return own
        name = request.service_class.name
        mean, high = self._lengths.mean(name), self._lengths.quantile(name, 0.9)
        return {model: own.get(model) or Forecast(mean, high, quality, 0.0, "history")
                for model, quality in self._qualities.items()}

    def sent(self, request: Request) -> None:
        """A request was sent. Its length will be learned at its end."""
        self._class_of[request.request_id] = request.service_class.name
        if len(self._class_of) > _MOST_OPEN:
            self._class_of.popitem(last=False)

    def ended(self, departure: Departure) -> None:
        """Learn from a request that has ended."""
        name = self._class_of.pop(departure.request_id, None)
        if name is not None and departure.finished:
            self._lengths.observe(name, departure.output_tokens)
