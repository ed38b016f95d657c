"""The contract of an embedder: prompts to vectors."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Embeds prompts; the same prompt always becomes the same vector."""

    @property
    def name(self) -> str:
        """Name of the embedder in a saved forecaster."""

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""

    def embed(self, prompts: Sequence[str]) -> Vectors:
        """One row of length 1 per prompt, shape (prompts, dimensions)."""
