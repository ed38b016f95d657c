"""Embedders by name."""

from collections.abc import Sequence

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.predict.embed.hashed import HashedNgrams, fit_hashed
from penstock.predict.embed.minilm import MiniLm, load_minilm
from penstock.predict.embed.protocol import Embedder

EMBEDDERS = (HashedNgrams.name, MiniLm.name)


def make_embedder(name: str, prompts: Sequence[str], rng: np.random.Generator) -> Embedder:
    """The embedder, trained on the prompts if it is one that learns. Raises InputError."""
    if name not in EMBEDDERS:
        raise InputError(f"embedder {name!r} is unknown{nearest(name, EMBEDDERS)}")
    return load_minilm() if name == MiniLm.name else fit_hashed(prompts, rng)
