"""Checks of single values in catalog files and model configs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from penstock.core.errors import InputError
from penstock.core.model import ModelSpec

_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Field:
    """One key of an entry: the values it accepts, and their description."""

    expected: str
    accepts: Callable[[Any], bool]
    required: bool = False


def number(low: float, high: float, what: str, *, above: bool = False,
           required: bool = False) -> Field:
    """Return a field for a finite number from ``low`` (excluded with ``above``) to ``high``."""
    bound = f"above {low:,g}" if above else f"at least {low:,g}"

    def accepts(value: Any) -> bool:
        # A comparison with NaN is false, so NaN is refused here as well.
        return is_number(value) and (low < value <= high if above else low <= value <= high)

    return Field(f"{what}, {bound} and at most {high:,g}", accepts, required)


def whole(low: int, high: int, *, required: bool = False) -> Field:
    """Return a field for a whole number from ``low`` to ``high``."""
    return Field(f"a whole number from {low:,} to {high:,}",
                 lambda value: is_whole(value) and low <= value <= high, required)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is an int and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether ``value`` is a float or an int."""
    return isinstance(value, float) or is_whole(value)


def is_text(value: Any) -> TypeGuard[str]:
    """Whether ``value`` is non-empty text."""
    return isinstance(value, str) and bool(value.strip())


def quote(value: Any) -> str:
    """Quote a value in one short line for an error message."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def checked_model(spec: ModelSpec, where: str) -> ModelSpec:
    """Return ``spec`` if its fields agree with each other, else raise InputError."""
    for field, found, expected, holds in _agreements(spec):
        if not holds:
            raise InputError(f"{where}: {field}: found {found}; expected {expected}")
    return spec


def _agreements(spec: ModelSpec) -> list[tuple[str, int, str, bool]]:
    """Return for each field: name, value, expected value, and whether it holds."""
    experts = spec.num_experts
    return [
        ("num_kv_heads", spec.num_kv_heads, f"a divisor of num_heads, {spec.num_heads}",
         spec.num_heads % spec.num_kv_heads == 0),
        ("experts_per_token", spec.experts_per_token,
         f"1 to num_experts, {experts}" if experts else "0 for a dense model",
         0 < spec.experts_per_token <= experts if experts else not spec.experts_per_token),
        ("expert_intermediate_size", spec.expert_intermediate_size,
         "above 0 for a mixture of experts", not experts or spec.expert_intermediate_size > 0),
        ("num_dense_layers", spec.num_dense_layers, f"at most num_layers, {spec.num_layers}",
         spec.num_dense_layers <= spec.num_layers),
        ("kv_layers", spec.kv_layers, f"at most num_layers, {spec.num_layers}",
         spec.kv_layers <= spec.num_layers),
        ("window_layers", spec.window_layers, "fewer than the layers with a KV cache, "
         f"{spec.cached_layers}", spec.window_layers < spec.cached_layers),
        ("window_tokens", spec.window_tokens, "above 0 where layers have a window, else 0",
         bool(spec.window_layers) == bool(spec.window_tokens)),
        ("rope_head_dim", spec.rope_head_dim, f"at most head_dim, {spec.head_dim}",
         spec.rope_head_dim <= spec.head_dim),
        ("kv_latent_size", spec.kv_latent_size,
         f"0, or more than rope_head_dim, {spec.rope_head_dim}",
         not spec.kv_latent_size or spec.kv_latent_size > spec.rope_head_dim),
    ]
