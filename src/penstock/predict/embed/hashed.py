"""The embedder that needs nothing but numpy: hashed n-grams, weighted and condensed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.hashing import NUM_TEXT_FEATURES, bag_of_ngrams, text_features
from penstock.predict.embed.protocol import Vectors


@dataclass(frozen=True, slots=True, eq=False)
class HashedNgrams:
    """TF-IDF over hashed n-grams, condensed to ``projection``'s columns, and text features beside.

    The projection is a truncated singular value decomposition of the training prompts, so that
    prompts which share no word may still be near (latent semantic analysis: Deerwester et al.,
    JASIS 1990). ``weights`` (buckets) are the inverse document frequencies, ``projection`` is
    (buckets, condensed), ``means`` and ``scales`` (text features) standardise those features;
    ``text_weight`` is their length against the condensed part's 1. Only the first
    ``max_text_chars`` characters count, which bounds the time.
    """

    name: ClassVar[str] = "hashed"
    text_limit: ClassVar[float] = 4.0  # standard deviations; no outlier may fill the vector

    weights: NDArray[np.float32]
    projection: NDArray[np.float32]
    means: NDArray[np.float64]
    scales: NDArray[np.float64]
    text_weight: float = 0.1
    max_words: int = 2
    max_chars: int = 0
    max_text_chars: int = 4096

    @property
    def num_dimensions(self) -> int:
        return int(self.projection.shape[1]) + NUM_TEXT_FEATURES

    def embed(self, prompts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(prompts), self.num_dimensions), np.float32)
        for vector, prompt in zip(vectors, prompts, strict=True):
            text = prompt[:self.max_text_chars]
            vector[:self.projection.shape[1]] = self._condensed(text)
            vector[self.projection.shape[1]:] = self._features(text)
        return unit_rows(vectors)

    def _condensed(self, text: str) -> NDArray[np.float32]:
        buckets, counts = bag_of_ngrams(text, len(self.weights), self.max_words, self.max_chars)
        condensed = (counts * self.weights[buckets]) @ self.projection[buckets]
        unit: NDArray[np.float32] = unit_rows(condensed[None, :])[0]
        return unit

    def _features(self, text: str) -> NDArray[np.float64]:
        standard = (text_features(text) - self.means) / self.scales
        limited = np.clip(standard, -self.text_limit, self.text_limit)
        scaled: NDArray[np.float64] = limited * (self.text_weight / sqrt(NUM_TEXT_FEATURES))
        return scaled


def unit_rows(rows: NDArray[Any]) -> Vectors:
    """The rows scaled to length 1; one without any direction stays nothing."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Vectors = (rows / np.maximum(lengths, 1e-9)).astype(np.float32)
    return scaled


def fit_hashed(prompts: Sequence[str], rng: np.random.Generator, *, num_dimensions: int = 256,
               num_buckets: int = 8192, text_weight: float = 0.1, max_words: int = 2,
               max_chars: int = 0, max_text_chars: int = 4096) -> HashedNgrams:
    """Learn weights and projection from prompts; no labels are used.

    Fewer than ``num_dimensions`` prompts give as many dimensions as there are prompts.
    """
    texts = [prompt[:max_text_chars] for prompt in prompts]
    bags = [bag_of_ngrams(text, num_buckets, max_words, max_chars) for text in texts]
    num_texts = np.zeros(num_buckets)
    for buckets, _ in bags:
        num_texts[buckets] += 1
    weights = (np.log((1 + len(texts)) / (1 + num_texts)) + 1).astype(np.float32)
    features = np.array([text_features(text) for text in texts]).reshape(-1, NUM_TEXT_FEATURES)
    scales = features.std(axis=0) if len(texts) else np.ones(NUM_TEXT_FEATURES)
    means = features.mean(axis=0) if len(texts) else np.zeros(NUM_TEXT_FEATURES)
    return HashedNgrams(weights, _principal(bags, weights, num_dimensions, rng), means,
                        np.where(scales > 1e-9, scales, 1.0), text_weight, max_words, max_chars,
                        max_text_chars)


def _principal(bags: Sequence[tuple[NDArray[np.intp], NDArray[np.float32]]],
               weights: NDArray[np.float32], num_dimensions: int, rng: np.random.Generator,
               num_spare: int = 16, num_rounds: int = 4) -> NDArray[np.float32]:
    """Right singular vectors of the weighted, row-normalised bags, by subspace iteration.

    The randomised method of Halko, Martinsson and Tropp (SIAM Review 2011). Scipy's sparse
    matrices are fast here and are needed only in training.
    """
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    rows = [counts * weights[buckets] for buckets, counts in bags]
    rows = [row / max(float(np.linalg.norm(row)), 1e-9) for row in rows]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    empty = np.empty(0, np.float32)
    table = csr_matrix((np.concatenate([empty, *rows]),
                        np.concatenate([np.empty(0, np.intp), *(bag[0] for bag in bags)]), starts),
                       shape=(len(rows), len(weights)))
    rank = min(num_dimensions, len(rows), len(weights))
    basis = rng.standard_normal((len(weights), min(rank + num_spare, len(weights))))
    for _ in range(num_rounds):
        basis = np.linalg.qr(table.T @ (table @ basis))[0]
    _, _, principal = np.linalg.svd(table @ basis, full_matrices=False)
    found = (basis @ principal.T)[:, :rank]
    # Singular vectors have no sign of their own: make the largest entry positive.
    largest = found[np.argmax(np.abs(found), axis=0), np.arange(found.shape[1])]
    signed: NDArray[np.float32] = (found * np.where(largest < 0, -1.0, 1.0)).astype(np.float32)
    return signed
