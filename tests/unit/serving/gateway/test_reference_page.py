"""The page of headers and errors has all of them."""

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.serving.gateway.ask import Offer
from penstock.serving.gateway.openapi import openapi
from penstock.serving.gateway.request_parameters import KINDS

# Where each kind of refusal has its code among its arguments.
CODE_AT = {"ServiceError": 2, "retry_later": 1, "_refused": 1, "_unknown": 1,
           "_come_back": 1, "RefusedError": 1}
FOLDERS = ("serving/adapters", "serving/gateway", "serving/tenants", "serving/multiplex")
INSIDE = {"failed"}  # told as engines_failed


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "reference" / "headers-and-errors.md").read_text()


def codes(repository: Path) -> set[str]:
    found = set()
    source = repository / "src" / "penstock"
    for path in (source / "serving/application.py", source / "serving/overload.py", *(
            path for folder in FOLDERS for path in (source / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) \
                    and len(node.args) > CODE_AT.get(node.func.id, 99):
                code = node.args[CODE_AT[node.func.id]]
                if isinstance(code, ast.Constant):
                    found.add(code.value)
    return found - INSIDE


def test_every_code_of_an_error_is_told(repository: Path, page: str) -> None:
    found = codes(repository)
    assert {"budget_exhausted", "invalid_key", "ledger_unavailable", "no_engine"} <= found
    assert sorted(code for code in found if f"`{code}`" not in page) == []


def test_no_code_is_told_that_is_not_there(repository: Path, page: str) -> None:
    told = {code for row in re.findall(r"^\| \d{3} \| ([^|]*) \|", page, re.MULTILINE)
            for code in re.findall(r"`(\w+)`", row)}
    assert sorted(told - codes(repository)) == []


def test_every_wish_is_told(page: str) -> None:
    assert [name for name, kind in KINDS.items()
            if f"| `{kind.header}` | `{name}` |" not in page] == []


def test_every_path_is_told_and_described(repository: Path, page: str) -> None:
    source = (repository / "src/penstock/serving/gateway/server.py").read_text()
    paths = {path for path in re.findall(r'"(/[^"\s]*)"', source) if path.startswith(("/v1", "/m",
                                                                                    "/h", "/o"))}
    assert len(paths) >= 9
    assert paths <= openapi(Offer({}, {})).get("paths").keys()
    assert [path for path in paths if path.replace("{id}", "ID") not in page] == []
