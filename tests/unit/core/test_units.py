"""Times as whole picoseconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.units import PS_PER_S, to_ps


@given(st.one_of(st.floats(-1e15, 1e15), st.floats(-1e-9, 1e-9),
                 st.integers(-10_000, 10_000).map(lambda halves: halves * 0.5e-12)))
def test_seconds_are_rounded_like_round(seconds: float) -> None:
    assert to_ps(seconds) == round(seconds * PS_PER_S)


@pytest.mark.parametrize(("seconds", "error"), [(float("nan"), ValueError),
                                                (float("inf"), OverflowError)])
def test_what_is_no_time_is_refused(seconds: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        to_ps(seconds)
