"""``penstock lab``: what researchers use; each command has a module of its own."""

import typer

from penstock.cli.lazy import LabGroup

app = typer.Typer(cls=LabGroup, add_completion=False)


@app.callback(epilog="Example: penstock lab reproduce niyama\n"
                     "`penstock lab COMMAND --help` shows a command's options.")
def _lab() -> None:
    """Research: published systems, predictors, journals and single models."""
