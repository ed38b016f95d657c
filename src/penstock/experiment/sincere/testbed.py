"""SINCERE's testbed: one H100 80GB, three fp32 models on a disk, confidential or not.

Figures are of its runs with an SLA of 40 and 80 s and of its profiles (Antonio-MI/sincere, commit
285e5b7; arXiv 2505.16501). How long a swap takes goes by which models were loaded since this one
was: the virtual machine's page cache holds two of the three files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from penstock.core.units import GIB
from penstock.engine.sim.residency.machine import Took
from penstock.policy.residency.sincere import LoadRow
from penstock.policy.residency.values import Batch, BatchTime, HostedModel

Mode = Literal["cc", "noncc"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""With confidential computing, and without."""

Timers = Literal["as-run", "own"]
TIMERS: tuple[Timers, ...] = get_args(Timers)
"""Whose load times the timers of SINCERE's strategies look up: the table that each published run
used (mostly the one without confidential computing, in both modes), or the mode's own."""

MEMORY_BYTES = 81_559 * 2**20
"""Of an H100 80GB."""
_OWN_TABLE_TWICE = frozenset({(4.0, 60.0), (8.0, 60.0)})


@dataclass(frozen=True, slots=True)
class SincereModel:
    """A model: bytes in fp32, its part of the requests, the published batch size, and the largest
    batch that was seen not to run out of memory."""

    name: str
    size_bytes: int
    share: float
    best_batch: int
    most: int

    @property
    def request_bytes(self) -> int:
        """What each request of a batch needs beside the weights, from the largest batch."""
        return (MEMORY_BYTES - self.size_bytes) // self.most


MODELS = (SincereModel("granite-7b", round(25.1 * GIB), 0.1, 48, 94),
          SincereModel("gemma-7b", round(31.82 * GIB), 0.3, 64, 90),
          SincereModel("llama3-8b", round(29.92 * GIB), 0.6, 64, 233))


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """What a model takes in one mode: the first load of a run, a load after at most one other
    model was loaded since, a load after both others were, and a batch."""

    first_s: float
    near_s: float
    far_s: float
    batch: BatchTime


TIMES: Mapping[Mode, Sequence[ModelTimes]] = MappingProxyType({
    "cc": (ModelTimes(25.0, 11.6, 17.6, BatchTime(1.0032, 0.0899)),
           ModelTimes(25.0, 16.9, 23.5, BatchTime(1.158, 0.0916)),
           ModelTimes(25.0, 16.6, 21.5, BatchTime(0.8709, 0.0975))),
    "noncc": (ModelTimes(15.5, 5.4, 8.8, BatchTime(0.8625, 0.0935)),
              ModelTimes(15.5, 8.2, 12.3, BatchTime(0.9096, 0.0954)),
              ModelTimes(15.5, 8.4, 11.1, BatchTime(0.6613, 0.1001))),
})
LOAD_TABLES: Mapping[Mode, Sequence[LoadRow]] = MappingProxyType({
    "cc": (LoadRow(8.9661, 2.0398, 0.0051, 0.0002), LoadRow(12.0832, 2.4614, 0.0392, 0.0017),
           LoadRow(11.0054, 2.3099, 0.0162, 0.0018)),
    "noncc": (LoadRow(3.5534, 2.5117, 0.0043, 0.0003), LoadRow(4.6755, 3.0433, 0.0317, 0.0016),
              LoadRow(4.1446, 2.6354, 0.0162, 0.001)),
})
WRITING = BatchTime(0.015, 0.0021)
"""Seconds that the device stays taken after a batch, while its rows are written to a file."""


def timer_table(mode: Mode, rate_per_s: float, sla_s: float,
                timers: Timers) -> tuple[Sequence[LoadRow], float]:
    """The load times that timers look up, and how many standard deviations they add."""
    if timers == "own":
        return LOAD_TABLES[mode], 1.0
    if mode == "cc" and (rate_per_s, sla_s) in _OWN_TABLE_TWICE:
        return LOAD_TABLES["cc"], 2.0
    return LOAD_TABLES["noncc"], 1.0


def hosted(mode: Mode, *, guarded: bool) -> list[HostedModel]:
    """The models as policies see them; ``guarded`` ones know what fits into memory."""
    return [HostedModel(one.name, one.size_bytes, times.batch,
                        one.request_bytes if guarded else 0,
                        one.best_batch if guarded else 2**31)
            for one, times in zip(MODELS, TIMES[mode], strict=True)]


class SincereMachine:
    """What loads and batches take there (a ``Machine``). A batch that is larger than memory allows
    fails at its end."""

    def __init__(self, mode: Mode) -> None:
        self._times = TIMES[mode]
        self._recent: list[int] = []

    def load(self, device: int, model: int, now_s: float) -> Took:
        times, recent = self._times[model], self._recent
        if not recent:
            seconds = times.first_s
        elif model in recent and len(recent) - recent.index(model) <= 2:
            seconds = times.near_s
        else:
            seconds = times.far_s
        if model in recent:
            recent.remove(model)
        recent.append(model)
        return Took(seconds)

    def prefetch(self, model: int, now_s: float) -> Took:
        return Took(0.0)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        num = len(batch.requests)
        return Took(self._times[batch.model].batch.seconds(num), num > MODELS[batch.model].most,
                    WRITING.seconds(num))
