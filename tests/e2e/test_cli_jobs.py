"""``--jobs`` and ``--on``: the same output wherever the pieces of a command are computed."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.experiment.workers import Cores
from penstock.published.autoscalers import run as autoscalers

SCALED = """\
name: scaled
accelerators: [{name: a100-80gb, count: 4}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 4, itl_s: 0.1}}]
traffic:
  - {lengths: {prompt: {fixed: 4000}, output: {fixed: 50}}, rate_per_s: 2, duration_s: 30}
  - {lengths: {prompt: {fixed: 4000}, output: {fixed: 50}}, rate_per_s: 6, duration_s: 30,
     start_s: 30}
replicas: [{count: 1, max_replicas: 3}]
scaling: {start_s: 20}
policies: {schedule: penstock, scale: {name: hpa, target: 16}}
"""
MIXED = ("--set", "traffic[0].num_requests=40", "--set", "traffic[1].num_requests=20")
COMMANDS = {
    "policies": ("compare", "fleet.yaml", "--policies", "penstock,fcfs", "--seeds", 2),
    "rates": ("compare", "fleet.yaml", "--policies", "penstock,fcfs", "--rate", "4,8"),
    "pools": ("compare", "mixed.yaml", "--policies", "penstock,sarathi", *MIXED),
    "grid": ("compare", "fleet.yaml", "--grid", "traffic[0].rate_per_s=4,8", "--seeds", 2),
    "scalers": ("compare", "scaled.yaml", "--scale", "penstock,static"),
    "capacity": ("capacity", "fleet.yaml", "--seeds", 3, "--tolerance", 0.2),
    "plan": ("plan", "unsized.yaml", "--no-report", "--what-if", "traffic[0].rate_per_s=9"),
    "grid of SINCERE": ("lab", "experiment", "sincere", "--policies", "sincere-select-batch-timer",
                        "--patterns", "gamma", "--rates", 4, "--slas", 40, "--seeds", 2,
                        "--duration-s", 60),
    "reproduction": ("lab", "reproduce", "llm-d-slo"),
}
IN_PROCESSES = ("policies", "capacity")


@pytest.fixture(autouse=True)
def _fleets(folder: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "scaled.yaml").write_text(SCALED)
    (folder / "mixed.yaml").write_text((repository / "examples" / "mixed.yaml").read_text())
    example = autoscalers.example_fleet
    monkeypatch.setattr(autoscalers, "example_fleet", lambda name, overrides: example(
        name, overrides | {"run.num_requests": 80}))


def by_pickles(self: Cores, work: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
    """As a process would compute: nothing but bytes goes there and comes back."""
    for piece in pieces:
        work_there, piece_there = pickle.loads(pickle.dumps((work, piece)))
        yield pickle.loads(pickle.dumps(work_there(piece_there)))


@pytest.mark.parametrize("name", COMMANDS)
def test_jobs_change_nothing(name: str, penstock, folder: Path,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    writes = name in ("plan", "grid of SINCERE")
    told = []
    for jobs in (1, 2):
        more = ("--out", f"out{jobs}") if writes else ()
        if jobs == 2 and name not in IN_PROCESSES:
            monkeypatch.setattr(Cores, "results", by_pickles)
        done = penstock(*COMMANDS[name], "--json", "--jobs", jobs, *more)
        assert done.status in (0, 1), done.err
        document = done.json
        if name == "plan":
            del document["timing"]
        told.append((done.status, document if writes else done.out))
    assert told[0] == told[1]


def test_the_old_name_of_jobs_is_told_the_new_one(penstock) -> None:
    done = penstock("compare", "fleet.yaml", "--grid", "run.seed=1", "--workers", 1, "--json")
    assert done.status == 0
    assert done.err == "`--workers` is now `--jobs`; the old name goes with the next release\n"
    assert len(done.json) == 1


@pytest.mark.parametrize("place", ["spark", "ray:", "ray:there", "ray://", "ray:there:x"])
def test_other_places_are_refused(penstock, place: str) -> None:
    done = penstock("capacity", "fleet.yaml", "--on", place)
    assert (done.status, done.out) == (2, "")
    assert "expected ray, ray:HOST:PORT or ray://HOST:PORT" in done.err
