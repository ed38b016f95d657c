"""One simulation on several cores, where its replicas do not depend on each other."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, TypeVar

import numpy as np

from penstock.experiment.workers import Cores
from penstock.fleet.values import Fleet
from penstock.metrics.request_file import RequestWriter, StoredRequests
from penstock.metrics.series import RunSeries
from penstock.metrics.table import RequestTable, concat
from penstock.sim.beliefs import Beliefs
from penstock.sim.columns import OnOver
from penstock.sim.parts import Part, parts_of
from penstock.sim.simulation import SimulationResult, simulate
from penstock.workload.workload import Traffic

_Figure = TypeVar("_Figure")

LEAST_REQUESTS: Final = 100_000
"""Fewest requests that are worth several processes, each of which takes a second to start."""


class _Piece(NamedTuple):
    """All that the simulation of a part depends on, and the file for its requests."""

    fleet: Fleet
    traffic: Traffic
    beliefs: Beliefs
    seed: int
    part: Part
    file: Path


def simulate_in_parts(fleet: Fleet, traffic: Traffic, beliefs: Beliefs, seed: int, jobs: int,
                      on_over: OnOver | None = None) -> SimulationResult | None:
    """Return the result of ``simulate`` with the same arguments, from up to ``jobs`` processes.

    Each part writes its requests to a temporary file, from which they are merged in order of
    arrival. Returns None where the simulation must be whole, or is too short to be split.
    """
    if not fleet.replicas or len(traffic) < LEAST_REQUESTS or fleet.tells_energy:
        return None
    parts = parts_of(fleet, traffic, jobs)
    if not parts:
        return None
    with TemporaryDirectory(prefix="penstock-") as folder:
        files = [Path(folder) / f"part-{part.number}.parquet" for part in parts]
        pieces = [_Piece(fleet, traffic, beliefs, seed, part, file)
                  for part, file in zip(parts, files, strict=True)]
        results = list(Cores(len(parts)).results(_simulated, pieces))
        rows = in_order([StoredRequests(file) for file in files if file.exists()])
        if on_over is None:
            table = concat([*rows, results[0].table])
        else:
            for block in rows:
                on_over(block)
            table = results[0].table
    return _joined(results, parts[0].owners, table)


def _simulated(piece: _Piece) -> SimulationResult:
    with RequestWriter(piece.file) as writer:
        return simulate(piece.fleet, piece.traffic, beliefs=piece.beliefs, seed=piece.seed,
                        on_over=writer.write, part=piece.part)


def in_order(files: Sequence[StoredRequests]) -> Iterator[RequestTable]:
    """Yield the rows of several files by number, in blocks. Each file has its rows by number."""
    streams = [iter(file.blocks()) for file in files]
    waiting = [next(stream, None) for stream in streams]
    while any(block is not None for block in waiting):
        # Up to here all rows are known: some file has nothing before its last row.
        known = min(int(block.request_id[-1]) for block in waiting if block is not None)
        parts = []
        for number, block in enumerate(waiting):
            if block is None:
                continue
            num = int(np.searchsorted(block.request_id, known, side="right"))
            parts.append(block.take(slice(num)))
            waiting[number] = block.take(slice(num, None)) if num < len(block) \
                else next(streams[number], None)
        together = concat(parts)
        yield together.take(np.argsort(together.request_id, kind="stable"))


def _joined(results: Sequence[SimulationResult], owners: Sequence[int], table: RequestTable
            ) -> SimulationResult:
    """Return the result of the whole, with each replica's figures from its own part."""
    reasons: Counter[str] = Counter()
    for result in results:
        reasons.update(result.reasons)
    return replace(
        results[0], table=table, reasons=reasons,
        series=RunSeries(_own((result.series.replicas for result in results), owners)),
        busy_s=np.array(_own((result.busy_s.tolist() for result in results), owners)),
        num_steps=sum(result.num_steps for result in results),
        end_s=max(result.end_s for result in results))


def _own(of_parts: Iterable[Sequence[_Figure]], owners: Sequence[int]) -> list[_Figure]:
    """Return each replica's figure as its own part has it."""
    found = list(of_parts)
    return [found[owner][replica_id] for replica_id, owner in enumerate(owners)]
