"""Two embedders side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.predict.embed.hashed import unit_rows
from penstock.predict.embed.protocol import Embedder, Vectors


@dataclass(frozen=True, slots=True)
class JoinedEmbedder:
    """Vectors of both parts after each other, scaled to length 1: a cosine is their parts' mean.

    Words that prompts share and what sentences mean err differently, so together they tell more.
    """

    first: Embedder
    second: Embedder

    @property
    def name(self) -> str:
        return f"{self.first.name}+{self.second.name}"

    @property
    def num_dimensions(self) -> int:
        return self.first.num_dimensions + self.second.num_dimensions

    def embed(self, prompts: Sequence[str]) -> Vectors:
        return unit_rows(np.hstack([self.first.embed(prompts), self.second.embed(prompts)]))
