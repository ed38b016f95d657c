"""A traffic entry in the fleet file: whose lengths, when they arrive, in which classes."""

from typing import Annotated, Literal

from pydantic import Tag

from penstock.fleet.fields import (
    NAME_OR_SETTINGS,
    SETTINGS_TAG,
    AsName,
    Count,
    CountOrZero,
    FilePath,
    Name,
    NamedChoice,
    Positive,
    Section,
    Share,
    described,
)


class TraceSection(Section):
    """A trace file: its rows' lengths and, unless `arrivals` says otherwise, their times."""

    file: FilePath = described(
        "Path to the trace, relative to the fleet file's folder or to the data folder.",
        "traces/azure2023_code.csv.gz", default=...)
    format: Literal["auto", "csv", "azure", "mooncake", "burstgpt"] = described(
        "Layout of the file; auto tells by its columns.", "auto", default="auto")
    arrivals: NamedChoice = described(
        "own keeps the trace's times; any other arrival process draws new ones.", "own",
        {"name": "gamma", "cv": 2.0}, default="own")
    scale: Positive = described(
        "Factor on the trace's own arrival rate: 2 makes it arrive twice as fast.", 1.5,
        default=1.0)
    num_requests: Count | None = described("Take this many rows.", 5000)
    shuffle: bool = described("Take rows in random order (lengths only, times stay).", True,
                              default=False)


class TrafficSection(Section):
    """Requests of one model, from a trace or drawn from lengths and an arrival process."""

    model: Name | None = described("Model asked for; may be left out when there is only one.",
                                   "llama-3-8b")
    mix: dict[Name, Share] | None = described(
        "Share of each service class; shares sum to 1. May be left out with a single class.",
        {"interactive": 0.34, "batch": 0.66})
    tenants: dict[Name, Share] | None = described(
        "Share of each tenant; shares sum to 1.", {"acme": 0.8, "umbrella": 0.2})
    trace: Annotated[AsName | Annotated[TraceSection, Tag(SETTINGS_TAG)],
                     NAME_OR_SETTINGS] | None = described(
        "A shipped table of lengths by name (arrivals are drawn), or a trace file.",
        "azure-2023-code", {"file": "trace.csv", "arrivals": "own"})
    lengths: NamedChoice | None = described(
        "Distribution of prompt and output lengths, in place of `trace`.",
        "azure-2023-conv", {"name": "fixed", "prompt_tokens": 512, "output_tokens": 128})
    arrivals: NamedChoice | None = described(
        "Arrival process: poisson, gamma, bursty, ramp, square or diurnal.", "poisson",
        {"name": "gamma", "cv": 2.0})
    rate_per_s: Positive | None = described("Mean arrival rate, requests per second.", 3.5)
    num_requests: Count | None = described("Stop after this many requests.", 1500)
    duration_s: Positive | None = described("Stop after this many seconds.", 600)
    start_s: CountOrZero = described("When this traffic starts, seconds.", 0, default=0)
    max_tokens: Count | None = described(
        "Output tokens that a request may ask for at most; its output ends there.", 1024)
