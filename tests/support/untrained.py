"""An embedder and a forecaster that have seen no prompt yet."""

from collections.abc import Sequence

import numpy as np

from penstock.predict.embed.hashed import HashedNgrams
from penstock.predict.embed.hashing import NUM_TEXT_FEATURES
from penstock.predict.embed.protocol import Embedder
from penstock.predict.prompts.forecaster import Prior, PromptForecaster


def untrained_hashed(rng: np.random.Generator, num_dimensions: int = 256,
                     num_buckets: int = 8192) -> HashedNgrams:
    """No weights, a random projection."""
    projection = rng.standard_normal((num_buckets, num_dimensions)) / np.sqrt(num_dimensions)
    return HashedNgrams(np.ones(num_buckets, np.float32), projection.astype(np.float32),
                        np.zeros(NUM_TEXT_FEATURES), np.ones(NUM_TEXT_FEATURES), text_weight=0.0)


def forecaster_of(embedder: Embedder, models: Sequence[str]) -> PromptForecaster:
    """A forecaster that learns from nothing but what it observes."""
    return PromptForecaster(embedder, {model: Prior() for model in models})
