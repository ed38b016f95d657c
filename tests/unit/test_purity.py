"""Decisions are pure: no clock, no random source, no I/O, no logging, no threads, no asyncio.

An allow-list of imports, because the list of impure modules has no end; and a few built-in names.
"""

import ast
from pathlib import Path

import pytest

from penstock.registry.policies import ADMISSIONS, MULTIPLEXERS, PLACERS, ROUTERS, SCHEDULES

MODULES = {"bisect", "collections", "collections.abc", "dataclasses", "enum", "functools", "heapq",
           "itertools", "math", "operator", "typing"}
PACKAGES = ("penstock.core", "penstock.policy", "penstock.predict",
            "penstock.perf.step_time.protocol", "penstock.perf.step_time.calibration",
            "penstock.perf.step_time.decode_times")
# id() and hash() differ from run to run, so no tie may break by them.
BUILTINS = {"__import__", "breakpoint", "compile", "eval", "exec", "globals", "hash", "id", "input",
            "open", "print"}
SYNTAX = (ast.AsyncFor, ast.AsyncFunctionDef, ast.AsyncWith, ast.Await, ast.Global)


AXES = (SCHEDULES, ROUTERS, ADMISSIONS, MULTIPLEXERS, PLACERS)
GUESTS = "penstock.published."


def guests_of(repository: Path) -> list[Path]:
    """Modules of published policies, with what they import of their own folders."""
    source = repository / "src"
    found: dict[str, Path] = {}
    todo = [axis.entry(name).target.partition(":")[0] for axis in AXES for name in axis.names()]
    while todo:
        module = todo.pop()
        path = source / (module.replace(".", "/") + ".py")
        if module.startswith(GUESTS) and module not in found and path.is_file():
            found[module] = path
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    todo += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
    return sorted(found.values())


def own_folder(path: Path, package: Path) -> tuple[str, ...]:
    """The guest's own package, whose policies are held to the same."""
    guests = package / "published"
    return (GUESTS + path.relative_to(guests).parts[0],) if path.is_relative_to(guests) else ()


def pure(module: str, own: tuple[str, ...] = ()) -> bool:
    return module in MODULES or any(module == package or module.startswith(f"{package}.")
                                    for package in (*PACKAGES, *own))


def impurities(source: str, own: tuple[str, ...] = ()) -> list[str]:
    """Line and reason of everything in a module that a decision must not touch."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names if not pure(name.name, own)]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found += [] if pure(module, own) else [(node.lineno, module)]
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
                    package / "perf" / "step_time" / "calibration.py",
                    package / "perf" / "step_time" / "decode_times.py",
                    *guests_of(repository)])
    assert package / "policy" / "schedule" / "replica.py" in files
    assert package / "predict" / "length.py" in files
    assert package / "published" / "sincere" / "policy.py" in files
    assert package / "published" / "routebalance" / "filters.py" in files
    found = {str(path.relative_to(package)):
             impurities(path.read_text(), own_folder(path, package)) for path in files}
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
