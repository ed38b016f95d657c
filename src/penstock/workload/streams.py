"""Random streams that belong to a name, so that one purpose's draws never disturb another's."""

from hashlib import sha256

import numpy as np


def stream(seed: int, source: str, purpose: str) -> np.random.Generator:
    """The generator of one purpose of one traffic source under ``seed``.

    It depends on nothing else: adding a source or a purpose leaves all other streams alone.
    """
    digest = sha256(f"{source}\0{purpose}".encode()).digest()
    key = tuple(int.from_bytes(digest[i:i + 4], "big") for i in range(0, 16, 4))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
