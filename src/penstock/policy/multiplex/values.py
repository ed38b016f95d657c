"""Values of model multiplexing: waiting requests, costs of models, actions of a device."""

from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, TypeAlias

from penstock.core.errors import InputError

OVERWRITTEN = "overwritten: the buffer was handed new requests before it ran"
"""Why SINCERE's strategies lose requests; figures count these as lost, not as refused."""


class Queued(NamedTuple):
    """A request for the model with this index. ``deadline_s`` is when its answer should be there;
    ``max_tokens`` matters only where requests join a running batch."""

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

    def seconds(self, num_requests: int) -> float:
        """Return the duration of a batch of so many requests."""
        return self.fixed_s + self.per_request_s * num_requests

    def most_within(self, seconds: float) -> int:
        """The largest batch that ends within ``seconds``; 0 where none does."""
        if self.per_request_s <= 0.0:
            return 2**31 if seconds >= self.fixed_s else 0
        return max(0, int((seconds - self.fixed_s) / self.per_request_s + 1e-9))


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model as policies see it.

    ``size_bytes`` are its weights on a device, ``request_bytes`` what every request of a batch
    needs there beside them, ``batch`` what a batch is believed to take, ``max_batch`` the largest
    that is tried. ``min_share`` is the part of a device's time that the model may claim while its
    requests wait, whatever pays more.
    """

    name: str
    size_bytes: int
    batch: BatchTime
    request_bytes: int = 0
    max_batch: int = 64
    min_share: float = 0.0

    def __post_init__(self) -> None:
        if self.size_bytes < 0 or self.request_bytes < 0:
            raise InputError(f"model {self.name}: bytes below zero")
        if self.max_batch < 1:
            raise InputError(f"model {self.name}: max_batch is {self.max_batch}, expected at least "
                             "1")
        if not 0.0 <= self.min_share <= 1.0:
            raise InputError(f"model {self.name}: min_share is {self.min_share}, expected 0 to 1")


class Load(NamedTuple):
    """Bring a model to the device, after dropping those in ``evict``."""

    model: int
    evict: tuple[int, ...] = ()


class Batch(NamedTuple):
    """Start these requests of a resident model together."""

    model: int
    requests: tuple[Queued, ...]


class Drop(NamedTuple):
    """Take residents that run nothing off the device."""

    models: tuple[int, ...]


class Prefetch(NamedTuple):
    """Read a model into the host's memory, beside whatever runs."""

    model: int


class Shed(NamedTuple):
    """Turn requests away for good."""

    requests: tuple[Queued, ...]
    reason: str


class Wait(NamedTuple):
    """Nothing now. Ask again at ``until_s`` at the latest, sooner if anything ends on the device.

    ``arrivals``: whether to ask when requests arrive, or only for these models. Whom any arrival
    concerns is also asked when something ends elsewhere.
    """

    until_s: float = inf
    arrivals: bool | Collection[int] = True


Action: TypeAlias = Load | Batch | Drop | Prefetch | Shed | Wait
