"""How many examples Hypothesis draws: one factor for all laws."""

import os
from typing import Any

from hypothesis import settings

EXAMPLES = float(os.environ.get("PENSTOCK_EXAMPLES", "0.4"))
"""0.4 saves a minute of the suite; ``.ci/run`` sets 1 on the native build, a nightly run 10."""


def examples(number: int, **more: Any) -> settings:
    """Hypothesis' settings for a law that is drawn ``number`` times in an ordinary run."""
    return settings(max_examples=max(1, round(number * EXAMPLES)), **more)
