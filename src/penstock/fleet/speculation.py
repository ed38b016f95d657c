"""The section `speculation` of a fleet file: conversion to values and back, and what follows for
step times, the KV cache and the scheduler's beliefs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from penstock.catalog import Catalog
from penstock.core.draft_depth import checked_depth
from penstock.core.errors import InputError, nearest
from penstock.core.model import ModelSpec
from penstock.core.step import CONTEXT_PARTS
from penstock.fleet.adapter_costs import slot_bytes
from penstock.fleet.document_speculation import SpeculationSection
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError
from penstock.fleet.values import EngineOptions, ModelChoice, ReplicaGroup
from penstock.fleet.values_speculation import Speculation
from penstock.perf.memory import (
    OVERHEAD_BYTES,
    check_precision,
    kv_bytes_per_accelerator,
    kv_capacity_tokens,
    weight_bytes_per_accelerator,
)
from penstock.perf.speculation.acceptance import Acceptance, from_lengths, from_rates
from penstock.perf.speculation.draft import head_of
from penstock.perf.speculation.published import (
    acceptance_of,
    published_acceptance,
    published_name,
)
from penstock.perf.speculation.step_time import Draft, SpeculativeStepTime, speculative
from penstock.perf.step_time.calibration import biased
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.roofline import RooflineStepTime
from penstock.policy.schedule.drafting import Drafting
from penstock.registry.step_times import make_step_time

DRAFT_PASS_S = 0.1e-3
"""Host time of one pass of a draft beyond its kernels: it has no scheduling of its own. An
assumption."""

_STATED = "the file"


def resolve_speculation(path: Path, section: SpeculationSection | None, model: ModelSpec,
                        models: Mapping[str, ModelChoice], catalog: Catalog,
                        classes: Sequence[str]) -> Speculation | None:
    """Return how a group's replicas draft. Raises PlacedError for an acceptance that is neither
    stated nor published, and for a draft model that is missing or of no use."""
    if section is None:
        return None
    try:
        depth = checked_depth(section.tokens, section.by_batch or ())
    except InputError as error:
        raise PlacedError((*path, "by_batch"), str(error)) from None
    found = Speculation(section.method, depth, _acceptance(path, section, model, classes))
    if section.method != "draft_model":
        if section.draft is not None:
            raise PlacedError((*path, "draft"), f"method {section.method} has no draft model; "
                                                "expected method: draft_model")
        return found
    if section.draft is None:
        raise PlacedError((*path, "draft"), "is left out; expected the draft model, such as "
                                            "{model: llama-3.2-1b}")
    name = section.draft.model
    try:
        draft = models[name].spec if name in models else catalog.listed_model(name)
        check_precision(section.draft.precision)
    except InputError as error:
        raise PlacedError((*path, "draft"), str(error)) from None
    return replace(found, draft=draft, draft_precision=section.draft.precision)


def _acceptance(path: Path, section: SpeculationSection, model: ModelSpec,
                classes: Sequence[str]) -> dict[str, Acceptance]:
    """Return the acceptance by service class, the empty name for the others."""
    stated = section.acceptance
    if stated is not None and section.accepted_length is not None:
        raise PlacedError((*path, "accepted_length"), "stands beside acceptance; keep one of them")
    try:
        if section.accepted_length is not None:
            return {"": from_lengths({int(k): v for k, v in section.accepted_length.items()},
                                     _STATED)}
        if isinstance(stated, str):
            return {"": published_acceptance(stated)}
        if isinstance(stated, list):
            return {"": from_rates(stated, _STATED)}
        if stated is not None:
            return _by_class(stated, classes)
    except InputError as error:
        field = "accepted_length" if section.accepted_length is not None else "acceptance"
        raise PlacedError((*path, field), str(error)) from None
    published = acceptance_of(model.name, section.method)
    if published is None:
        raise PlacedError(
            (*path, "acceptance"),
            f"is left out, and none is published for {section.method} with {model.name}; expected "
            "the share of turns that accept each position, such as [0.8, 0.6, 0.45] "
            "(vllm:spec_decode_num_accepted_tokens_per_pos over spec_decode_num_drafts), or "
            "accepted_length")
    return {"": published.acceptance}


def _by_class(stated: Mapping[str, list[float]],
              classes: Sequence[str]) -> dict[str, Acceptance]:
    """Return the stated acceptance. Classes that the file leaves out have the lowest stated."""
    for name in stated:
        if name not in classes:
            raise InputError(f"unknown service class {name!r}{nearest(name, classes)}")
    found = {name: from_rates(rates, _STATED) for name, rates in stated.items()}
    if not found:
        raise InputError("no class; expected rates of at least one service class")
    deepest = max(one.depth for one in found.values())
    lowest = min(found.values(), key=lambda one: one.tokens_per_turn(deepest))
    return {**found, "": lowest}


def speculation_section(speculation: Speculation | None) -> dict[str, Any] | None:
    """Return the section of the file for a value."""
    if speculation is None:
        return None
    rates = {name: list(one.rates) for name, one in speculation.acceptance.items()}
    others = rates.pop("")
    depth, draft = speculation.depth, speculation.draft
    return {"method": speculation.method, "tokens": depth.tokens,
            "acceptance": rates or published_name(speculation.acceptance[""]) or others,
            "draft": draft and {"model": draft.name, "precision": speculation.draft_precision},
            "by_batch": [list(row) for row in depth.by_batch] or None}


def target_and_draft(group: ReplicaGroup) -> tuple[StepTimeModel, Draft]:
    """Return the step time of a group's model alone, and its draft."""
    assert group.speculation is not None
    target = make_step_time(group.step_time, group.model, group.accelerator, group.parallelism,
                            group.precision, group.kv_precision,
                            role=group.step_role)
    return target, Draft(_passes(group, group.speculation, target))


def drafted_step_time(group: ReplicaGroup, target: StepTimeModel) -> SpeculativeStepTime:
    """Return the step time of a group that drafts, where ``target`` is that of its model alone."""
    assert group.speculation is not None
    return speculative(target, Draft(_passes(group, group.speculation, target)),
                       group.speculation.depth)


def _draft_of(group: ReplicaGroup, speculation: Speculation) -> ModelSpec | None:
    return speculation.draft or head_of(group.model, speculation.method)


def _passes(group: ReplicaGroup, speculation: Speculation,
            target: StepTimeModel) -> StepTimeModel | None:
    """Return the step time of a pass of the draft.

    A head runs on the ranks of its model, a draft model on one rank (``draft_tensor_parallel_size``
    1) where it cannot be shared. Where step times of the model have no architecture, a pass takes
    the model's time by the share of the weights.
    """
    draft = _draft_of(group, speculation)
    if draft is None:
        return None
    parallelism = replace(group.parallelism, pipeline=1)
    if draft.indivisible(parallelism.tensor):
        parallelism = replace(parallelism, tensor=1)
    precision = speculation.draft_precision if speculation.draft else group.precision
    stated = group.step_time
    options: dict[str, Any] = ({"kind": stated or "roofline"} if isinstance(stated, str | None)
                               else dict(stated))
    factor = options.pop("factor", 1.0)
    kind = options.get("kind", options.get("name", "roofline"))
    if kind not in ("roofline", "measured", "kernels"):
        ratio = _streamed(draft, precision) / _streamed(group.model, group.precision)
        return biased(target, ratio)
    made = make_step_time(options if kind == "measured" else "roofline", draft, group.accelerator,
                          parallelism, precision, group.kv_precision)
    if isinstance(made, RooflineStepTime):
        # A draft has no front end, whose time for each sequence the fitted rates contain.
        made = replace(made, host_s=DRAFT_PASS_S, decode_seq_s=0.0)
    return biased(made, factor)


def _streamed(model: ModelSpec, precision: str) -> float:
    """Return the bytes of weights that a step reads for a single token."""
    share = model.active_params / model.num_params
    return share * model.weight_bytes(precision)


def drafted_kv_tokens(group: ReplicaGroup, engine: EngineOptions) -> int:
    """Return the tokens of a replica's KV cache beside the weights and the KV cache of its
    draft. Raises InputError where nothing is left."""
    assert group.speculation is not None
    draft = _draft_of(group, group.speculation)
    model, parallelism = group.model, group.parallelism
    overhead_bytes, share = OVERHEAD_BYTES, 1.0
    if draft is not None:
        spread = replace(parallelism, pipeline=1)
        precision = group.precision
        if group.speculation.draft is None:
            draft = replace(draft, vocab_size=0)  # the output layer is the model's own
        else:
            precision = group.speculation.draft_precision
            if draft.indivisible(spread.tensor):
                spread = replace(spread, tensor=1)
        overhead_bytes += round(weight_bytes_per_accelerator(draft, spread, precision))
        mine = kv_bytes_per_accelerator(model, parallelism, group.kv_precision)
        share = mine / (mine + kv_bytes_per_accelerator(draft, spread, group.kv_precision))
    found = kv_capacity_tokens(model, group.accelerator, parallelism, group.precision,
                               group.kv_precision, memory_fraction=engine.memory_fraction,
                               overhead_bytes=overhead_bytes, block_tokens=engine.block_tokens,
                               adapter_bytes=slot_bytes(model, parallelism, group.lora))
    blocks = int(found.blocks * share)
    if blocks < 1:
        raise InputError(f"{model.name} with its draft leaves no KV cache on "
                         f"{group.accelerator.name}")
    return blocks * engine.block_tokens


def turn_tokens(speculation: Speculation, service_class: str) -> float:
    """Return the mean tokens of a turn of a class, at the usual depth."""
    return speculation.acceptance_of(service_class).tokens_per_turn(speculation.depth.tokens)


def drafting_of(group: ReplicaGroup) -> Drafting | None:
    """Return what the scheduler of a group's replicas believes of drafts, None without drafts.

    The scheduler believes the acceptance that the file states: on a live engine, counters tell it.
    """
    if group.speculation is None:
        return None
    depth = group.speculation.depth
    parts = {name: tuple(round(CONTEXT_PARTS * one.tokens_per_turn(k))
                         for k in range(max(depth.choices) + 1))
             for name, one in group.speculation.acceptance.items()}
    return Drafting(depth, parts)
