"""A minimum share of device time for a model while its requests wait."""

from collections.abc import Iterable, Sequence

from penstock.policy.multiplex.values import HostedModel


class Floor:
    """Credit of device time, in seconds, per model.

    A model earns ``min_share`` of the devices' time while requests wait for it, and pays for its
    loads and batches. A model whose credit covers a visit may have the visit, even if another model
    is worth more. Credit is limited to ``most_s``, so that a model cannot save for hours, and debt
    to its negative.
    """

    def __init__(self, models: Sequence[HostedModel], most_s: float = 120.0) -> None:
        self._shares = [model.min_share for model in models]
        self._any = any(self._shares)
        self._credit_s = [0.0] * len(models)
        self._since_s = 0.0
        self._waiting: set[int] = set()
        self._most_s = most_s

    @property
    def any(self) -> bool:
        """Whether any model has a floor."""
        return self._any

    def pass_time(self, waiting: Iterable[int], now_s: float, num_devices: int) -> None:
        """Account for time until now. Models that had waiting requests since the last call earn
        their share; ``waiting`` are the models with waiting requests now."""
        if not self._any:
            return
        earned_s = (now_s - self._since_s) * num_devices
        self._since_s = now_s
        before, self._waiting = self._waiting, {model for model in waiting if self._shares[model]}
        for model in before & self._waiting:
            self._credit_s[model] = min(self._most_s, self._credit_s[model]
                                        + self._shares[model] * earned_s)

    def pay(self, model: int, seconds: float) -> None:
        """Charge a model for a load or a batch."""
        if self._shares[model]:
            self._credit_s[model] = max(-self._most_s, self._credit_s[model] - seconds)

    def covers(self, model: int, seconds: float) -> bool:
        """Whether a model's credit covers this much time now."""
        return self._any and self._shares[model] > 0.0 and self._credit_s[model] >= seconds
