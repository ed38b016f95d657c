"""What is installed with the package, what with its extras, and what says so."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from penstock.core.errors import missing_extra

SERVING = ("aiohttp", "prometheus-client", "sqlalchemy", "uvloop")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def test_serving_needs_no_extra(project) -> None:
    named = {re.split(r"[>=<; ]", one)[0] for one in project["dependencies"]}
    assert named.issuperset(SERVING)
    assert project["optional-dependencies"]["serve"] == [], "the old name still installs"


def test_messages_name_extras_that_there_are(repository, project) -> None:
    told = {name: path for path in (repository / "src").rglob("*.py")
            for name in re.findall(r'missing_extra\([^,]*,\s*"([^"]+)"', path.read_text())}
    assert len(told) > 5
    assert set(told) <= set(project["optional-dependencies"])


def test_a_message_names_the_command() -> None:
    error = missing_extra("--traces", "otel", ImportError("No module named 'opentelemetry'"))
    assert str(error).endswith("pip install '.[otel]'")
    assert "No module named 'opentelemetry'" in str(error)


def test_nothing_is_asked_of_a_package_index_by_a_name_that_it_lacks(repository) -> None:
    pages = [*(repository / "src").rglob("*.py"), *(repository / "docs").rglob("*.md"),
             repository / "README.md", repository / ".ci" / "run", repository / ".ci" / "engines"]
    wrong = [str(page) for page in pages
             if re.search(r"pip install (-\S+ )*'?penstock\b", page.read_text())]
    assert not wrong


def test_help_imports_no_server() -> None:
    script = ("import sys\nfrom penstock.cli.main import main\nmain(['--help'])\n"
              "found = {'aiohttp', 'prometheus_client', 'sqlalchemy', 'uvloop', 'numpy'} "
              "& set(sys.modules)\nsys.exit(f'imported {found}' if found else 0)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
