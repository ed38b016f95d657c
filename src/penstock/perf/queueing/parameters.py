"""Parameters of one replica as a queue: step times, request size, room, and targets."""

import math
from dataclasses import dataclass, fields

from penstock.core.errors import InputError

DEFAULT_STEP_TOKENS = 8192
# Limits of a request for an answer: far beyond any engine, and still quick.
MAX_BATCH = 20_000
MAX_QUEUE = 500_000
MAX_NUMBER = 1e9


def check_non_negative(values: object) -> None:
    """Raise InputError unless every number of a dataclass is finite and not negative."""
    for field in fields(values):  # type: ignore[arg-type]
        value = getattr(values, field.name)
        if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
            raise InputError(f"{field.name}: found {value:g}; expected a number of 0 or more")


@dataclass(frozen=True, slots=True)
class DecodePrefillTimes:
    """Inferno's first generation: one prefill, then decode steps, each linear in the batch.

    With n requests in the batch and prompts of I tokens a prefill takes ``gamma_ms`` +
    ``delta_ms`` I n (nothing when I = 0) and a decode step ``alpha_ms`` + ``beta_ms`` n.
    Source: llm-inferno/optimizer (2025), ``decodeParms`` and ``prefillParms``.
    """

    alpha_ms: float
    beta_ms: float
    gamma_ms: float = 0.0
    delta_ms: float = 0.0

    def __post_init__(self) -> None:
        check_non_negative(self)


@dataclass(frozen=True, slots=True)
class IterationTimes:
    """Inferno's second generation: an iteration is linear in the tokens computed and read.

    An iteration takes ``alpha_ms`` + ``beta_ms`` per token computed + ``gamma_ms`` per token of KV
    cache touched. It computes at most ``max_step_tokens`` tokens, so long prompts are chunked.
    Source: llm-inferno/queue-analysis (2026), ``perfParms``.
    """

    alpha_ms: float
    beta_ms: float
    gamma_ms: float = 0.0
    max_step_tokens: int = DEFAULT_STEP_TOKENS

    def __post_init__(self) -> None:
        check_non_negative(self)
        if self.max_step_tokens < 1:
            raise InputError(f"max_step_tokens: found {self.max_step_tokens}; expected at least 1")


StepParameters = DecodePrefillTimes | IterationTimes


@dataclass(frozen=True, slots=True)
class RequestSize:
    """Mean prompt and answer of a request, in tokens; an answer has at least one token."""

    input_tokens: float
    output_tokens: float

    def __post_init__(self) -> None:
        check_non_negative(self)
        if self.output_tokens < 1:
            raise InputError(f"output_tokens: found {self.output_tokens:g}; expected at least 1")


@dataclass(frozen=True, slots=True)
class Variability:
    """Squared coefficients of variation: gaps between arrivals (1 = Poisson), prompts, answers."""

    arrivals_scv: float = 1.0
    prompt_scv: float = 0.0
    output_scv: float = 0.0

    def __post_init__(self) -> None:
        check_non_negative(self)


POISSON = Variability()
"""Poisson arrivals of equal requests."""


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """One replica as a queue: at most ``max_batch`` in service and ``max_queue`` waiting.

    Arrivals beyond both are lost in mode ``inferno``. Mode ``penstock`` ignores ``max_queue``.
    """

    times: StepParameters
    size: RequestSize
    max_batch: int
    max_queue: int = 0

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise InputError(f"max_batch: found {self.max_batch}; expected at least 1")
        if self.max_queue < 0:
            raise InputError(f"max_queue: found {self.max_queue}; expected 0 or more")
        if not math.isfinite(self.unit_ms):
            raise InputError("step times: too large to work with")
        if self.unit_ms <= 0.0:
            raise InputError("step times: all zero; expected at least one that takes time")

    @property
    def unit_ms(self) -> float:
        """A sum of terms that is positive if and only if a lone request takes any time."""
        times, size = self.times, self.size
        if isinstance(times, DecodePrefillTimes):
            prompt = times.gamma_ms + times.delta_ms * size.input_tokens
            decodes = (times.alpha_ms + times.beta_ms) * (size.output_tokens - 1.0)
            return (prompt if size.input_tokens else 0.0) + decodes
        return times.alpha_ms + times.beta_ms + times.gamma_ms
