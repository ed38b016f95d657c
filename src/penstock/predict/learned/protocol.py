"""The contract of a model learnt from collected rows."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.predict.learned.features import Values

LATENCY_TARGETS = ("ttft_s", "tpot_s", "e2e_s")
MEMORY_TARGETS = ("mean_kv_use",)


class LatencyModel(Protocol):
    """Predicts what one request will take, from rows of features."""

    kind: ClassVar[str]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in order."""

    @property
    def targets(self) -> tuple[str, ...]:
        """``LATENCY_TARGETS``, or ``MEMORY_TARGETS``: the mean share of a replica's KV cache in use
        while the request is there."""

    @property
    def window(self) -> int:
        """How many rows of its replica the model looks at, the request's own included."""

    def predict(self, rows: Values) -> Values:
        """``rows`` is (requests, window, features), see ``features.windows``; (requests, targets),
        0 or more. A model with a window of 1 uses the last place of any window."""

    def state(self) -> tuple[Mapping[str, Any], Mapping[str, NDArray[np.generic]]]:
        """Return the values to save beside features and targets: numbers and texts; arrays."""
