"""A floor under the time that a model gets while its requests wait."""

from collections.abc import Iterable, Sequence

from penstock.policy.multiplex.values import HostedModel


class Floor:
    """Credit of device time, in seconds, per model.

    A model earns ``min_share`` of the time of the devices while somebody waits for it, and pays for
    its loads and batches. Whose credit covers a visit may have it, whatever pays more. Credit ends
    at ``most_s``, so that a model cannot save up for hours; debt ends at its negative.
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
        """Time has passed until now, when somebody waits for these models; who did so already the
        last time has earned it."""
        if not self._any:
            return
        earned_s = (now_s - self._since_s) * num_devices
        self._since_s = now_s
        before, self._waiting = self._waiting, {model for model in waiting if self._shares[model]}
        for model in before & self._waiting:
            self._credit_s[model] = min(self._most_s, self._credit_s[model]
                                        + self._shares[model] * earned_s)

    def pay(self, model: int, seconds: float) -> None:
        """A load or a batch begins that takes so long."""
        if self._shares[model]:
            self._credit_s[model] = max(-self._most_s, self._credit_s[model] - seconds)

    def covers(self, model: int, seconds: float) -> bool:
        """Whether a model may claim so much time now."""
        return self._any and self._shares[model] > 0.0 and self._credit_s[model] >= seconds
