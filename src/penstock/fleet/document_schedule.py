"""A scheduling policy in the fleet file: a preset's name and the settings to change."""

from typing import Annotated, Any

from pydantic import ConfigDict, Tag

from penstock.fleet.fields import (
    NAME_OR_SETTINGS,
    SETTINGS_TAG,
    AsName,
    Count,
    CountOrZero,
    Name,
    NotNegative,
    Positive,
    Section,
    Share,
    ShareOrZero,
    described,
)
from penstock.fleet.stock import STOCK
from penstock.policy.schedule.options import ChunkingName, OrderName, RelegationName, ReserveName


class ScheduleSection(Section):
    """Scheduling policy of a replica: the requests of its next step, and how many of their tokens.

    Settings that are left out keep the value of the named policy. A plug-in policy may have further
    settings of its own.
    """

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Any]

    name: Name = described("Policy to start from: penstock, niyama, sarathi, edf, srpf, plas, "
                           "fcfs, orca, or stock: that of the named engine.", "sarathi",
                           default="penstock")
    order: OrderName | None = described("Which waiting request goes first.", "deadline")
    chunking: ChunkingName | None = described(
        "How a step's token budget is found: fixed, whole prompts, Niyama's grid, or solved from "
        "the decodes' deadlines.", "solved")
    relegation: RelegationName | None = described(
        "When a request moves behind all others.", "feasible")
    chunk_tokens: Count | None = described(
        "Fixed budget of one step, decodes included, tokens.", 512)
    max_step_tokens: Count | None = described(
        "Most tokens in a step whose budget is not fixed.", 2048)
    max_num_seqs: Count | None = described("Most sequences that run at once.", 512)
    prefill_first: bool | None = described(
        "Whether decodes wait while any prompt can be processed.", False)
    kv_reserve: ReserveName | None = described(
        "KV cache that a request takes before it starts: room for its prompt, for its answer as "
        "well (max_tokens), or for a chunk; prompt_fits takes a chunk's room if that of the prompt "
        "is free.", "prompt")
    kv_watermark: ShareOrZero | None = described(
        "Share of the KV cache that stays free when a request starts.", 0.01)
    late_results: bool | None = described(
        "Whether a step is planned before the results of the step before are known, so that a "
        "request that ends keeps its KV cache for a step more.", False)
    hybrid_s_per_token: NotNegative | None = described(
        "Seconds of deadline that one remaining prompt token is worth (order hybrid).", 0.008)
    batch_itl_s: Positive | None = described(
        "Token pace assumed for classes that set none, seconds.", 0.4)
    predicted_output_tokens: CountOrZero | None = described(
        "Output length assumed for every request (order hybrid), tokens.", 15)
    safety_factor: Positive | None = described(
        "Factor on predicted step time (chunking grid).", 1.2)
    initial_tokens_per_s: Positive | None = described(
        "Prompt throughput assumed before any is measured (relegation eager).", 8500.0)
    max_decodes: CountOrZero | None = described("Most decodes in a step; 0 means no limit.", 256)
    most_slack_first: bool | None = described(
        "Whether decodes with most slack go first, as in Niyama's artefact.", False)
    slack_spend_fraction: Share | None = described(
        "Share of a request's banked slack that one step may spend.", 0.125)
    time_margin: NotNegative | None = described("Relative margin on predicted step time.", 0.05)
    length_quantile: Share | None = described(
        "Quantile of the predicted output length that plans use.", 0.9)
    review_s: Positive | None = described("Seconds between reviews of feasibility.", 0.25)
    queue_timeout_s: NotNegative | None = described(
        "Seconds past its deadline after which a waiting request is shed.", 60.0)
    starvation_s: Positive | None = described(
        "Seconds for which a request may wait behind those of sessions with less service "
        "(relegation aged).", 300.0)
    adapter_wait_s: NotNegative | None = described(
        "Seconds for which a request waits for its adapter's place before the next free one is "
        "kept for it.", 30.0)
    decodes_may_wait: bool | None = described(
        "Whether decodes with banked slack may skip a step.", True)


ScheduleChoice = Annotated[AsName | Annotated[ScheduleSection, Tag(SETTINGS_TAG)],
                           NAME_OR_SETTINGS]


def named_stock(choice: str | ScheduleSection | None) -> bool:
    """Whether the choice is the engine's own scheduler."""
    return (choice.name if isinstance(choice, ScheduleSection) else choice) == STOCK
