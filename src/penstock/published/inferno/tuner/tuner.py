"""Inferno's tuner of one model on one accelerator, cycle by cycle.

Source: llm-inferno/model-tuner pkg/service. Each cycle makes a new filter at the parameters of the
last one: process noise and bounds follow them, the covariance is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.perf.queueing.parameters import IterationTimes
from penstock.published.inferno.tuner.ekf import MAX_NIS, Estimate, Step, new_filter, step
from penstock.published.inferno.tuner.fits import Fit, first_fit, guess
from penstock.published.inferno.tuner.values import (
    FilterConfig,
    OperatingPoint,
    State,
    TunerSettings,
)
from penstock.published.inferno.tuner.window import SlidingWindow

BOUND_FACTOR = 10.0
"""Bounds of a filter that starts from a fit: the state over this factor, and times it."""
_LEAST_BOUND = 1e-9


@dataclass(frozen=True, slots=True)
class Learned:
    """Parameters in use, the number of accepted updates behind them, and the NIS of the last."""

    times: IterationTimes
    num_updates: int
    nis: float = 0.0
    covariance: tuple[State, ...] | None = None

    @property
    def state(self) -> State:
        """alpha, beta and gamma."""
        return self.times.alpha_ms, self.times.beta_ms, self.times.gamma_ms


class Tuner:
    """Learns alpha, beta and gamma of one pair. ``learned`` is None until a first success.

    ``warning`` has the reason why the latest cycle learned nothing, None where it did.
    """

    def __init__(self, settings: TunerSettings | None = None) -> None:
        self._settings = settings or TunerSettings()
        self._first: list[OperatingPoint] = []
        self._num_seen = 0
        self._fit: Fit | None = None
        self._fit_done = False
        self._window: SlidingWindow | None = None
        self._sliding = self._settings.mode == "sliding-window"
        self.learned: Learned | None = None
        self.warning: str | None = None

    @property
    def fit(self) -> Fit | None:
        """The first fit, None before it or where it failed."""
        return self._fit

    @property
    def warming_up(self) -> bool:
        """Whether the loop should hold its decisions back: too few observations or updates."""
        if not self._num_seen:
            return False
        if self._num_seen < self._settings.first_observations:
            return self._settings.hold_back
        if self._sliding and self._window is None:
            return True
        return (self.learned is not None
                and self.learned.num_updates < self._settings.warm_up_updates)

    def tune(self, points: Sequence[OperatingPoint]) -> Learned | None:
        """Learn from one cycle's observations, one for each replica with traffic.

        Returns the new parameters, None where the cycle taught nothing; ``learned`` then stays.
        The first replica alone counts for the cold start and the sliding window.
        """
        points = [point for point in points if point.usable]
        if not points:
            return self._refused("no replica with traffic")
        self._num_seen += 1
        if not self._fit_done:
            self._first.append(points[0])
        if self._num_seen < self._settings.first_observations:
            return self._refused(f"collecting observations, {self._num_seen} of "
                                 f"{self._settings.first_observations}")
        learned = self._slide(points[0]) if self._sliding else self._filter(points)
        if learned is not None:
            self.learned, self.warning = learned, None
        return learned

    def _refused(self, reason: str) -> Learned | None:
        self.warning = reason
        return None

    def _fit_once(self) -> State | None:
        """Return the first fit, once: a later cycle without parameters starts from a guess."""
        if self._fit_done:
            return None
        self._fit_done = True
        self._fit = first_fit(self._first, self._settings.filter.init_state,
                              self._settings.condition_limit)
        return None if self._fit is None else self._fit.state

    def _filter(self, points: Sequence[OperatingPoint]) -> Learned | None:
        start = self._fit_once() if self.learned is None else self.learned.state
        config = self._settings.filter
        at = start or guess(points[0], config.init_state)
        of, estimate = new_filter(config if at is None else around(config, at))
        num_updates = 0
        if self.learned is not None:
            num_updates = self.learned.num_updates
            if self.learned.covariance is not None:
                estimate = Estimate(estimate.state, self.learned.covariance)
        gate = None if num_updates < self._settings.warm_up_updates else MAX_NIS
        accepted: Step | None = None
        refused = set()
        for point in points:
            found = step(of, estimate, point, gate)
            if found.refused:
                refused.add(found.refused)
            else:
                accepted, estimate = found, found.estimate
        if accepted is None:
            return self._refused(f"no update was accepted (gate: {', '.join(sorted(refused))})")
        return Learned(_times(accepted.estimate.state), num_updates + 1,
                       0.0 if gate is None else accepted.nis, accepted.estimate.covariance)

    def _slide(self, point: OperatingPoint) -> Learned | None:
        if self._window is None:
            state = self._fit_once()
            limit = self._settings.objective_limit
            if limit > 0.0 and (self._fit is None or self._fit.objective > limit):
                self._sliding = False
                return self._refused("the first fit is poor: the filter takes over for good")
            self._window = SlidingWindow(self._settings, self._first, state)
        else:
            self._window.add(point)
        found = self._window.fit()
        if found is None:
            return self._refused("the window cannot be fitted")
        if self._window.held:
            found = self._excursion(found, point)
        return Learned(_times(found),
                       1 + (self.learned.num_updates if self.learned else 0))

    def _excursion(self, held: State, point: OperatingPoint) -> State:
        """Return one step of a filter from the held fit, without the NIS gate; the window does not
        keep it."""
        found = step(*new_filter(around(self._settings.filter, held)), point, None)
        return found.estimate.state


def around(config: FilterConfig, state: State) -> FilterConfig:
    """Return a configuration that starts at ``state``, with bounds at a factor of 10."""
    return replace(config, init_state=state,
                   least_state=tuple(max(value / BOUND_FACTOR, _LEAST_BOUND) for value in state),
                   most_state=tuple(value * BOUND_FACTOR for value in state))


def _times(state: State) -> IterationTimes:
    alpha_ms, beta_ms, gamma_ms = state
    return IterationTimes(alpha_ms, beta_ms, gamma_ms)
