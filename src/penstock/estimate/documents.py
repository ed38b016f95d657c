"""Estimates and choices as JSON documents."""

from dataclasses import asdict
from typing import Any

from penstock.core.configuration import Configuration
from penstock.policy.place.intent import Choice, Scored
from penstock.policy.place.values import Placement


def configuration_document(configuration: Configuration) -> dict[str, Any]:
    """A configuration."""
    spread = configuration.parallelism
    return {"configuration": configuration.name, "tensor": spread.tensor,
            "pipeline": spread.pipeline, "precision": configuration.precision,
            "kv_precision": configuration.kv_precision}


def stages_document(placed: Placement) -> dict[str, Any]:
    """Return the devices of each stage's layers."""
    return {"layers_by_stage": list(placed.layer_map),
            "devices_by_stage": [list(stage.device_ids) for stage in placed.stages]}


def scored_document(scored: Scored) -> dict[str, Any]:
    """A candidate, its value by the intent, and its predictions with their intervals."""
    candidate = scored.candidate
    return {**configuration_document(candidate.configuration), "value": scored.value,
            "response_s": scored.response_s, "accuracy": candidate.accuracy,
            "latency_s": asdict(candidate.latency_s),
            "memory_bytes": asdict(candidate.memory_bytes)}


def rejected_document(choice: Choice) -> list[dict[str, Any]]:
    """Return the rejected configurations with their reasons."""
    return [{"configuration": candidate.configuration.name, "reason": why}
            for candidate, why in choice.rejected]
