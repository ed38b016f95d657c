"""How many examples Hypothesis draws: a factor for all laws of a kind."""

import os
from typing import Any

from hypothesis import settings

_ASKED = os.environ.get("PENSTOCK_EXAMPLES")
EXAMPLES = float(_ASKED or 0.1)
"""Factor for laws of tests/properties and tests/parity: ``.ci/run`` draws them again on the native
build with a factor of 1, and a nightly run with 10."""

UNIT_EXAMPLES = float(_ASKED or 0.4)
"""Factor for laws beside unit tests, which nothing draws again."""


def examples(number: int, **more: Any) -> settings:
    """Hypothesis' settings for a law that is drawn ``number`` times on the native build."""
    return _settings(number * EXAMPLES, more)


def unit_examples(number: int, **more: Any) -> settings:
    """Hypothesis' settings for a law in a folder that is not run on the native build."""
    return _settings(number * UNIT_EXAMPLES, more)


def _settings(number: float, more: dict[str, Any]) -> settings:
    return settings(max_examples=max(1, round(number)), **more)
