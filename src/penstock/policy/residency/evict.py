"""Which residents make room for a model."""

from collections.abc import Callable, Sequence

from penstock.policy.residency.device import Device

Keep = Callable[[Device, int, float], float]
"""How much a resident is worth keeping on a device: those worth least go first."""


def victims(device: Device, model: int, now_s: float, keep: Keep,
            spare: int = 0) -> tuple[int, ...] | None:
    """Residents to drop so that a model fits and ``spare`` bytes stay free beside it; None where it
    would not fit beside what runs. Who is dropped without need, because a later one alone makes
    room, is kept after all."""
    idle = sorted(device.idle, key=lambda one: (keep(device, one, now_s), one))
    chosen: list[int] = []
    while not _fits(device, model, chosen, spare):
        if len(chosen) == len(idle):
            return None
        chosen.append(idle[len(chosen)])
    for one in tuple(chosen):
        fewer = [other for other in chosen if other != one]
        if _fits(device, model, fewer, spare):
            chosen = fewer
    return tuple(chosen)


def _fits(device: Device, model: int, evict: Sequence[int], spare: int) -> bool:
    freed = sum(device.models[other].size_bytes for other in evict)
    size = device.models[model].size_bytes
    return device.fits(model, evict) and device.free_bytes + freed - size >= spare


def least_recent(device: Device, model: int, _now_s: float) -> float:
    """LRU."""
    return device.residents[model].last_used_s


def dear_and_recent(load_s: Callable[[Device, int], float]) -> Keep:
    """Cost-aware LRU: seconds to load again per byte held, less by how long it has been idle."""
    def keep(device: Device, model: int, now_s: float) -> float:
        idle_s = now_s - device.residents[model].last_used_s
        return load_s(device, model) / (device.models[model].size_bytes + 1) / (1.0 + idle_s)
    return keep
