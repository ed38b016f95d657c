"""What a new contributor starts from fits the code."""

import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_the_lock_file_has_all_that_development_needs() -> None:
    groups = PROJECT["dependency-groups"]
    wanted = [Requirement(one) for one in (*PROJECT["project"]["dependencies"], *groups["test"],
                                           *groups["lint"])]
    lines = (REPOSITORY / "requirements-dev.lock").read_text().splitlines()
    locked = {canonicalize_name(one.name): one for one in map(
        Requirement, (line.removesuffix("\\") for line in lines
                      if not line.startswith(("#", "    --hash="))))}
    for one in wanted:
        pinned = str(locked[canonicalize_name(one.name)].specifier).removeprefix("==")
        assert one.specifier.contains(pinned), f"{one} against {pinned}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_what_pages_name_is_there(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    paths = [path for path in re.findall(r"`([\w.]+/[\w./-]+)`", text)
             if not path.startswith("runs/")]
    assert links
    for place in links + paths:
        bases = (REPOSITORY, REPOSITORY / "src" / "penstock")
        assert any((base / place).exists() for base in bases), place


def test_hooks_and_container_are_well_formed() -> None:
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    (repository,) = hooks["repos"]
    assert repository["repo"] == "local", "nothing is downloaded"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    container = json.loads((REPOSITORY / ".devcontainer/devcontainer.json").read_text())
    assert "--group dev" in container["postCreateCommand"]


def test_entries_of_the_changelog_fit_a_line() -> None:
    lines = (REPOSITORY / "CHANGELOG.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("## "))
    for number, line in enumerate(lines[start:], start + 1):
        assert not line or line.startswith(("## ", "### ", "- ")), f"line {number} goes on"
        assert len(line) <= 100, f"line {number} has {len(line)} characters"


def test_the_version_is_the_latest_that_the_changelog_releases() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", text, re.M)[0] == \
        PROJECT["project"]["version"]


def test_every_mutant_finds_its_passage_and_its_tests() -> None:
    found = runpy.run_path(str(REPOSITORY / "benchmarks" / "mutants.py"))
    for mutant in found["MUTANTS"]:
        source = REPOSITORY / "src" / found["source_of"](mutant.module)
        assert source.read_text().count(mutant.old) == 1, mutant.name
        assert all((REPOSITORY / test).exists() for test in mutant.tests), mutant.name
