"""Features of a latency model: the replica's state when a request was sent, and the request.

RouteBalance's 25 features (its XGBoost predictor, in our names): 17 of state, the prompt, the
*predicted* answer, and six that follow from these. An engine that does not say some of them gives a
model that does without; the true output length is not among them and never may be.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Columns = Mapping[str, Values]

REQUEST = ("prompt_tokens", "predicted_output_tokens")
STATE = ("decode_tokens_per_s", "prefill_tokens_per_s", "decode_step_ms", "decode_context_p50",
         "decode_context_p95", "decode_context_max", "num_running", "num_decoding", "num_waiting",
         "pending_prefill_tokens", "pending_decode_tokens", "step_budget_tokens",
         "prefill_chunk_tokens", "max_num_seqs", "kv_use", "kv_free_blocks", "evictions_per_s")


def _ratio(top: Values, bottom: Values) -> Values:
    """0 where nothing is known of the bottom yet."""
    found: Values = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0.0)
    return found


_Derive = Callable[[Columns], Values]
# Name -> what it needs, and how it follows.
DERIVED: Mapping[str, tuple[tuple[str, ...], _Derive]] = {
    "mean_context_tokens": (REQUEST, lambda c: c["prompt_tokens"] + np.maximum(
        c["predicted_output_tokens"] - 1.0, 0.0) / 2.0),
    "final_context_tokens": (REQUEST, lambda c: c["prompt_tokens"] + np.maximum(
        c["predicted_output_tokens"] - 1.0, 0.0)),
    "backlog_s": (
        ("pending_prefill_tokens", "prefill_tokens_per_s", "pending_decode_tokens",
         "decode_tokens_per_s"),
        lambda c: _ratio(c["pending_prefill_tokens"], c["prefill_tokens_per_s"])
        + _ratio(c["pending_decode_tokens"], c["decode_tokens_per_s"])),
    "own_prefill_s": (("prompt_tokens", "prefill_tokens_per_s"),
                      lambda c: _ratio(c["prompt_tokens"], c["prefill_tokens_per_s"])),
    "own_decode_s": (("predicted_output_tokens", "decode_tokens_per_s"),
                     lambda c: _ratio(c["predicted_output_tokens"], c["decode_tokens_per_s"])),
    "context_spread": (("decode_context_max", "decode_context_p95"),
                       lambda c: _ratio(c["decode_context_max"], c["decode_context_p95"])),
}
FEATURES = (*REQUEST, *STATE, *DERIVED)


def features_of(columns: Sequence[str]) -> tuple[str, ...]:
    """The features that these columns give, in the order of ``FEATURES``."""
    given = set(columns)
    derived = {name for name, (needs, _) in DERIVED.items() if given.issuperset(needs)}
    return tuple(name for name in FEATURES if name in given or name in derived)


def feature_matrix(columns: Columns, features: Sequence[str]) -> Values:
    """Rows by ``features``; what is derived is computed, gaps (NaN) of the state count as 0."""
    filled = {name: np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
              for name, values in columns.items()}
    found = [DERIVED[name][1](filled) if name in DERIVED else filled[name] for name in features]
    return np.stack(found, axis=1)


def windows(matrix: Values, replicas: Sequence[str], length: int) -> Values:
    """For each row, itself and the ``length - 1`` rows of its replica before it, the oldest first.

    Shape (rows, length, features); rows are in order of time. A replica's first rows repeat its
    first one. So a model sees how the queue came to be what it is, as a live router could.
    """
    found = np.empty((len(matrix), length, matrix.shape[1]))
    places: dict[str, list[int]] = {}
    for row, replica in enumerate(replicas):
        held = places.setdefault(replica, [])
        held.append(row)
        recent = held[-length:]
        found[row] = matrix[[recent[0]] * (length - len(recent)) + recent]
    return found
