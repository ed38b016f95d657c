"""Forecasts of the next interval's requests and lengths, from those of the intervals before.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/load/predictors.py. Prophet is left out.
"""

from abc import ABC, abstractmethod
from math import expm1, isfinite, log1p
from typing import Any

from penstock.core.errors import missing_extra

LEAST_POINTS = 5
"""Values before which ARIMA gives the last one."""

_UNKNOWN = 1000.0  # variance of a level and a trend that nothing is known of


class Predictor(ABC):
    """Forecasts the next value of a series. Zeros before the first other value do not count."""

    def __init__(self) -> None:
        self.last = 0.0
        self._began = False

    def add(self, value: float) -> None:
        """Add a value; one that is no finite number counts as zero."""
        found = value if isfinite(value) else 0.0
        if found == 0.0 and not self._began:
            return
        self._began = True
        self.last = found
        self._learn(found)

    @abstractmethod
    def next(self) -> float:
        """Return the forecast, 0 before any value."""

    @abstractmethod
    def _learn(self, value: float) -> None:
        """Take in a value."""


class Constant(Predictor):
    """Forecasts the last value."""

    def next(self) -> float:
        return self.last

    def _learn(self, value: float) -> None:
        pass


class Kalman(Predictor):
    """Local linear trend: a level that moves by a trend, and both by chance, seen with noise."""

    def __init__(self, q_level: float = 1.0, q_trend: float = 0.1, r: float = 10.0, *,
                 use_log: bool = False) -> None:
        super().__init__()
        self._q = (q_level, q_trend)
        self._r = r
        self._use_log = use_log
        self._state: tuple[float, float] | None = None
        self._covariance = (_UNKNOWN, 0.0, _UNKNOWN)  # level, both, trend

    def next(self) -> float:
        if self._state is None:
            return 0.0
        level = sum(self._state)
        return max(0.0, expm1(level)) if self._use_log else level

    def _learn(self, value: float) -> None:
        seen = log1p(max(0.0, value)) if self._use_log else value
        if self._state is None:
            self._state = (seen, 0.0)
            return
        level, trend = sum(self._state), self._state[1]
        p, both, q = self._covariance
        p, both, q = p + 2.0 * both + q + self._q[0], both + q, q + self._q[1]
        gain = (p / (p + self._r), both / (p + self._r))
        error = seen - level
        self._state = (level + gain[0] * error, trend + gain[1] * error)
        self._covariance = (p - gain[0] * p, both - gain[0] * both, q - gain[1] * both)


class Arima(Predictor):
    """Auto-ARIMA. Where the order has neither autoregression nor moving average, the logarithms are
    fitted."""

    def __init__(self, *, use_log: bool = False) -> None:
        super().__init__()
        self._fit = _auto_arima()
        self._use_log = use_log
        self._values: list[float] = []
        self._model: Any = None
        self._num_fitted = 0

    def next(self) -> float:
        if len(self._values) < LEAST_POINTS:
            return self.last
        if len(set(self._values)) == 1:
            return self._values[0]
        try:
            self._update()
            found = float(self._model.predict(n_periods=1)[0])
        except (ValueError, ArithmeticError):  # a series that the library cannot fit
            return self.last
        return max(0.0, expm1(found) if self._use_log else found)

    def _learn(self, value: float) -> None:
        self._values.append(max(0.0, value))

    def _update(self) -> None:
        if self._model is None:
            self._model = self._fit(self._scaled(self._values))
            order = self._model.order
            if not self._use_log and order[0] == 0 and order[2] == 0:
                self._use_log = True
                self._model = self._fit(self._scaled(self._values))
        elif len(self._values) > self._num_fitted:
            self._model.update(self._scaled(self._values[self._num_fitted:]))
        self._num_fitted = len(self._values)

    def _scaled(self, values: list[float]) -> list[float]:
        return [log1p(value) for value in values] if self._use_log else values


def _auto_arima() -> Any:
    try:
        from pmdarima import auto_arima
    except (ImportError, OSError) as error:
        raise missing_extra("load_predictor arima (unlike constant and kalman)", "arima",
                            error) from None
    return lambda values: auto_arima(values, suppress_warnings=True, error_action="ignore")
