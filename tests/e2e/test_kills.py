"""Sweeps and gateways of which processes are killed: a short form of ``benchmarks/kills.py``."""

import asyncio
import random
from pathlib import Path

import pytest

from support.killed_gateways import KilledGateways
from support.killed_sweeps import KilledSweeps, kill_command, kill_worker
from support.postgres_server import AbsentError, postgres_server

pytestmark = [pytest.mark.long, pytest.mark.process,
              pytest.mark.skipif(not Path("/proc/self/task").exists(),
                                 reason="finds processes as on Linux")]


def test_a_killed_sweep_has_every_cell_once(tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers and nodes are killed in test_ray_cluster.py."""
    monkeypatch.delenv("PENSTOCK_JOBS")
    rng = random.Random(1)
    harmed = KilledSweeps(tmp_path, rng, 12)
    kills = [("process", kill_worker(rng)), ("command", kill_command)]
    while harmed.killed.total() < 6:
        harmed.sweep(kills, 3, "--jobs", "2")
    assert harmed.broken == []


def test_killed_gateways_keep_limits_and_books(tmp_path: Path) -> None:
    try:
        with postgres_server() as url:
            harmed = KilledGateways(tmp_path, url, random.Random(1))
            asyncio.run(harmed.run(6))
    except AbsentError as reason:
        pytest.skip(str(reason))
    assert harmed.broken == []
    assert sum(one.how == "whole" for one in harmed.heard) > 50
