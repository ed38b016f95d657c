"""Columns of names, drawn by share or taken from a trace."""

from collections.abc import Mapping

import numpy as np

from penstock.workload.lengths import LengthPairs
from penstock.workload.trace import Labels, Trace


def named(rng: np.random.Generator, column: str, shares: Mapping[str, float],
          pairs: LengthPairs, trace: Trace | None) -> Labels:
    """Names drawn by share; without shares the trace's own column, or ``default`` throughout."""
    num = len(pairs.prompt_tokens)
    if not shares:
        own: Labels | None = getattr(trace, column, None)
        if own is not None and pairs.rows is not None:
            return own.take(pairs.rows)
        return Labels(("" if column == "model" else "default",), np.zeros(num, np.int64))
    names = tuple(shares)
    if len(names) == 1:
        return Labels(names, np.zeros(num, np.int64))
    upper = np.cumsum([shares[name] for name in names])
    index = np.searchsorted(upper[:-1], rng.random(num) * upper[-1], "right")
    return Labels(names, index.astype(np.int64))
