"""A replica without a fleet file: a model on accelerators, with an engine's step times."""

from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.step import StepFeatures
from penstock.fleet.engine import stock_options
from penstock.fleet.groups import equipped, spread_problem
from penstock.fleet.values import EngineOptions, ReplicaGroup, StepTimeSpec
from penstock.perf.memory import KvBudget, kv_capacity_tokens


def lone_replica(model: ModelSpec, accelerator: Accelerator, spread: Parallelism,
                 precision: str, kv_precision: str, step_time: StepTimeSpec,
                 engine: tuple[str, str | None] | None) -> tuple[ReplicaGroup, KvBudget]:
    """Return the group of one replica, as a fleet with this ``engine`` (name and version; None for
    an ideal one) would have it, and its KV cache.

    Raises InputError that begins with the degree of parallelism that cannot be, and for a model
    that does not fit.
    """
    problem = spread_problem(model, accelerator, spread)
    if problem is not None:
        raise InputError(": ".join(problem))
    options = EngineOptions() if engine is None else stock_options(*engine)
    cache = kv_capacity_tokens(model, accelerator, spread, precision, kv_precision,
                               memory_fraction=options.memory_fraction,
                               block_tokens=options.block_tokens)
    group = ReplicaGroup(model, accelerator, 1, spread, precision, kv_precision,
                         step_time=step_time)
    return equipped(group, options), cache


def step_of(prefill: int, past: int, decodes: int, context: int) -> StepFeatures:
    """Return the step of one chunk of ``prefill`` tokens behind ``past`` others, and of ``decodes``
    with ``context`` tokens each, the new one included."""
    return StepFeatures(prefill, prefill * (past + prefill / 2.0), decodes, decodes * context)


def check_step(group: ReplicaGroup, cache: KvBudget, step: StepFeatures, past: int) -> None:
    """Raise InputError for a step that is empty, or too long for the model or the KV cache."""
    prefill, _, decodes, context = step
    if not prefill + decodes:
        raise InputError("the step has no tokens; expected prompt tokens, decodes or both")
    longest = max(past + prefill if prefill else 0, context // decodes if decodes else 0)
    most = group.model.max_context_tokens
    if longest > most:
        raise InputError(f"a sequence of {longest:,} tokens; {group.model.name} has contexts of at "
                         f"most {most:,}")
    held = (past + prefill if prefill else 0) + context
    if held > cache.tokens:
        raise InputError(f"the step does not fit: its sequences have {held:,} tokens, the KV cache "
                         f"of the replica holds {cache.tokens:,}")
