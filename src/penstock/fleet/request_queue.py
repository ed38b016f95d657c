"""Questions about one replica as a queue: `penstock lab queue` and ``/v1/queue``."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from penstock.fleet.fields import MOST, WHOLE, NotNegative, Section, described
from penstock.perf.queueing.parameters import DEFAULT_STEP_TOKENS, MAX_BATCH, MAX_QUEUE
from penstock.registry.sources import QUEUE_MODES


def _known(mode: Any) -> Any:
    if not isinstance(mode, str) or not QUEUE_MODES.knows(mode):
        raise PydanticCustomError("literal_error", "unknown mode",
                                  {"expected": ", ".join(QUEUE_MODES.names())})
    return mode


def _listed(schema: dict[str, Any]) -> None:
    schema["enum"] = list(QUEUE_MODES.names())


Mode = Annotated[str, Field(json_schema_extra=_listed), BeforeValidator(_known)]

StepTokens = Annotated[int, Field(ge=1, le=MOST), WHOLE]
MaxBatch = Annotated[int, Field(ge=1, le=MAX_BATCH), WHOLE]
MaxQueue = Annotated[int, Field(ge=0, le=MAX_QUEUE), WHOLE]
MeanAnswer = Annotated[float, Field(ge=1, le=MOST, allow_inf_nan=False)]
OpenPercentile = Annotated[float, Field(gt=0, lt=100, allow_inf_nan=False)]


class StepTimes(Section):
    """How long a step takes. ``delta_ms`` selects the first generation of parameters."""

    alpha_ms: NotNegative = described("Time of a step before any work, ms.", 8, default=...)
    beta_ms: NotNegative = described(
        "ms per token computed; with delta, per request in the batch.", 0.033, default=...)
    gamma_ms: NotNegative = described(
        "ms per KV token read; with delta, time of a prefill before any work.", 0.000333,
        default=0.0)
    delta_ms: NotNegative | None = described(
        "ms per prompt token and request in the batch: first-generation parameters.", 0.01)
    max_step_tokens: StepTokens = described(
        "Token budget of a step, for second-generation parameters.", 2048,
        default=DEFAULT_STEP_TOKENS)


class QueueTargets(Section):
    """Targets of a replica; a target that is left out is not required."""

    ttft_ms: NotNegative | None = described("Target for TTFT, ms.", 60)
    itl_ms: NotNegative | None = described("Target for ITL, ms.", 20)
    tokens_per_s: NotNegative | None = described("Output tokens per second to reach.", 1000)
    percentile: OpenPercentile | None = described(
        "Percentile of the targets, such as 99; default: means (mode penstock).", 99)


class QueueQuestion(Section):
    """One replica as a queue."""

    mode: Mode = described(
        "penstock: percentiles, KV memory, no losses; or inferno: llm-inferno's published "
        "calculation.", "inferno", default="penstock")
    times: StepTimes = described("Times of a step.", {"alpha_ms": 8, "beta_ms": 0.033}, default=...)
    input_tokens: NotNegative = described("Mean prompt length, tokens.", 256, default=...)
    output_tokens: MeanAnswer = described("Mean output length, tokens.", 1024, default=...)
    max_batch: MaxBatch = described(
        "Most requests in service; for optimize the largest limit to try.", 64, default=...)
    max_queue: MaxQueue = described(
        "Most waiting requests; others are lost (mode inferno).", 128, default=0)
    kv_tokens: NotNegative | None = described(
        "Size of the KV cache in tokens (mode penstock).", 20_000)
    arrivals_scv: NotNegative = described(
        "Squared coefficient of variation of gaps between arrivals (mode penstock).", 2,
        default=1.0)
    prompt_scv: NotNegative = described("The same of prompts.", 0.5, default=0.0)
    output_scv: NotNegative = described("The same of answers.", 0.5, default=0.0)


class QueueAtRate(QueueQuestion):
    """One replica at a rate."""

    rate_per_s: NotNegative = described("Requests per second.", 1.5, default=...)


class QueueUnderTargets(QueueQuestion):
    """One replica that keeps targets."""

    targets: QueueTargets = described("Targets to keep.", {"ttft_ms": 60, "itl_ms": 20},
                                      default=...)
