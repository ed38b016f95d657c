"""How many iterations a prompt takes when a step has a token budget (published rule)."""

from typing import Any

import numpy as np

from penstock.perf.queueing.batch import Array


def batch_limit(num_chunks: Any, input_tokens: Any, output_tokens: Any,
                budget_tokens: Any) -> Array:
    """The largest batch whose mean step fits the budget when prompts come in ``num_chunks`` parts.

    floor((k + O) (M - I/k) / (I + O)), at least 0: over its k + O iterations a request computes
    I + O tokens, and one chunk of I/k stays in reserve. Source: llm-inferno/queue-analysis.
    """
    rate = (num_chunks + output_tokens) * (budget_tokens - input_tokens / num_chunks)
    return np.asarray(np.floor(np.maximum(0.0, rate / (input_tokens + output_tokens))), dtype=float)


def chunk_counts(batch: Array, input_tokens: Any, output_tokens: Any, budget_tokens: Any) -> Array:
    """The least number of chunks per prompt at which ``batch`` requests fit; arrays broadcast.

    The limit is increasing in k, so k is the root of a quadratic; the two neighbours are tried
    with the rule itself, because it rounds down.
    """
    size = input_tokens + output_tokens
    linear = output_tokens * budget_tokens - input_tokens - batch * size
    root = (-linear + np.sqrt(linear**2 + 4.0 * budget_tokens * output_tokens * input_tokens)) / (
        2.0 * budget_tokens)
    count = np.maximum(np.ceil(root), 1.0)
    for _ in range(2):
        fits = batch_limit(count, input_tokens, output_tokens, budget_tokens) >= batch
        fewer = np.maximum(count - 1.0, 1.0)
        fewer_fit = batch_limit(fewer, input_tokens, output_tokens, budget_tokens) >= batch
        count = np.where(fewer_fit, fewer, np.where(fits, count, count + 1.0))
    return np.asarray(count, dtype=float)
