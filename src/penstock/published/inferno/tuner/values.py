"""Observations of the tuner, its settings, and their JSON file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from penstock.core.errors import InputError
from penstock.published.inferno.fields import Fields
from penstock.published.inferno.read import read_json

State = tuple[float, ...]
"""alpha in ms, beta in ms per token computed and gamma in ms per KV token touched; or alpha and
beta alone, where prompts are left out (upstream's kind ``decode``)."""

Mode = Literal["ekf", "sliding-window"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Mean load and latencies of one replica over a cycle.

    ``ttft_ms`` includes the wait. For a state of two parameters it is the wait alone.
    ``one_chunk`` says that the replica is analysed as before queue-analysis v0.7.
    """

    rate_per_min: float
    max_batch: int
    max_queue: int
    input_tokens: float
    output_tokens: float
    ttft_ms: float
    itl_ms: float
    one_chunk: bool = False

    @property
    def usable(self) -> bool:
        """Whether the tuner takes the point: it skips replicas without traffic or latencies."""
        return self.max_batch > 0 and min(self.rate_per_min, self.input_tokens, self.output_tokens,
                                          self.ttft_ms, self.itl_ms) > 0.0


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """Noise and bounds of the filter. The defaults are upstream's ``default-config-data.json``.

    ``percent_change`` are shares of the state, although upstream calls them percents.
    ``least_state`` and ``most_state`` hold only if ``bounded``.
    """

    gamma_factor: float = 1.0
    error_level: float = 0.5
    t_percentile: float = 1.96
    init_state: State = (5.0, 0.05, 5e-5)
    percent_change: State = (0.15, 0.15, 0.15)
    bounded: bool = True
    least_state: State = (0.05, 5e-4, 5e-7)
    most_state: State = (500.0, 5.0, 5e-3)
    expected_observations: tuple[float, float] = (200.0, 40.0)

    @property
    def noise(self) -> tuple[float, float]:
        """Variances of observed TTFT and ITL, ms^2: (level / percentile)^2 / gamma x expected^2."""
        factor = (self.error_level / self.t_percentile) ** 2 / self.gamma_factor
        ttft_ms, itl_ms = self.expected_observations
        return factor * ttft_ms**2, factor * itl_ms**2


@dataclass(frozen=True, slots=True)
class TunerSettings:
    """Settings of the tuner, with upstream's defaults (``TUNER_*`` variables).

    ``first_observations`` are collected before the first fit. The NIS gate is off for the first
    ``warm_up_updates`` accepted updates. ``window`` is the number of observations of the sliding
    window, of which one may be dropped whose relative error exceeds ``residual_limit``. A fit is
    refused whose condition number exceeds ``condition_limit`` (0 for never), and a first fit whose
    sum of squares exceeds ``objective_limit`` sends the pair to the filter for good.
    """

    mode: Mode = "ekf"
    warm_up_updates: int = 5
    first_observations: int = 5
    hold_back: bool = True
    window: int = 10
    residual_limit: float = 0.5
    objective_limit: float = 10.0
    condition_limit: float = 1000.0
    filter: FilterConfig = field(default_factory=FilterConfig)


def read_config(path: Path) -> FilterConfig:
    """Read upstream's configuration file. Raises InputError for another form."""
    return parse_config(read_json(path), str(path))


def parse_config(document: Mapping[str, Any], where: str) -> FilterConfig:
    """Return the configuration of a parsed file ``{"filterData": {...}, "modelData": {...}}``.

    Raises InputError where lists have unequal lengths or numbers are missing.
    """
    top = Fields(document, where)
    for part in ("filterData", "modelData"):
        top.require(part)
    filter_data, model_data = top.part("filterData"), top.part("modelData")
    state = model_data.numbers("initState")
    expected = model_data.numbers("expectedObservations")
    bounded = model_data.flag("boundedState")
    least = model_data.numbers("minState") if bounded else (0.0,) * len(state)
    most = model_data.numbers("maxState") if bounded else (0.0,) * len(state)
    change = model_data.numbers("percentChange")
    if len(state) not in (2, 3) or len(expected) != 2:
        raise InputError(f"{where}: found {len(state)} states and {len(expected)} observations; "
                         "expected 2 or 3 states and 2 observations")
    if any(len(each) != len(state) for each in (least, most, change)):
        raise InputError(f"{where}: modelData: minState, maxState and percentChange must have as "
                         f"many numbers as initState, {len(state)}")
    gamma, level, percentile = (_positive(filter_data, name)
                                for name in ("gammaFactor", "errorLevel", "tPercentile"))
    return FilterConfig(gamma, level, percentile, state, change, bounded, least, most,
                        (expected[0], expected[1]))


def _positive(fields: Fields, name: str) -> float:
    value = fields.number(name)
    if value <= 0.0:
        raise InputError(f"{fields.where}: {name}: expected a number above 0")
    return value
