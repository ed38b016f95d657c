"""Stock engines in simulation: their scheduler, their path of requests and their step times."""

from penstock.catalog.engines import (
    EngineDefaults,
    engine_defaults,
    engine_facts,
    engine_names,
)
from penstock.core.hardware import Accelerator
from penstock.core.intake import Intake
from penstock.policy.schedule.options import SchedulerOptions, scheduler_options

STOCK = "stock"
"""Name of the scheduling policy that is the engine's own."""

CHUNKED, WHOLE = "sarathi", "orca"
"""Scheduling policies that are settings of stock engines: prompts in chunks, and whole prompts."""

INSIDE = "penstock-in-"
"""Beginning of the name of an engine in which Penstock's scheduler runs."""

# Front end of an engine in Python: HTTP and messages of a request, tokenizer of a prompt's token.
# With these a burst of clients spreads as in InferenceX's runs (docs/reference/rates.md).
REQUEST_S = 0.003
TOKEN_S = 2e-6


def simulated_engines() -> tuple[str, ...]:
    """Return the names that a fleet's ``engine.name`` may have."""
    return (*engine_names(), *(INSIDE + name for name in engine_names()))


def base_engine(name: str) -> str:
    """Return the engine's name without Penstock's scheduler."""
    return name.removeprefix(INSIDE)


def defaults_of(engine: str, version: str | None, accelerator: Accelerator) -> EngineDefaults:
    """Return the defaults of a fleet's engine on an accelerator. Raises InputError for an unknown
    engine and for a version that is not described."""
    return engine_defaults(base_engine(engine), accelerator, version)


def stock_schedule(defaults: EngineDefaults, step_tokens: int | None = None,
                   max_num_seqs: int | None = None, *, moved_prompts: bool = False,
                   adapter_wait_s: float | None = None) -> SchedulerOptions:
    """Return how the engine's own scheduler plans steps, with limits other than the defaults where
    they are stated. ``moved_prompts`` come with the KV cache of another replica: their requests
    join the running decodes."""
    step_tokens = step_tokens or defaults.step_tokens
    seqs = max_num_seqs or defaults.max_num_seqs
    if defaults.batching == "whole":
        return scheduler_options("orca", max_step_tokens=step_tokens, max_num_seqs=seqs,
                                 kv_watermark=0.0, adapter_wait_s=adapter_wait_s)
    return scheduler_options(
        "sarathi", chunk_tokens=step_tokens, max_num_seqs=seqs, kv_watermark=0.0,
        prefill_first=defaults.batching == "alone" and not moved_prompts,
        kv_reserve=defaults.admission, late_results=defaults.overlaps,
        adapter_wait_s=adapter_wait_s)


def engine_adapter_wait_s(options: SchedulerOptions, engine: str,
                          version: str | None) -> float | None:
    """Return how long a request waits before the engine's own scheduler makes an adapter leave the
    batch for its own, by a policy that is the engine's own or a setting of it. None means for ever,
    as in engines that never do so."""
    drains = engine_facts(base_engine(engine), version).drains_adapters
    return options.adapter_wait_s if drains and options.policy in (STOCK, CHUNKED, WHOLE) else None


def stock_intake(defaults: EngineDefaults, every_steps: int = 1) -> Intake:
    """Return the path of requests to the engine's scheduler."""
    return Intake(REQUEST_S, TOKEN_S, every_steps, defaults.overlaps)
