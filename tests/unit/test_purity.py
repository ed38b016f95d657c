"""Decisions are pure: no clock, no random source, no I/O, no logging, no threads, no asyncio.

An allow-list of imports, because the list of impure modules has no end; and a few built-in names.
"""

import ast
from pathlib import Path

import pytest

MODULES = {"bisect", "collections", "collections.abc", "dataclasses", "enum", "functools", "heapq",
           "itertools", "math", "operator", "typing"}
PACKAGES = ("penstock.core", "penstock.policy", "penstock.predict",
            "penstock.perf.step_time.protocol", "penstock.perf.step_time.calibration")
# id() and hash() differ from run to run, so no tie may break by them.
BUILTINS = {"__import__", "breakpoint", "compile", "eval", "exec", "globals", "hash", "id", "input",
            "open", "print"}
SYNTAX = (ast.AsyncFor, ast.AsyncFunctionDef, ast.AsyncWith, ast.Await, ast.Global)


def pure(module: str) -> bool:
    return module in MODULES or any(module == package or module.startswith(f"{package}.")
                                    for package in PACKAGES)


def impurities(source: str) -> list[str]:
    """Line and reason of everything in a module that a decision must not touch."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if not pure(alias.name)]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found += [] if pure(module) else [(node.lineno, module)]
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            found.append((node.lineno, f"{node.id}()"))
        elif isinstance(node, SYNTAX):
            found.append((node.lineno, type(node).__name__))
    return [f"line {line}: {what}" for line, what in sorted(found)]


def test_decisions_are_pure(repository: Path) -> None:
    package = repository / "src" / "penstock"
    # What policies may import of other rooms is held to the same.
    files = sorted([*(package / "policy").rglob("*.py"),
                    package / "predict" / "length.py",
                    package / "predict" / "length_distribution.py",
                    package / "predict" / "prompts" / "conformal.py",
                    package / "perf" / "step_time" / "protocol.py",
                    package / "perf" / "step_time" / "calibration.py"])
    assert package / "policy" / "schedule" / "replica.py" in files
    assert package / "predict" / "length.py" in files
    found = {str(path.relative_to(package)): impurities(path.read_text()) for path in files}
    assert not {name: reasons for name, reasons in found.items() if reasons}


@pytest.mark.parametrize("snippet", [
    "import time", "from time import monotonic", "from datetime import datetime",
    "import random", "from numpy.random import default_rng", "import numpy as np",
    "import secrets", "import uuid", "import os", "from pathlib import Path", "import socket",
    "import logging", "import threading", "import asyncio", "import subprocess", "import warnings",
    "from . import clock",
    "from penstock.workload.workload import Workload",
    "from penstock.perf.step_time.store import load",
    "def plan():\n    import time\n    return time.time()",
    "def plan(path):\n    with open(path) as file:\n        return file.read()",
    "print('planned')", "key = id(object())", "order = hash('a')",
    "__import__('time')", "async def plan(): ...", "def plan():\n    global step\n    step = 1",
])
def test_an_impure_line_is_noticed(snippet: str) -> None:
    assert impurities(snippet)


@pytest.mark.parametrize("snippet", [
    "import heapq", "from collections.abc import Callable", "from math import inf",
    "from penstock.core.step import StepPlan",
    "from penstock.perf.step_time.protocol import StepTimeModel",
    "def plan(now_s):\n    return now_s + 1.0",
])
def test_a_pure_line_is_not(snippet: str) -> None:
    assert impurities(snippet) == []
