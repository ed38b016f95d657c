"""Saturation of a pool: how near its engines are to holding requests back."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.engines.client.state import EngineState


@dataclass(frozen=True, slots=True)
class SaturationLimits:
    """Waiting requests and share of the KV cache at which an engine is saturated. Metrics that are
    older than ``stale_s`` say nothing, so such an engine counts as saturated."""

    num_waiting: int = 5
    kv_share: float = 0.8
    stale_s: float = 2.0


def saturation(engines: Sequence[EngineState], limits: SaturationLimits, now_s: float) -> float:
    """Return the mean saturation of engines: 1 and more is saturated, and so is no engine."""
    if not engines:
        return 1.0
    return sum(_of(engine, limits, now_s) for engine in engines) / len(engines)


def _of(engine: EngineState, limits: SaturationLimits, now_s: float) -> float:
    load = engine.load
    if not engine.healthy or now_s - engine.observed_at_s > limits.stale_s:
        return 1.0
    waiting = engine.ledger.num_waiting if load.num_waiting is None else load.num_waiting
    return max(waiting / limits.num_waiting, (load.kv_used_share or 0.0) / limits.kv_share)
