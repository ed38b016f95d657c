"""A system under other conditions: more or less load, fewer devices, another current state."""

from collections.abc import Mapping
from dataclasses import replace

from penstock.published.inferno.values import Allocation, Load, System


def scale_load(system: System, rate_factor: float, token_factor: float) -> System:
    """Every server's arrival rate and mean tokens times a factor; tokens are cut to whole ones."""
    def scaled(load: Load) -> Load:
        return replace(load, arrival_per_min=load.arrival_per_min * rate_factor,
                       input_tokens=int(load.input_tokens * token_factor),
                       output_tokens=int(load.output_tokens * token_factor))

    return replace(system, servers={name: replace(server, load=scaled(server.load))
                                    for name, server in system.servers.items()})


def scale_capacity(system: System, factor: float) -> System:
    """Every pool's devices times a factor, cut to whole devices."""
    if system.capacity is None:
        return system
    return replace(system, capacity={pool: int(devices * factor)
                                     for pool, devices in system.capacity.items()})


def apply_allocations(system: System, allocations: Mapping[str, Allocation]) -> System:
    """Return the system with the decisions as current state; a server without a decision has
    nothing."""
    return replace(system, servers={
        name: replace(server, current=allocations.get(name, Allocation()))
        for name, server in system.servers.items()})
