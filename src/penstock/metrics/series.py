"""Samples of each replica's steps, for curves over time."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.metrics.definitions import FloatColumn, IntColumn


@dataclass(frozen=True, slots=True)
class ReplicaSeries:
    """Steps of one replica in order of time; all arrays have one length.

    ``num_waiting`` and ``kv_used_tokens`` are those at the step's end. Rows may be samples, or the
    last of a run of equal steps: a row represents the time since the row before. ``every_step``
    says that only such runs were left out.
    """

    replica: int
    step_end_s: FloatColumn
    step_duration_s: FloatColumn
    prefill_tokens: IntColumn
    decode_seqs: IntColumn
    num_waiting: IntColumn
    kv_used_tokens: IntColumn
    kv_total_tokens: int
    every_step: bool = True

    def __len__(self) -> int:
        return len(self.step_end_s)


@dataclass(frozen=True, slots=True)
class RunSeries:
    """The steps of all replicas of a run."""

    replicas: Sequence[ReplicaSeries] = ()
