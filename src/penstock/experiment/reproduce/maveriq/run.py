"""All that is recomputed of MaverIQ."""

from pathlib import Path

from penstock.experiment.reproduce.figures import Options, Reproduction
from penstock.experiment.reproduce.maveriq.estimators import our_figures, published_figures


def reproduce_maveriq(data: Path, options: Options) -> Reproduction:
    """MaverIQ's estimators as published and ours on models left out, from its released tables.

    Raises InputError for a folder without them.
    """
    options.on_progress("MaverIQ's estimators")
    figures = published_figures(data)
    options.on_progress("ours, every model left out in turn")
    figures += our_figures(data)
    return Reproduction("maveriq", tuple(figures))
