"""Parameters of a test, some of which are long in Python."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def with_long(values: Iterable[Any], long: Container[Any]) -> list[Any]:
    """Return the values as parameters, those of ``long`` marked so."""
    return [pytest.param(value, marks=[pytest.mark.long] if value in long else [])
            for value in values]
