"""Colours of pages, in the order in which series take them."""

from collections.abc import Sequence

# Distinct for colour-blind readers and legible on white and on near-black.
PALETTE = ("#3f7de0", "#e08214", "#159a80", "#b457b0", "#c9a400", "#6b7a90")
NEUTRAL = "#8a94a6"


def series_colour(place: int) -> str:
    """The colour of a series by its place."""
    return PALETTE[place % len(PALETTE)]


def series_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, in order."""
    return {name: series_colour(place) for place, name in enumerate(names)}
