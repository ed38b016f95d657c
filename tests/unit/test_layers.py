"""The order of the rooms, as pyproject.toml states it, holds in the code."""

import tomllib
from pathlib import Path

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
