"""Other rules of what a page cache keeps, to hold against the one in HostMemory.

Each gives the GB that every load of a sequence of (model, GB) reads from disk.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

Loads = Sequence[tuple[str, float]]
Rule = Callable[[Loads, float], list[float]]
BLOCK_GB = 0.5


def newest_first(loads: Loads, capacity_gb: float) -> list[float]:
    """Whole models, what was read last of the others goes first."""
    held: dict[str, float] = {}
    found = []
    for model, size in loads:
        found.append(size - held.pop(model, 0.0))
        over = sum(held.values()) + size - capacity_gb
        while over > 0.0 and held:
            name = next(reversed(held))
            taken = min(over, held[name])
            over -= taken
            held[name] -= taken
            if held[name] <= 1e-9:
                del held[name]
        held[model] = min(size, capacity_gb)
    return found


def in_proportion(loads: Loads, capacity_gb: float) -> list[float]:
    """The others give up equal shares of what they hold (random replacement, none of its own)."""
    held: dict[str, float] = {}
    found = []
    for model, size in loads:
        found.append(size - held.pop(model, 0.0))
        room, others = max(0.0, capacity_gb - size), sum(held.values())
        if others > room:
            held = {name: value * room / others for name, value in held.items()}
        held[model] = min(size, capacity_gb)
    return found


def pages(loads: Loads, capacity_gb: float) -> list[float]:
    """Blocks in strict order of their last use: a file read from its start evicts its own end."""
    cache: OrderedDict[tuple[str, int], None] = OrderedDict()
    found = []
    for model, size in loads:
        missing = 0
        for number in range(round(size / BLOCK_GB)):
            key = (model, number)
            if key in cache:
                cache.move_to_end(key)
                continue
            missing += 1
            cache[key] = None
            if len(cache) * BLOCK_GB > capacity_gb:
                cache.popitem(last=False)
        found.append(missing * BLOCK_GB)
    return found


def use_once(loads: Loads, capacity_gb: float) -> list[float]:
    """Linux's two lists without its memory of what was evicted: blocks that were read once go
    before those that were read again while cached."""
    once: OrderedDict[tuple[str, int], None] = OrderedDict()
    again: OrderedDict[tuple[str, int], None] = OrderedDict()
    found = []
    for model, size in loads:
        missing = 0
        for number in range(round(size / BLOCK_GB)):
            key = (model, number)
            if key in again:
                again.move_to_end(key)
            elif key in once:
                del once[key]
                again[key] = None
            else:
                missing += 1
                once[key] = None
            while (len(once) + len(again)) * BLOCK_GB > capacity_gb:
                if len(again) > len(once):  # the two are kept even
                    once[again.popitem(last=False)[0]] = None
                once.popitem(last=False)
        found.append(missing * BLOCK_GB)
    return found


RULES: dict[str, Rule] = {"newest first": newest_first, "in proportion": in_proportion,
                          "pages": pages, "use once": use_once}
