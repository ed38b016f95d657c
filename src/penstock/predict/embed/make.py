"""Embedders by name."""

from collections.abc import Sequence

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.predict.embed.hashed import HashedNgrams, fit_hashed
from penstock.predict.embed.joined import JoinedEmbedder
from penstock.predict.embed.minilm import MiniLm, load_minilm
from penstock.predict.embed.protocol import Embedder

BOTH = f"{HashedNgrams.name}+{MiniLm.name}"
EMBEDDERS = (HashedNgrams.name, MiniLm.name, BOTH)


def make_embedder(name: str, prompts: Sequence[str], rng: np.random.Generator) -> Embedder:
    """The embedder, trained on the prompts if it is one that learns. Raises InputError."""
    if name not in EMBEDDERS:
        raise InputError(f"embedder {name!r} is unknown{nearest(name, EMBEDDERS)}")
    if name == MiniLm.name:
        return load_minilm()
    # The extra is looked for first: without it there is nothing to train for.
    minilm = load_minilm() if name == BOTH else None
    hashed = fit_hashed(prompts, rng)
    return hashed if minilm is None else JoinedEmbedder(hashed, minilm)
