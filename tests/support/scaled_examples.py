"""How many examples Hypothesis draws: one factor for all laws."""

import os
from typing import Any

from hypothesis import settings

EXAMPLES = float(os.environ.get("PENSTOCK_EXAMPLES", "1"))
"""``PENSTOCK_EXAMPLES=10`` draws ten times as many, as a nightly run does."""


def examples(number: int, **more: Any) -> settings:
    """Hypothesis' settings for a law that is drawn ``number`` times in an ordinary run."""
    return settings(max_examples=max(1, round(number * EXAMPLES)), **more)
