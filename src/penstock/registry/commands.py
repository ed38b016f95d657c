"""Commands of plug-ins. The table of built-in commands is in ``cli/commands.py``."""

from penstock.registry.axis import Axis

PLUGGED_IN = Axis("command", "penstock.command", {})
"""A plug-in's factory returns its Typer app."""
