"""Choice of the residents to evict for a model."""

from collections.abc import Callable, Container, Sequence
from math import inf

from penstock.policy.multiplex.device import Device

Keep = Callable[[Device, int, float], float]
"""Value of keeping a resident on a device. The least valuable are evicted first."""


def victims(device: Device, model: int, now_s: float, keep: Keep,
            spare: int = 0) -> tuple[int, ...] | None:
    """Return the residents to drop so that a model fits with ``spare`` bytes left; None where it
    does not fit beside running residents. A resident is kept if a later one alone makes enough
    room."""
    idle = sorted(device.idle, key=lambda one: (keep(device, one, now_s), one))
    return _fewest(device, model, idle, spare)


def leavers(device: Device, model: int, now_s: float, keep: Keep,
            spare: int = 0) -> tuple[int, ...] | None:
    """Return the residents to drop so that a model fits, including residents whose requests must
    end first; None where it would not fit even then. Idle residents go first."""
    ranked = sorted(device.residents, key=lambda one: (device.residents[one].num_running > 0,
                                                       keep(device, one, now_s), one))
    return _fewest(device, model, ranked, spare)


def crowded(device: Device, model: int, now_s: float, keep: Keep) -> int | None:
    """Return a resident to drop because another, idle resident has no memory for a single request;
    None where there is no such case."""
    if device.room(model) > 0 or device.residents[model].num_running:
        return None
    others = [other for other in device.idle if other != model]
    return min(others, key=lambda one: (keep(device, one, now_s), one), default=None)


def _fewest(device: Device, model: int, ranked: Sequence[int],
            spare: int) -> tuple[int, ...] | None:
    chosen: list[int] = []
    while not _fits(device, model, chosen, spare):
        if len(chosen) == len(ranked):
            return None
        chosen.append(ranked[len(chosen)])
    for one in tuple(chosen):
        fewer = [other for other in chosen if other != one]
        if _fits(device, model, fewer, spare):
            chosen = fewer
    return tuple(chosen)


def _fits(device: Device, model: int, evict: Sequence[int], spare: int) -> bool:
    freed = device.held_bytes(evict)
    size = device.models[model].size_bytes
    return device.fits(model, evict) and device.free_bytes + freed - size >= spare


def least_recent(device: Device, model: int, _now_s: float) -> float:
    """LRU."""
    return device.residents[model].last_used_s


def sparing(spared: Container[int], keep: Keep) -> Keep:
    """Return ``keep`` with some residents more valuable than all others."""
    return lambda device, model, now_s: inf if model in spared else keep(device, model, now_s)


def dear_and_recent(load_s: Callable[[Device, int], float]) -> Keep:
    """Cost-aware LRU: seconds to load again per byte held, less by how long it has been idle."""
    def keep(device: Device, model: int, now_s: float) -> float:
        idle_s = now_s - device.residents[model].last_used_s
        return load_s(device, model) / (device.models[model].size_bytes + 1) / (1.0 + idle_s)
    return keep
