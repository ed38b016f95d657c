"""The places where commands compute, within one process: nothing but bytes goes there and back."""

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.experiment.workers import Cores
from support.ray_double import Ray

PLACES = {"one process": ("--jobs", 1), "eight": ("--jobs", 8), "Ray": ("--on", "ray")}


def by_pickles(self: Cores, work: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
    """Stands for processes."""
    if self.num == 1:
        yield from map(work, pieces)
        return
    for piece in pieces:
        work_there, piece_there = pickle.loads(pickle.dumps((work, piece)))
        yield pickle.loads(pickle.dumps(work_there(piece_there)))


def answers(penstock: Callable[..., Any], command: Iterable[object], folder: Path,
            monkeypatch: pytest.MonkeyPatch, *, writes: bool = False,
            processes: bool = False) -> dict[str, tuple[Any, ...]]:
    """Return status, document and files of a command, computed in every place. With ``processes``
    they are real ones; Ray is a double."""
    if not processes:
        monkeypatch.setattr(Cores, "results", by_pickles)
    found = {}
    for place, options in PLACES.items():
        double = Ray(cores=8)
        monkeypatch.setitem(sys.modules, "ray", double)
        monkeypatch.setitem(sys.modules, "ray.exceptions", double.exceptions)
        out = folder / f"out in {place}"
        done = penstock(*command, "--json", *options, *(("--out", out) if writes else ()))
        assert done.status in (0, 1), done.err
        assert (place == "Ray") == bool(double.tasks), "tasks of Ray there alone"
        found[place] = done.status, done.json, {
            str(path.relative_to(out)): path.read_bytes()
            for path in sorted(out.rglob("*")) if path.is_file()}
    return found
