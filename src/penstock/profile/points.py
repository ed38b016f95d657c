"""Points to measure: each a batch of equal requests in one configuration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from penstock.perf.profiles.points import ModelConfiguration, point_key
from penstock.perf.profiling.protocol import Room


@dataclass(frozen=True, slots=True)
class Point:
    """``batch`` requests at once, each with a prompt and an answer of so many tokens."""

    configuration: ModelConfiguration
    batch: int
    prompt_tokens: int
    output_tokens: int

    @property
    def key(self) -> str:
        """As ``Measurement.key`` of what is measured here."""
        return point_key("batch", self.configuration, self.batch, self.prompt_tokens,
                         self.output_tokens)

    @property
    def kv_tokens(self) -> int:
        """Tokens that the cache holds in the end."""
        return self.batch * (self.prompt_tokens + self.output_tokens)


def room_for(points: Iterable[Point], kv_tokens: int | None = None) -> Room:
    """Room for each of the points alone, or for as many tokens as stated."""
    found = list(points)
    return Room(max(point.batch for point in found),
                max(point.prompt_tokens + point.output_tokens for point in found),
                max(point.kv_tokens for point in found) if kv_tokens is None else kv_tokens)


def by_configuration(points: Sequence[Point], rng: Random) -> list[list[Point]]:
    """The points of one configuration after those of another, in the order in which these come, and
    shuffled within: a machine that slows down over time must not look like a slow batch size."""
    groups: dict[ModelConfiguration, list[Point]] = {}
    for point in points:
        groups.setdefault(point.configuration, []).append(point)
    for group in groups.values():
        rng.shuffle(group)
    return list(groups.values())
