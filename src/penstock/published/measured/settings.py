"""Settings of the engines that a published run states elsewhere than in its row."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

_MANY_CLIENTS = 16
_CLIENTS_ROUNDING = 64


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Settings of an engine in a run; None where the engine's own default holds."""

    kv_precision: str | None = None
    step_tokens: int | None = None
    max_num_seqs: int | None = None
    every_steps: int = 1
    memory_fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Facts of a run by which its settings are found."""

    engine: str
    model: str
    accelerator: str
    precision: str
    tensor: int
    prompt_tokens: int
    clients: int


def inferencex_settings(run: Run) -> RunSettings:
    """Return the settings that InferenceX passes to the engine of such a run."""
    rule = next((rule for rule in _rules() if _fits(rule, run)), None)
    if rule is None:
        return RunSettings()
    step_tokens: int | None = rule.get("step_tokens")
    if "prompts" in rule:
        step_tokens = rule["prompts"] * run.prompt_tokens
    if rule.get("clients"):
        asked = run.prompt_tokens + run.clients + _CLIENTS_ROUNDING
        step_tokens = max(step_tokens or 0, -(-asked // _CLIENTS_ROUNDING) * _CLIENTS_ROUNDING)
    few, many = rule.get("every_steps", (1, 1))
    return RunSettings(rule.get("kv"), step_tokens, rule.get("max_num_seqs"),
                       few if run.clients < rule.get("many", _MANY_CLIENTS) else many,
                       rule.get("memory_fraction"))


def _fits(rule: Mapping[str, Any], run: Run) -> bool:
    named = {"models": run.model, "accelerators": run.accelerator, "formats": run.precision}
    return (rule["engine"] == run.engine
            and run.tensor in rule.get("tensor", (run.tensor,))
            and all(value.startswith(tuple(rule[key])) for key, value in named.items()
                    if key in rule))


@cache
def _rules() -> list[Mapping[str, Any]]:
    text = resources.files("penstock.published.measured").joinpath("settings.yaml").read_text()
    rules: list[Mapping[str, Any]] = yaml.load(
        text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return rules
