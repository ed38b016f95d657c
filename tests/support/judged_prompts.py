"""Prompts with known answers: two topics, on which two models differ."""

import numpy as np

from penstock.predict.prompts.rows import PromptRows

MODELS = ("small", "large")
TOPICS = {"sums": ("add the numbers {} and {} and show every step", 20.0, (0.3, 0.9)),
          "poems": ("write a gentle poem about a {} beside the {}", 200.0, (0.8, 0.8))}
WORDS = ("river", "mountain", "harbour", "orchard", "lantern", "meadow", "engine", "violin")


def prompt_of(topic: str, rng: np.random.Generator) -> str:
    words = rng.choice(WORDS, 2) if topic == "poems" else rng.integers(10, 99, 2)
    return TOPICS[topic][0].format(*words)


def prompt_rows(num_rows: int, seed: int = 0) -> PromptRows:
    """Half of them sums, which the large model does better; poems are ten times as long."""
    rng = np.random.default_rng(seed)
    topics = [("sums", "poems")[place % 2] for place in range(num_rows)]
    means = np.array([[TOPICS[topic][1], 1.5 * TOPICS[topic][1]] for topic in topics])
    tokens = np.round(means * rng.lognormal(0.0, 0.3, means.shape))
    quality = rng.random(means.shape) < [TOPICS[topic][2] for topic in topics]
    return PromptRows(tuple(prompt_of(topic, rng) for topic in topics), MODELS, tokens,
                      quality.astype(float))
