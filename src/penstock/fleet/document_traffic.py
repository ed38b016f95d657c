"""A traffic entry in the fleet file: lengths, arrivals, classes."""

from typing import Annotated, Literal

from pydantic import Field, Tag

from penstock.fleet.document_adapters import TrafficAdaptersSection
from penstock.fleet.fields import (
    NAME_OR_SETTINGS,
    SETTINGS_TAG,
    AsName,
    ColumnName,
    Correlation,
    Count,
    FilePath,
    Name,
    NotNegative,
    Positive,
    Section,
    Share,
    ShareOrZero,
    described,
)

ArrivalName = Literal["poisson", "gamma", "constant", "bursty", "ramp", "square", "hourly",
                      "diurnal", "closed", "sessions"]


ClockUnit = Literal["s", "ms", "us", "ns", "iso"]


class ArrivalsSection(Section):
    """An arrival process. Its mean rate is the traffic entry's `rate_per_s`. In a closed loop, a
    fixed number of clients sends requests, each its next once its last has ended."""

    name: ArrivalName = described("Kind of process.", "gamma", default=...)
    gap_cv: NotNegative | None = described(
        "Coefficient of variation of the gaps between arrivals; 1 is Poisson (required by gamma, "
        "allowed for changing rates).", 2.0)
    gap_cap: Positive | None = described("Longest gap, in mean gaps.", 8)
    exact_rate: bool | None = described(
        "Whether exactly the expected number of requests arrives.", True)
    on_s: Positive | None = described("Mean length of a burst, seconds (bursty).", 20)
    off_s: Positive | None = described("Mean time between bursts, seconds (bursty).", 60)
    off_share: ShareOrZero | None = described(
        "Rate between bursts as a share of the rate in them (bursty).", 0.1)
    start: NotNegative | None = described("Relative rate at the beginning (ramp).", 1)
    end: NotNegative | None = described("Relative rate at the end and ever after (ramp).", 5)
    over_s: Positive | None = described("How long the rate changes, seconds (ramp).", 600)
    low: NotNegative | None = described("Lower relative rate (square).", 1)
    high: NotNegative | None = described("Higher relative rate (square).", 3)
    low_s: Positive | None = described("How long the rate is low, seconds (square).", 900)
    high_s: Positive | None = described("How long the rate is high, seconds (square).", 900)
    rates: list[NotNegative] | None = described("Relative rates, one per hour (hourly).",
                                                [1, 2, 4, 2])
    hour_s: Positive | None = described("How long an hour is, seconds (hourly).", 60)
    peak_to_mean: Positive | None = described("Highest rate over mean rate, 1 to 2 (diurnal).",
                                              1.6)
    period_s: Positive | None = described("How long a day is, seconds (diurnal).", 3600)
    peak_at_s: NotNegative | None = described("When the rate is highest, seconds (diurnal).",
                                              1800)
    clients: Count | None = described("Number of clients (closed).", 64)
    think_s: NotNegative | None = described(
        "Mean time between the end of a client's request and its next request, seconds (closed, "
        "sessions).", 2.0)
    think_cv: NotNegative | None = described(
        "Coefficient of variation of think times (closed, sessions).", 1.0)
    sessions_per_s: Positive | None = described(
        "Rate at which sessions begin, as a Poisson process; left out, as in the trace (sessions).",
        0.2)
    ramp_s: NotNegative | None = described(
        "Time over which the clients begin, one after the other, seconds (closed).", 30.0)


ArrivalsChoice = Annotated[AsName | Annotated[ArrivalsSection, Tag(SETTINGS_TAG)],
                           NAME_OR_SETTINGS]


class TokensSection(Section):
    """The distribution of one length; give exactly one of its three forms."""

    fixed: Count | None = described("The same number of tokens always.", 512)
    shares: list[ShareOrZero] | None = described(
        "Shares of a quantile table, rising from 0 to 1.", [0, 0.5, 1])
    tokens: list[Positive] | None = described(
        "Tokens at those shares, never falling; ln(tokens) is interpolated linearly.",
        [10, 400, 8000])
    weights: list[Positive] | None = described(
        "Relative weights of a mixture of lognormals.", [0.7, 0.3])
    mus: list[NotNegative] | None = described("Means of ln(tokens), one per part.", [6.1, 8.0])
    sigmas: list[Positive] | None = described(
        "Standard deviations of ln(tokens), one per part.", [0.8, 0.5])
    max_tokens: Count | None = described("Where the lognormals are cut, tokens.", 8192)


class LengthsSection(Section):
    """Prompt and output lengths drawn from two distributions."""

    prompt: TokensSection = described("Prompt lengths.", {"fixed": 512}, default=...)
    output: TokensSection = described("Output lengths.", {"fixed": 128}, default=...)
    rho: Correlation = described(
        "Correlation of the two (Gaussian copula), -1 to 1.", 0.3, default=0.0)


class TraceSection(Section):
    """A trace file: its rows' lengths and, unless `arrivals` says otherwise, their times."""

    file: FilePath = described(
        "Path to the trace, relative to the fleet file's folder or to the data folder.",
        "traces/azure2023_code.csv.gz", default=...)
    format: Name = described("Layout of the file: agentic, aiperf, azure, bailian, burstgpt, csv, "
                             "jsonl, lengths, llmservingsim, mooncake, parquet, sessions or weka; "
                             "auto tells by its columns.", "azure",
                             default="auto")
    arrivals: ArrivalsChoice = described(
        "own keeps the trace's times, where it has them; sessions keeps those of first turns, and "
        "sends each next turn after the answers that it waits for; an arrival process draws new "
        "times.", "own",
        {"name": "gamma", "gap_cv": 2.0}, default="own")
    scale: Positive | None = described(
        "Factor on the trace's own arrival rate: 2 makes it arrive twice as fast.", 1.5)
    num_requests: Count | None = described("Stop after this many requests.", 5000)
    columns: dict[Name, ColumnName] | None = described(
        "Columns that the file calls by other names: Penstock's name, then the file's.",
        {"input_tokens": "input_len", "output_tokens": "output_len", "arrived_at": "ts"})
    clock: ClockUnit | None = described(
        "Unit of the file's times: s, ms, us or ns, or iso for dates; left out, recognised by the "
        "first time.", "ms")
    shuffle: bool = described("Whether rows are taken in random order (not with own times).",
                              True, default=False)


class ClientsSection(Section):
    """Traffic of many clients over days, in ServeGen's form: SET_windows_*.parquet,
    SET_lengths_*.parquet and quantile_levels.json."""

    set: Name = described("Name of the set, with which the files begin.", "m-large", default=...)
    folder: FilePath | None = described(
        "Folder of the files; left out, the fleet file's folder, else the data folder.", "servegen")
    from_s: NotNegative = described("Time in the files at which the traffic begins, seconds.",
                                    86_400, default=0.0)


ReasoningShare = Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)]


class AgentsSection(Section):
    """Sessions of agents, each turn after the answer to the turn before and a tool's or a person's
    time. Prompts grow, and share their beginnings."""

    profile: Name = described("Name of the profile of lengths and times.", "inference-day-2026",
                              default="inference-day-2026")
    sessions_per_s: Positive = described(
        "Rate at which sessions begin, as a Poisson process.", 0.2, default=0.1)
    num_sessions: Count = described("Number of sessions.", 1131, default=100)
    token_scale: Positive = described(
        "Factor on all lengths of the profile, also on the limit of the context.", 0.25,
        default=1.0)
    mean_turns: Positive | None = described(
        "Mean number of turns of a session; left out, the profile's.", 11.6)
    human_share: ShareOrZero | None = described(
        "Share of turns that a person sends; the others follow a tool. Left out, the profile's.",
        0.3)
    reasoning_share: ReasoningShare = described(
        "Share of output tokens that is reasoning before the answer, which later prompts omit; "
        "answers keep the profile's lengths.", 0.7, default=0.0)


class TrafficSection(Section):
    """Requests of one model, from a trace or drawn from lengths and an arrival process."""

    name: Name | None = described("Name in reports; its random draws belong to it.", "chat")
    model: Name | None = described(
        "Model of the requests, or auto to let the router choose; may be left out if there is "
        "only one.", "llama-3-8b")
    mix: dict[Name, Share] | None = described(
        "Share of each service class; shares sum to 1. May be left out with a single class, or "
        "when a trace file has a column of classes.",
        {"interactive": 0.34, "batch": 0.66})
    tenants: dict[Name, Share] | None = described(
        "Share of each tenant; shares sum to 1.", {"acme": 0.8, "umbrella": 0.2})
    adapters: TrafficAdaptersSection | None = described(
        "Adapters (LoRA) of the model that the requests name; left out, those that a trace's "
        "column of models names.", {"zipf": 1.1, "base_share": 0.2},
        {"weights": {"sql-writer": 3, "poet": 1}})
    trace: Annotated[AsName | Annotated[TraceSection, Tag(SETTINGS_TAG)],
                     NAME_OR_SETTINGS] | None = described(
        "A shipped table of lengths by name (arrivals are drawn), or a trace file.",
        "azure-2023-code", {"file": "trace.csv", "arrivals": "own"})
    lengths: Annotated[AsName | Annotated[LengthsSection, Tag(SETTINGS_TAG)],
                       NAME_OR_SETTINGS] | None = described(
        "Prompt and output lengths, instead of `trace`.",
        "azure-2023-conv", {"prompt": {"fixed": 512}, "output": {"fixed": 128}})
    clients: Annotated[AsName | Annotated[ClientsSection, Tag(SETTINGS_TAG)],
                       NAME_OR_SETTINGS] | None = described(
        "Clients with their own rates, gaps and lengths over time, instead of `trace` and "
        "`lengths`; each is a tenant. `rate_per_s` is then the mean over the whole file.",
        "m-large", {"set": "m-large", "folder": "servegen"})
    agents: Annotated[AsName | Annotated[AgentsSection, Tag(SETTINGS_TAG)],
                      NAME_OR_SETTINGS] | None = described(
        "Sessions of agents, instead of `trace`, `lengths` and `clients`.",
        "inference-day-2026", {"sessions_per_s": 0.2, "num_sessions": 500})
    arrivals: ArrivalsChoice | None = described(
        "Arrival process; left out, poisson.", "poisson", {"name": "gamma", "gap_cv": 2.0})
    rate_per_s: Positive | None = described(
        "Mean arrival rate, requests per second; a trace file's own times are scaled to this "
        "rate, or kept if it is left out.", 3.5)
    num_requests: Count | None = described("Stop after this many requests.", 1500)
    duration_s: Positive | None = described("Stop after this many seconds.", 600)
    start_s: NotNegative = described("When this traffic starts, seconds.", 0, default=0.0)
    max_tokens: Count | None = described(
        "Token limit of requests, raised to the longest output of the "
        "lengths; left out, that output.", 1024)
