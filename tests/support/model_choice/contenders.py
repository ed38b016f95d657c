"""Ways to score how much a prompt gains from the strong model, each learnt from the same rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.protocol import Embedder, Vectors
from penstock.predict.prompts.forecaster import PromptForecaster
from penstock.predict.prompts.rows import PromptRows
from penstock.predict.prompts.training import train_forecaster
from support.model_choice.rows import ChoiceRows

Values = NDArray[np.float64]
MODELS = ("weak", "strong")


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """Training rows and questions of a contender, without any test row's answers."""

    rows: ChoiceRows
    vectors: Vectors
    asked: ChoiceRows
    asked_vectors: Vectors
    embedder: Embedder
    rng: np.random.Generator
    memo: dict[str, PromptForecaster] = field(default_factory=dict)

    def forecaster(self) -> PromptForecaster:
        """Penstock's, trained on the rows when it is first asked for."""
        if "penstock" not in self.memo:
            rows = PromptRows(self.rows.prompts, MODELS, np.full((len(self.rows), 2), np.nan),
                              np.stack([self.rows.weak, self.rows.strong], axis=1))
            self.memo["penstock"] = train_forecaster(
                rows, self.embedder, self.rng, "knn+ridge", vectors=self.vectors).forecaster
        return self.memo["penstock"]


Contender = Callable[[Lesson], Values]


def random_scores(lesson: Lesson) -> Values:
    """No knowledge: also what any fixed mix of the two models recovers."""
    return lesson.rng.random(len(lesson.asked))


def longest_first(lesson: Lesson) -> Values:
    """The rule of thumb that long prompts are hard."""
    return np.array([float(len(prompt)) for prompt in lesson.asked.prompts])


def routellm_similarity(lesson: Lesson) -> Values:
    """RouteLLM's similarity-weighted ranking: a weighted Bradley-Terry fit per prompt.

    Every training comparison weighs ``10 ** (1 + cosine / largest cosine)``; with two models and
    ties counted as half a win the fit has a closed form, the weighted win rate.
    """
    wins = (1.0 + lesson.rows.strong - lesson.rows.weak) / 2.0
    cosines = lesson.asked_vectors.astype(np.float64) @ lesson.vectors.T.astype(np.float64)
    weights = 10.0 ** (1.0 + cosines / np.maximum(cosines.max(axis=1, keepdims=True), 1e-9))
    found: Values = weights @ wins / weights.sum(axis=1)
    return found


def routellm_factorisation(lesson: Lesson, num_rounds: int = 12, penalty: float = 3.0) -> Values:
    """RouteLLM's matrix factorisation: a win rate that is the logistic of a bilinear score.

    With two models the score's difference is linear in the vector, so it is a logistic regression
    on wins (ties half), here by Newton's method to its optimum.
    """
    wins = (1.0 + lesson.rows.strong - lesson.rows.weak) / 2.0
    rows = np.hstack([lesson.vectors, np.ones((len(lesson.vectors), 1))]).astype(np.float64)
    weights = np.zeros(rows.shape[1])
    ridge = np.full(rows.shape[1], penalty)
    ridge[-1] = 0.0
    for _ in range(num_rounds):
        chance = 1.0 / (1.0 + np.exp(-(rows @ weights)))
        curvature = np.maximum(chance * (1.0 - chance), 1e-6)
        slope = rows.T @ (chance - wins) + ridge * weights
        weights -= np.linalg.solve((rows.T * curvature) @ rows + np.diag(ridge), slope)
    asked = np.hstack([lesson.asked_vectors, np.ones((len(lesson.asked_vectors), 1))])
    found: Values = asked.astype(np.float64) @ weights
    return found


def ten_neighbours(lesson: Lesson) -> Values:
    """RouteBalance's estimator: the ten nearest, weighted ``1 / (1 - cosine + 1e-6)``."""
    gains = lesson.rows.strong - lesson.rows.weak
    found = np.zeros(len(lesson.asked))
    for place, vector in enumerate(lesson.asked_vectors):
        cosines = (lesson.vectors @ vector).astype(np.float64)
        near = np.argpartition(-cosines, 9)[:10]
        weights = 1.0 / (1.0 - np.minimum(cosines[near], 1.0) + 1e-6)
        found[place] = weights @ gains[near] / weights.sum()
    return found


def penstock(lesson: Lesson, linear_share: float | None = None) -> Values:
    """Penstock's forecaster: the difference of the expected qualities.

    ``linear_share`` 0 leaves the neighbours alone, 1 the ridge regression; None is what training
    settles on. All else is the same, so they share one training.
    """
    forecaster = lesson.forecaster()
    if linear_share is not None:
        settings = forecaster.settings
        forecaster.settings = replace(settings, linear_share=linear_share)
        try:
            return _gains(forecaster, lesson)
        finally:
            forecaster.settings = settings
    return _gains(forecaster, lesson)


def _gains(forecaster: PromptForecaster, lesson: Lesson) -> Values:
    found = [forecaster.outlook_of(vector) for vector in lesson.asked_vectors]
    return np.array([of["strong"].forecast.quality - of["weak"].forecast.quality for of in found])


def known_subset(lesson: Lesson) -> Values:
    """A reference that is told each prompt's topic: the topic's mean gain, shrunk towards all."""
    gains = lesson.rows.strong - lesson.rows.weak
    mean, strength = float(gains.mean()), 20.0
    found = {subset: (gains[held].sum() + strength * mean) / (held.sum() + strength)
             for subset in np.unique(lesson.rows.subsets)
             for held in [lesson.rows.subsets == subset]}
    return np.array([found.get(subset, mean) for subset in lesson.asked.subsets])


def oracle(lesson: Lesson) -> Values:
    """A reference that knows the answers: the most that any choice recovers."""
    return lesson.asked.strong - lesson.asked.weak


CONTENDERS: Mapping[str, Contender] = {
    "random / best fixed mix": random_scores,
    "longest prompt first": longest_first,
    "routellm-style, similarity": routellm_similarity,
    "routellm-style, factorisation": routellm_factorisation,
    "routebalance-style, 10 neighbours": ten_neighbours,
    "penstock knn": lambda lesson: penstock(lesson, 0.0),
    "penstock ridge": lambda lesson: penstock(lesson, 1.0),
    "penstock": penstock,
    "told the subset": known_subset,
    "oracle": oracle,
}
