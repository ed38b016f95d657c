"""Assembles a replica's scheduler from parts and options."""

from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.kv.counting import CountingKv
from penstock.policy.kv.prefix import PrefixKv
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.retained import RetainingKv
from penstock.policy.kv.tiers import KvTiers
from penstock.policy.schedule.adaptable import AdaptableScheduler
from penstock.policy.schedule.adapter_prompts import AdapterPrompts
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.chunking import (
    Chunking,
    FixedChunks,
    GridChunks,
    SolvedChunks,
    WholePrompts,
)
from penstock.policy.schedule.drafting import Drafting
from penstock.policy.schedule.options import SchedulerOptions
from penstock.policy.schedule.order import order_key
from penstock.policy.schedule.pacing import Pacing, PlainPacing
from penstock.policy.schedule.pacing_niyama import NiyamaPacing
from penstock.policy.schedule.pacing_penstock import PenstockPacing
from penstock.policy.schedule.parts import SchedulerContext, SchedulerParts
from penstock.policy.schedule.prompts import PromptQueue
from penstock.policy.schedule.relegation import (
    AgedRelegation,
    EagerRelegation,
    FeasibleRelegation,
    NeverRelegate,
    Relegation,
)


def assemble(parts: SchedulerParts, context: SchedulerContext, kv: KvAllocator,
             max_in_flight: int = 1, drafting: Drafting | None = None,
             lists_decodes: bool = True, adapters: AdapterStore | None = None
             ) -> AdaptableScheduler:
    """Return a new scheduler with these parts. Missing parts are built from the options."""
    options = context.options
    order, chunking, relegation, pacing = parts
    order = order_key(options) if order is None else order
    return AdaptableScheduler(
        prompts=(PromptQueue(order) if adapters is None
                 else AdapterPrompts(order, adapters, options.adapter_wait_s)),
        chunking=_chunking(options, context.step_time) if chunking is None else chunking,
        relegation=_relegation(options) if relegation is None else relegation,
        pacing=_pacing(context) if pacing is None else pacing, kv=kv,
        max_num_seqs=options.max_num_seqs, max_in_flight=max_in_flight,
        prefill_first=options.prefill_first,
        reserve=options.kv_reserve, late_results=options.late_results,
        watermark_blocks=int(options.kv_watermark * kv.total_blocks), drafting=drafting,
        lists_decodes=lists_decodes)


def build_kv(options: SchedulerOptions, total_blocks: int, block_tokens: int,
             prefix_caching: bool, tiers: KvTiers | None = None) -> KvAllocator:
    """Return the empty KV cache that a scheduler with these options books, above ``tiers``."""
    if not prefix_caching:
        return CountingKv(total_blocks, block_tokens)
    if options.kv_reserve in ("chunk", "prompt_fits"):
        return RetainingKv(total_blocks, block_tokens, tiers)
    return PrefixKv(total_blocks, block_tokens, tiers)


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
        return FeasibleRelegation(options.review_s, options.queue_timeout_s)
    if options.relegation == "aged":
        return AgedRelegation(options.starvation_s)
    return NeverRelegate()


def _pacing(context: SchedulerContext) -> Pacing:
    options = context.options
    if options.chunking == "solved":
        return PenstockPacing(options, context.step_time, context.lengths)
    if options.chunking == "grid":
        return NiyamaPacing(options)
    return PlainPacing()
