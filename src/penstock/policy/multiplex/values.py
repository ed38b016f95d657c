"""Values of model multiplexing: waiting requests, costs of models, actions of a device."""

from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, TypeAlias

from penstock.core.errors import InputError
from penstock.core.value import made_again

OVERWRITTEN = "overwritten: the buffer was handed new requests before it ran"
"""Why SINCERE's strategies lose requests; figures count these as lost, not as refused."""


class Queued(NamedTuple):
    """A request for the model with this index. ``deadline_s`` is the time by which its answer is
    due. ``max_tokens`` matters only where requests join a running batch."""

    request_id: int
    model: int
    arrival_s: float
    deadline_s: float = inf
    prompt_tokens: int = 0
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class BatchTime:
    """Seconds of a batch of n requests: ``fixed_s + per_request_s * n``."""

    fixed_s: float
    per_request_s: float

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)

    def seconds(self, num_requests: int) -> float:
        """Return the duration of a batch of this many requests."""
        return self.fixed_s + self.per_request_s * num_requests

    def most_within(self, seconds: float) -> int:
        """Return the largest batch that ends within ``seconds``, 0 where none does."""
        if self.per_request_s <= 0.0:
            return 2**31 if seconds >= self.fixed_s else 0
        return max(0, int((seconds - self.fixed_s) / self.per_request_s + 1e-9))


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model as policies see it.

    ``size_bytes`` are its weights on a device, ``request_bytes`` the further memory of every
    request of a batch, ``batch`` the believed batch time, ``max_batch`` the largest allowed batch.
    ``min_share`` is the share of a device's time that the model may claim while its requests wait,
    even if other models are worth more.
    """

    name: str
    size_bytes: int
    batch: BatchTime
    request_bytes: int = 0
    max_batch: int = 64
    min_share: float = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)

    def __post_init__(self) -> None:
        if self.size_bytes < 0 or self.request_bytes < 0:
            raise InputError(f"model {self.name}: bytes below zero")
        if self.max_batch < 1:
            raise InputError(f"model {self.name}: max_batch is {self.max_batch}, expected at least "
                             "1")
        if not 0.0 <= self.min_share <= 1.0:
            raise InputError(f"model {self.name}: min_share is {self.min_share}, expected 0 to 1")


class Load(NamedTuple):
    """Load a model on the device, after dropping those in ``evict``."""

    model: int
    evict: tuple[int, ...] = ()


class Batch(NamedTuple):
    """Start these requests of a resident model together."""

    model: int
    requests: tuple[Queued, ...]


class Drop(NamedTuple):
    """Drop idle residents from the device."""

    models: tuple[int, ...]


class Prefetch(NamedTuple):
    """Read a model into host memory while other models run."""

    model: int


class Shed(NamedTuple):
    """Reject requests for good."""

    requests: tuple[Queued, ...]
    reason: str


class Wait(NamedTuple):
    """Do nothing now. The policy is asked again at ``until_s`` at the latest, sooner if anything
    ends on the device.

    ``arrivals`` says whether to ask again when requests arrive, for any model (True) or for these
    models. With True, the policy is also asked when something ends on another device.
    """

    until_s: float = inf
    arrivals: bool | Collection[int] = True


Action: TypeAlias = Load | Batch | Drop | Prefetch | Shed | Wait
