"""Builds a replica's scheduler from its options."""

from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.schedule.adaptable import AdaptableScheduler
from penstock.policy.schedule.chunking import (
    Chunking,
    FixedChunks,
    GridChunks,
    SolvedChunks,
    WholePrompts,
)
from penstock.policy.schedule.options import SchedulerOptions
from penstock.policy.schedule.order import order_key
from penstock.policy.schedule.pacing import Pacing, PlainPacing
from penstock.policy.schedule.pacing_niyama import NiyamaPacing
from penstock.policy.schedule.pacing_penstock import PenstockPacing
from penstock.policy.schedule.relegation import (
    EagerRelegation,
    FeasibleRelegation,
    NeverRelegate,
    Relegation,
)
from penstock.predict.length import HistoryLengths, LengthPredictor


def build_scheduler(options: SchedulerOptions, step_time: StepTimeModel, kv: KvAllocator,
                    lengths: LengthPredictor | None = None,
                    max_in_flight: int = 1) -> AdaptableScheduler:
    """A fresh scheduler.

    ``step_time`` is what the policy believes about the device, which need not be what a simulator
    charges; ``lengths`` is what it believes about outputs (default: learnt from finished ones).
    """
    return AdaptableScheduler(
        order=order_key(options), chunking=_chunking(options, step_time),
        relegation=_relegation(options), pacing=_pacing(options, step_time, lengths), kv=kv,
        max_num_seqs=options.max_num_seqs, max_in_flight=max_in_flight,
        prefill_first=options.prefill_first,
        reserve_max_tokens=options.kv_reserve == "max_tokens",
        watermark_blocks=int(options.kv_watermark * kv.total_blocks))


def _chunking(options: SchedulerOptions, step_time: StepTimeModel) -> Chunking:
    if options.chunking == "fixed":
        return FixedChunks(options.chunk_tokens)
    if options.chunking == "whole":
        return WholePrompts(options.max_step_tokens)
    if options.chunking == "grid":
        return GridChunks(step_time, options.safety_factor)
    return SolvedChunks(step_time, options)


def _relegation(options: SchedulerOptions) -> Relegation:
    if options.relegation == "eager":
        return EagerRelegation(options.initial_tokens_per_s)
    if options.relegation == "feasible":
        return FeasibleRelegation(options.review_s, options.patience_s)
    return NeverRelegate()


def _pacing(options: SchedulerOptions, step_time: StepTimeModel,
            lengths: LengthPredictor | None) -> Pacing:
    if options.chunking == "solved":
        return PenstockPacing(options, step_time, lengths or HistoryLengths())
    if options.chunking == "grid":
        return NiyamaPacing(options)
    return PlainPacing()
