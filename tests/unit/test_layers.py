"""The order of the rooms, as pyproject.toml states it, holds in the code."""

import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

SECTION = "[tool.importlinter]"


def test_imports_keep_the_contracts(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(str(repository / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


def test_a_wrong_order_is_noticed(repository: Path, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    text = (repository / "pyproject.toml").read_text()
    before, after = text.split(SECTION)
    swapped = after.replace('"core",', '"metrics",', 1).replace('"metrics",', '"core",', 1)
    assert swapped != after
    config = tmp_path / "pyproject.toml"
    config.write_text(before + SECTION + swapped)
    assert lint_imports(str(config), no_cache=True) == 1
    assert "penstock.metrics is not allowed to import penstock.core" in capsys.readouterr().out


def test_every_package_has_a_row(repository: Path) -> None:
    config = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c for c in config["contracts"] if c["type"] == "layers")
    rows = {name for row in layers["layers"] for name in row.split(" | ")}
    packages = {path.parent.name for path in (repository / "src/penstock").glob("*/__init__.py")}
    assert rows == packages
    assert layers["exhaustive"]


def circle_of(package: str) -> list[str]:
    """Modules that import each other in a circle, imports inside functions and for types alone
    counted; empty where there are none."""
    graph = grimp.build_graph(package, cache_dir=None)
    try:
        TopologicalSorter({module: graph.find_modules_directly_imported_by(module)
                           for module in graph.modules}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle_of("penstock") == []


@pytest.mark.parametrize("late", [
    "def run():\n    from winding import a\n    return a\n",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from winding import a\n"])
def test_a_circle_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str) -> None:
    package = tmp_path / "winding"
    package.mkdir()
    for name, text in (("__init__", ""), ("a", "import winding.b\n"), ("b", late)):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert set(circle_of("winding")) == {"winding.a", "winding.b"}
    finally:
        sys.modules.pop("winding", None)
