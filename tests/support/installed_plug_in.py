"""A plug-in that is installed for a test: a module and its metadata in a folder on sys.path."""

from collections.abc import Mapping
from pathlib import Path


def plug_in(folder: Path, name: str, source: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """Write module ``name`` and the metadata of a distribution of that name with ``points``: by
    group, by name, the object."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(
        f"[{group}]\n" + "".join(f"{key} = {target}\n" for key, target in named.items())
        for group, named in points.items()))
