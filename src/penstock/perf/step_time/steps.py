"""Measured steps: what they computed and how long they took."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, nearest
from penstock.core.step import StepFeatures

Column = NDArray[np.float64]

# Column names that we know for each quantity, the best first.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "prefill_tokens": ("prefill_tokens", "num_prefill_tokens", "prompt_tokens", "pf"),
    "work": ("prefill_attention_work", "prefill_attn_work", "attention_work", "work"),
    "prefill_context": ("prefill_ctx_sum", "prefill_context_sum", "prefill_context_tokens",
                        "prefill_past_tokens"),
    "decode_seqs": ("decode_seqs", "decode_tokens", "num_decode_tokens", "num_decodes", "decodes"),
    "context": ("decode_context_tokens", "decode_kv_tokens"),
    "context_before": ("decode_ctx_sum", "decode_context_sum"),
}
# Seconds per unit of each duration column, the best first.
_DURATIONS: Mapping[str, float] = {"step_cpu_s": 1.0, "step_wall_s": 1.0, "duration_s": 1.0,
                                   "seconds": 1.0, "step_s": 1.0, "duration_ms": 1e-3, "ms": 1e-3}


@dataclass(frozen=True, slots=True)
class StepTable:
    """Measured steps in the order they ran, one array element per step.

    Columns as in StepFeatures, ``seconds`` the durations (all positive). ``notes`` say what was
    assumed or chosen on reading.
    """

    prefill_tokens: Column
    attention_work: Column
    decode_seqs: Column
    context_tokens: Column
    seconds: Column
    source: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def largest(self) -> StepFeatures:
        """The largest value of every feature."""
        return StepFeatures(int(self.prefill_tokens.max()), float(self.attention_work.max()),
                            int(self.decode_seqs.max()), int(self.context_tokens.max()))

    def rows(self, selected: NDArray[Any]) -> "StepTable":
        """Those steps alone (a mask or positions)."""
        return StepTable(self.prefill_tokens[selected], self.attention_work[selected],
                         self.decode_seqs[selected], self.context_tokens[selected],
                         self.seconds[selected], self.source, self.notes)


def step_table(columns: Mapping[str, Column], source: str,
               duration: str | None = None) -> StepTable:
    """Make a table from named columns; ``read_steps`` says the names."""
    notes: list[str] = []
    prefill = _column(columns, "prefill_tokens", source)
    decodes = _column(columns, "decode_seqs", source)
    if _find(columns, "context"):
        context = _column(columns, "context", source)
    else:
        context = _column(columns, "context_before", source) + decodes
        notes.append("decode context counted before the step: one token per decode added")
    if _find(columns, "work"):
        work = _column(columns, "work", source)
    else:
        past = _column(columns, "prefill_context", source)
        work = prefill * (past + 0.5 * prefill)
        notes.append("attention work computed as if each step held a single prompt chunk")
    seconds = _duration(columns, source, duration, notes)
    return checked_steps(StepTable(prefill, work, decodes, context, seconds, source, tuple(notes)))


def _duration(columns: Mapping[str, Column], source: str, duration: str | None,
              notes: list[str]) -> Column:
    present = [name for name in _DURATIONS if name in columns]
    if duration is not None:
        if duration not in columns:
            raise InputError(f"{source}: no column {duration!r}{nearest(duration, columns)}")
        return columns[duration] * _DURATIONS.get(duration, 1e-3 if duration.endswith("_ms")
                                                  else 1.0)
    if not present:
        raise InputError(f"{source}: no duration column; expected one of: {', '.join(_DURATIONS)}")
    if len(present) > 1:
        notes.append(f"durations from {present[0]}; {', '.join(present[1:])} not used")
    return columns[present[0]] * _DURATIONS[present[0]]


def _find(columns: Mapping[str, Column], quantity: str) -> str | None:
    return next((name for name in _ALIASES[quantity] if name in columns), None)


def _column(columns: Mapping[str, Column], quantity: str, source: str) -> Column:
    name = _find(columns, quantity)
    if name is None:
        expected = _ALIASES[quantity]
        raise InputError(f"{source}: no column {expected[0]!r} (or {', '.join(expected[1:])}); "
                         f"found: {', '.join(columns)}")
    return columns[name]


def checked_steps(table: StepTable) -> StepTable:
    """The table. Raises InputError for a value that no step can have."""
    if not len(table):
        raise InputError(f"{table.source}: no steps; expected one row per engine step")
    for name in ("prefill_tokens", "attention_work", "decode_seqs", "context_tokens", "seconds"):
        values: Column = getattr(table, name)
        bad = ~np.isfinite(values) | (values < 0.0)
        if name == "seconds":
            bad |= values == 0.0
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"{table.source}: step {row + 1}: {name} is {values[row]:g}; expected "
                             + ("more than 0" if name == "seconds" else "0 or more"))
    return table


def is_step_column(name: str) -> bool:
    """Whether a table's column may say something of steps."""
    return (name in _DURATIONS or any(name in names for names in _ALIASES.values())
            or name.endswith(("_s", "_ms")))
