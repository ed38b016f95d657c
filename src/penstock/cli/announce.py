"""First words of a server: where it listens, and which engines cannot serve."""

import sys
from collections.abc import Iterable
from time import monotonic
from typing import Any

from penstock.cli.console import note, print_json
from penstock.engines.client.state import EngineState


def announce(document: dict[str, Any], line: str, *, as_json: bool) -> None:
    """Print the document, or the line for people, at once: somebody may wait for it."""
    if as_json:
        print_json(document)
    else:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def note_unavailable(engines: Iterable[EngineState]) -> None:
    """Note why an engine may get no request now, for each such engine."""
    for engine in engines:
        if reason := engine.unavailable(monotonic()):
            note(f"engine {engine.facts.url} {reason}")
