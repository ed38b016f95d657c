"""The contract of a profiled engine: one model at a time, one batch at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from penstock.perf.profiles.points import ModelConfiguration


class OutOfMemoryError(Exception):
    """A model or a batch does not fit; the text says into what."""


@dataclass(frozen=True, slots=True)
class Room:
    """Room that an engine must provide: sequences at once, tokens of the longest sequence (prompt
    and answer), and tokens of all sequences at once; None leaves the last to the engine."""

    max_batch: int
    max_sequence_tokens: int
    kv_tokens: int | None


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """When a batch's tokens came, in seconds since it was handed in.

    ``first_token_s`` and ``end_s`` are of the request that was last. ``step_s`` are the durations
    of the steps after all requests had their first token. ``num_prefill_steps`` is how many steps
    came before that, None where it cannot be seen.
    """

    first_token_s: float
    end_s: float
    step_s: tuple[float, ...]
    num_prefill_steps: int | None

    @property
    def decode_step_s(self) -> float | None:
        """The middle one of the decode steps, None without any."""
        return median(self.step_s) if self.step_s else None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that all accelerators together hold for the engine, or the process where there is
    none, and the most that it was since the last look; None where it cannot be read.

    ``kv_tokens`` is what the KV cache in it has room for, None where it grows with each batch.
    """

    held_bytes: float | None
    peak_bytes: float | None = None
    kv_tokens: int | None = None


class ProfiledEngine(Protocol):
    """Holds at most one model. Calls come one after the other."""

    def describe(self) -> Mapping[str, Any]:
        """Kind, versions, device, threads: what a measurement is valid for."""

    def most_accelerators(self) -> int:
        """How many accelerators (or processes in their place) a configuration may take."""

    def check(self, configuration: ModelConfiguration) -> None:
        """Raise InputError for what the engine cannot run at all, such as a precision."""

    def prepare(self, configuration: ModelConfiguration) -> Sequence[Path]:
        """Make what ``load`` reads, where it has to be made, and name those files; none where
        weights are drawn in memory."""

    def load(self, configuration: ModelConfiguration, room: Room) -> None:
        """Load a model; nothing else may be loaded. Raises OutOfMemoryError."""

    def unload(self) -> None:
        """Give everything back; harmless when nothing is loaded."""

    def run(self, batch: int, prompt_tokens: int, output_tokens: int) -> BatchTimes:
        """Hand in a batch of equal requests at once and see them through. Raises
        OutOfMemoryError, after which the engine must be loaded anew."""

    def memory(self) -> Memory:
        """Return the memory in use now."""


def batch_times(steps: Sequence[tuple[float, Sequence[int]]], batch: int,
                output_tokens: int) -> BatchTimes:
    """Times of a batch from its engine's steps: when each ended and which requests got a token.

    Raises RuntimeError when a request did not get all its tokens.
    """
    counts = [0] * batch
    first_s = 0.0
    num_prefill_steps = 0
    waiting = batch
    gaps: list[float] = []
    before_s = 0.0
    for end_s, requests in steps:
        if waiting:
            num_prefill_steps += 1
            waiting -= sum(counts[number] == 0 for number in requests)
            first_s = end_s
        else:
            gaps.append(end_s - before_s)
        for number in requests:
            counts[number] += 1
        before_s = end_s
    if counts != [output_tokens] * batch:
        raise RuntimeError(f"the engine gave {sorted(set(counts))} tokens to each request; "
                           f"{output_tokens} were asked of it")
    return BatchTimes(first_s, before_s, tuple(gaps), num_prefill_steps)
