"""The settings of a replica's scheduler, and the named policies as combinations of settings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from penstock.core.errors import InputError, nearest

OrderName = Literal["arrival", "deadline", "remaining", "hybrid", "feasible",
                    "attained"]
ChunkingName = Literal["fixed", "whole", "grid", "solved"]
RelegationName = Literal["never", "eager", "feasible", "aged"]
ReserveName = Literal["chunk", "prompt_fits", "prompt", "max_tokens"]


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """How one replica chooses its next step. Tokens and seconds throughout.

    ``chunk_tokens`` is the fixed step budget, decodes included; ``max_step_tokens`` bounds a step
    whose budget is not fixed. ``kv_reserve`` says how much KV a request takes before it starts:
    room for its prompt, or for its answer as well. With ``prompt_fits`` room for the prompt must be
    free, but each chunk takes its own; with ``chunk`` only room for the chunk must be free.
    ``prefill_first`` lets decodes wait while any prompt can be processed. ``late_results`` says
    that a step is planned while the step before still runs: requests that ended with that step
    keep their seat and their KV for one step more. ``settings`` are those that a plug-in policy
    declares: pairs of name and value, so that options are compared and hashed as values.
    """

    policy: str = "penstock"
    order: OrderName = "feasible"
    chunking: ChunkingName = "solved"
    relegation: RelegationName = "feasible"
    chunk_tokens: int = 512
    max_step_tokens: int = 2048
    max_num_seqs: int = 512
    prefill_first: bool = False
    kv_reserve: ReserveName = "prompt"
    kv_watermark: float = 0.01
    late_results: bool = False
    # Niyama (sarathi-serve branch niyama_asplos2026): seconds of deadline per remaining prompt
    # token, token pace of classes that set none, predicted output, safety factor on step time.
    hybrid_s_per_token: float = 0.008
    batch_itl_s: float = 0.4
    predicted_output_tokens: int = 15
    safety_factor: float = 1.2
    initial_tokens_per_s: float = 8500.0
    max_decodes: int = 0
    most_slack_first: bool = False
    # Penstock: share of a request's banked slack that one step may spend, margin on predicted step
    # time, quantile of output length that plans rest on, how often feasibility is reviewed, and how
    # long past its deadline a request may wait before it is shed.
    slack_spend_fraction: float = 0.125
    time_margin: float = 0.05
    length_quantile: float = 0.98
    review_s: float = 0.25
    queue_timeout_s: float = 60.0
    decodes_may_wait: bool = True
    # Plas: how long a request may wait behind those of sessions with less service.
    starvation_s: float = 300.0
    # How long a request waits before the next free place for adapters is kept for its own; None for
    # no such promise, as in vLLM and, by default, in SGLang.
    adapter_wait_s: float | None = 30.0
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def reads_step_times(self) -> bool:
        """Whether plans follow from believed step times, as they may with any plug-in policy."""
        return self.chunking in ("grid", "solved") or self.policy not in PRESETS


OLD_KNOBS: Mapping[str, str] = {"bank_share": "slack_spend_fraction",
                                "patience_s": "queue_timeout_s"}
"""Knobs of release 0.1 under their current names; journals of that release have the old ones."""

PRESETS: dict[str, SchedulerOptions] = {
    "fcfs": SchedulerOptions("fcfs", "arrival", "whole", "never", max_step_tokens=8192,
                             prefill_first=True),
    "orca": SchedulerOptions("orca", "arrival", "whole", "never", max_step_tokens=8192,
                             kv_reserve="max_tokens"),
    "sarathi": SchedulerOptions("sarathi", "arrival", "fixed", "never"),
    "edf": SchedulerOptions("edf", "deadline", "fixed", "never"),
    "srpf": SchedulerOptions("srpf", "remaining", "fixed", "never"),
    "plas": SchedulerOptions("plas", "attained", "fixed", "aged"),
    "niyama": SchedulerOptions("niyama", "hybrid", "grid", "eager", chunk_tokens=256,
                               max_decodes=256, most_slack_first=True),
    "penstock": SchedulerOptions("penstock"),
}


def scheduler_options(policy: str, **changes: Any) -> SchedulerOptions:
    """Return the named policy with some settings changed.

    Raises InputError for an unknown policy or setting, with the nearest valid name.
    """
    if policy not in PRESETS:
        raise InputError(f"unknown scheduling policy {policy!r}{nearest(policy, PRESETS)}")
    known = {field.name for field in fields(SchedulerOptions)} - {"policy", "settings"}
    changes = {OLD_KNOBS.get(name, name): value for name, value in changes.items()}
    for name in changes:
        if name not in known:
            raise InputError(f"policy {policy!r} has no option {name!r}{nearest(name, known)}")
    return replace(PRESETS[policy], **changes)
