"""The section `run` of the fleet file."""

from typing import Literal

from penstock.fleet.fields import (
    Count,
    CountOrZero,
    NotNegative,
    Positive,
    Section,
    ShareOrZero,
    described,
)


class RunSection(Section):
    """How long and how random a run is."""

    seed: CountOrZero = described("Seed of every random choice.", 7, default=0)
    num_requests: Count | None = described("Stop after this many requests of all traffic.", 1500)
    duration_s: Positive | None = described("Stop arrivals after this many seconds.", 600)
    warmup_s: NotNegative = described(
        "Requests that arrive before this time are served but not counted.", 30, default=0.0)
    drain_s: NotNegative | None = described(
        "Time after the last arrival until the run ends, seconds; left out, until all requests "
        "end.", 120)
    step_time_noise: ShareOrZero = described(
        "Relative standard deviation of a step's duration.", 0.05, default=0.0)
    beliefs: Literal["exact", "uncertain", "model"] = described(
        "Who errs about simulated step times. exact: nobody; policies and devices have the times "
        "of the step-time model. uncertain: policies; their times are off by a random factor from "
        "the model's interval. model: the devices; policies have the model's times.", "exact",
        default="uncertain")
