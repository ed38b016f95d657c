"""Observations of prompts: answer length and quality of each prompt on each model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PromptRows:
    """One row per prompt; ``output_tokens`` and ``quality`` (0 to 1) are (prompts, models).

    NaN where a model has not answered a prompt, or nobody has judged the answer.
    """

    prompts: tuple[str, ...]
    models: tuple[str, ...]
    output_tokens: Values
    quality: Values

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, places: Sequence[int] | NDArray[np.intp]) -> "PromptRows":
        """The rows at these places, in this order."""
        return PromptRows(tuple(self.prompts[place] for place in places), self.models,
                          self.output_tokens[places], self.quality[places])
