"""The table of docs/architecture.md is true: toys work after touching the files of their rows."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

Edit = str | tuple[str, str]
"""A new file's text, or a line of an existing file and the line that is added before it."""

SCHEDULE = '''"""Newest first."""

from penstock.policy.schedule.parts import SchedulerParts


def toy_newest(settings, context):
    """Later arrivals first, from an hour on."""
    hour_s = settings.get("hours", 1.0) * 3600.0
    return SchedulerParts(order=lambda sequence: hour_s - sequence.request.arrival_s)
'''
ROUTE = '''"""Always the last replica."""

from penstock.core.decision import Route


class ToyLast:
    looks_into_queues = False
    learns = False

    def route(self, request, replicas, now_s):
        return Route(max(replica.replica_id for replica in replicas))

    def ended(self, departure):
        pass


def toy_last(settings, context):
    return ToyLast()
'''
ENGINE = '''"""A toy engine."""

from penstock.engines.engine import Engine


def engine():
    return Engine(called_as="openai")
'''
ACCELERATOR = """  toy-gpu:
    vendor: toys
    memory_gib: 80
    bandwidth_gb_per_s: 2000
    peak_tflops: {fp32: 20, bf16: 300}
    power_w: 400
    link_gb_per_s: 300
    pcie_gb_per_s: 32
    price_per_hour: 1.0
    price_date: "2025-06"
    max_per_node: 8
    confidential: false
    source: a toy shop
"""
COMMAND = '''"""``penstock toy``: a toy."""

import typer

app = typer.Typer(add_completion=False)


@app.command()
def toy() -> int:
    """Play."""
    print("toys are fun")
    return 0
'''
SECTION = '''"""A toy section."""

from penstock.report.html import sections


def toy_section(summary):
    return sections.section("Toys", "How many toys there are: none.")
'''
SRC = "src/penstock/"
TOYS: Mapping[str, Mapping[str, Edit]] = {
    "a scheduling policy": {
        "policy/schedule/toy.py": SCHEDULE,
        "registry/policies.py": (
            "    **{name: Entry(\"penstock.policy.schedule.parts:preset_parts\"",
            "    'toy-newest': Entry('penstock.policy.schedule.toy:toy_newest', "
            "{'hours': Number(0, 9)}, base='sarathi'),")},
    "a routing policy": {
        "policy/route/toy.py": ROUTE,
        "registry/policies.py": ("    \"joint\": Entry(",
                                 "    'toy-last': Entry('penstock.policy.route.toy:toy_last'),")},
    "an engine": {
        "engines/toy/__init__.py": "", "engines/toy/kind.py": ENGINE,
        "registry/engines.py": ("    \"sglang\": Entry(", "    'toy': Entry("
                                "'penstock.engines.toy.kind:engine', traits=('serve',)),")},
    "an accelerator": {"catalog/data/accelerators.yaml": ("  a100-40gb:", ACCELERATOR)},
    "a command": {"cli/toy.py": COMMAND,
                  "cli/commands.py": ('    Entry("init", PLAN,', "    Entry('toy', PLAN, "
                                      "'penstock.cli.toy', 'Say what a toy says.'),")},
    "a section of the report": {
        "report/html/toy.py": SECTION,
        "report/html/run_page.py": (
            "    return \"\\n\".join(parts)", "    from penstock.report.html.toy import "
            "toy_section\n    parts.append(toy_section(summary))")},
}
FLEET = {"accelerators": [{"name": "toy-gpu", "count": 2}], "models": [{"name": "llama-3-8b"}],
         "service_classes": [{"name": "any", "slo": {"ttft_s": 5}}],
         "traffic": [{"rate_per_s": 4, "num_requests": 20, "arrivals": "poisson",
                      "lengths": {"prompt": {"fixed": 200}, "output": {"fixed": 20}}}],
         "replicas": [{"count": 2, "engine": "toy",
                       "endpoints": ["http://127.0.0.1:1", "http://127.0.0.1:2"]}],
         "policies": {"schedule": {"name": "toy-newest", "hours": 2}, "route": "toy-last"}}


def rows(repository: Path) -> dict[str, list[str]]:
    """Files to touch by what is added, as the table has them."""
    text = (repository / "docs/architecture.md").read_text()
    section = text[text.index("## Where to add things"):]
    found = re.findall(r"^\| (an? [^|]+?) \| (.+) \|$", section, re.MULTILINE)
    return {what: re.findall(r"`(src/penstock/[^`]*)`", files) for what, files in found}


@pytest.mark.parametrize("what", TOYS)
def test_a_toy_touches_the_files_of_its_row_only(repository: Path, what: str) -> None:
    listed = rows(repository)[what]
    touched = {SRC + path for path in TOYS[what]}
    assert {path for path in touched if not any(
        path == one or (one.endswith("/") and path.startswith(one))
        for one in (entry.replace("NAME", "toy") for entry in listed))} == set()
    assert len(listed) <= (3 if what == "a scheduling policy" else 2)
    for entry in listed:
        place = repository / entry
        assert place.exists() or place.parent.is_dir()


def test_rows_and_toys_are_the_same(repository: Path) -> None:
    assert set(rows(repository)) == set(TOYS)


@pytest.fixture(scope="module")
def with_toys(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, in which every toy was added."""
    root = tmp_path_factory.mktemp("with-toys")
    package = root / "penstock"
    shutil.copytree(repository / "src/penstock", package,
                    ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for toy in TOYS.values():
        for name, edit in toy.items():
            path = package / name
            if isinstance(edit, str):
                path.parent.mkdir(exist_ok=True)
                assert not path.exists()
                path.write_text(edit)
            else:
                before, text = edit[0], path.read_text()
                assert text.count(before) == 1, (name, before)
                path.write_text(text.replace(before, f"{edit[1]}\n{before}"))
    return root


def penstock(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "penstock", *arguments], cwd=root, check=False,
                          capture_output=True, text=True, env={**os.environ,
                                                               "PYTHONPATH": str(root)})


def test_toys_work(with_toys: Path) -> None:
    (with_toys / "fleet.yaml").write_text(json.dumps(FLEET))
    done = penstock(with_toys, "simulate", "fleet.yaml", "--json", "--out", "run")
    assert done.returncode in (0, 1), done.stderr
    summary = json.loads((with_toys / "run/summary.json").read_text())
    assert summary["overall"]["finished"] == 20
    assert "toy-newest" in json.dumps(summary["fleet"]["policies"])
    served = {one["replica"]: one["requests"] for one in summary["replicas"]}
    assert served == {0: 0, 1: 20}
    assert "How many toys there are" in (with_toys / "run/report.html").read_text()
    assert penstock(with_toys, "toy").stdout == "toys are fun\n"
