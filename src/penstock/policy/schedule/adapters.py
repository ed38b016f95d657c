"""Adapters (LoRA) of one replica: which are in use, and which are loaded."""

from collections.abc import Mapping
from typing import NamedTuple

from penstock.core.units import PS_PER_S
from penstock.policy.keep import Demand


class AdapterCost(NamedTuple):
    """Times of one adapter, picoseconds: from disk to host memory, from there to the device, and
    to read its weights once a step."""

    fetch_ps: int = 0
    copy_ps: int = 0
    read_ps: int = 0


_FREE = AdapterCost()


class AdapterStore:
    """Adapters of one replica on its device, at most ``max_loras``, and in its host memory, at most
    ``most_loaded``, those on the device included.

    An adapter in use never makes way: ``users`` counts started sequences by adapter, at most
    ``max_loras`` adapters. On the device the least recently used makes way, as engines do it. In
    host memory it is the one for whose load the fewest requests would wait, by their recent
    ``demand``, or without that the least recently used. ``requests`` counts all requests.
    ``load_ps`` is the time to load what has started since ``settle``; ``overhead_ps`` is that of a
    step with any adapter. Adapters without ``costs`` of their own have the ``usual`` one.
    """

    __slots__ = ("_costs", "_demand", "_overhead_ps", "_reads_ps", "_usual", "device", "host",
                 "load_ps", "loaded_ps", "max_loras", "most_loaded", "num_copies", "num_fetches",
                 "requests", "users")

    def __init__(self, max_loras: int, most_loaded: int = 0, overhead_ps: int = 0,
                 costs: Mapping[str, AdapterCost] | None = None,
                 usual: AdapterCost = _FREE, demand: Demand | None = None) -> None:
        self.max_loras = max_loras
        self.most_loaded = max(max_loras, most_loaded)
        self._overhead_ps = overhead_ps
        self._costs = {} if costs is None else costs
        self._usual = usual
        self._demand = demand
        self._reads_ps = 0
        self.users: dict[str, int] = {}
        self.requests: dict[str, int] = {}
        self.device: dict[str, None] = {}  # least recently used first, as in ``host``
        self.host: dict[str, None] = {}
        self.load_ps = 0
        self.loaded_ps = 0
        self.num_copies = 0
        self.num_fetches = 0

    @property
    def step_ps(self) -> int:
        """How much longer a step takes with the adapters that are in use now."""
        return self._overhead_ps + self._reads_ps if self.users else 0

    @property
    def has_place(self) -> bool:
        """Whether one more adapter may be in use."""
        return len(self.users) < self.max_loras

    def arrived(self, adapter: str, now_s: float) -> None:
        """A request for an adapter has come."""
        self.requests[adapter] = self.requests.get(adapter, 0) + 1
        if self._demand is not None:
            self._demand.note(adapter, now_s)

    def start(self, adapter: str) -> bool:
        """A sequence starts, and what it needs is loaded. Returns whether it is the first of its
        adapter."""
        num = self.users.get(adapter, 0)
        self.users[adapter] = num + 1
        if num:
            return False
        cost = self._costs.get(adapter, self._usual)
        self._reads_ps += cost.read_ps
        if adapter not in self.device:
            self._load(adapter, cost)
        return True

    def leave(self, adapter: str) -> None:
        """A started sequence ends, or lost its KV cache."""
        num = self.users[adapter] - 1
        if num:
            self.users[adapter] = num
            return
        del self.users[adapter]
        self._reads_ps -= self._costs.get(adapter, self._usual).read_ps
        for place in (self.device, self.host):
            del place[adapter]
            place[adapter] = None

    def _load(self, adapter: str, cost: AdapterCost) -> None:
        if adapter not in self.host:
            if len(self.host) >= self.most_loaded:
                victim = self._least_wanted(self._demand)
                del self.host[victim]
                self.device.pop(victim, None)
            self.host[adapter] = None
            self.num_fetches += 1
            self.load_ps += cost.fetch_ps
        if len(self.device) >= self.max_loras:
            del self.device[self._oldest_idle(self.device)]
        self.device[adapter] = None
        self.num_copies += 1
        self.load_ps += cost.copy_ps

    def _oldest_idle(self, place: dict[str, None]) -> str:
        for adapter in place:
            if adapter not in self.users:
                return adapter
        raise AssertionError("no more than max_loras adapters are in use")

    def _least_wanted(self, demand: Demand | None) -> str:
        """Return the adapter that makes way in host memory; of equals the least recently used."""
        if demand is None:
            return self._oldest_idle(self.host)
        found, least = "", 0.0
        for adapter in self.host:
            if adapter in self.users:
                continue
            cost = self._costs.get(adapter, self._usual)
            value = demand.keep(adapter, (cost.fetch_ps + cost.copy_ps) / PS_PER_S)
            if not found or value < least:
                found, least = adapter, value
        assert found, "no more than max_loras adapters are in use"
        return found

    def settle(self) -> int:
        """Return the time of the loads since the last call, picoseconds."""
        load_ps, self.load_ps = self.load_ps, 0
        self.loaded_ps += load_ps
        return load_ps

    def emptied(self) -> "AdapterStore":
        """Return an empty store of the same room, for the next engine after one that has stopped,
        which goes on counting loads and demand."""
        found = AdapterStore(self.max_loras, self.most_loaded, self._overhead_ps, self._costs,
                             self._usual, None if self._demand is None else self._demand.copy())
        found.num_copies, found.num_fetches = self.num_copies, self.num_fetches
        found.loaded_ps = self.loaded_ps
        return found

    def check_integrity(self) -> None:
        """Raise AssertionError unless the limits hold and all that is in use is on the device."""
        assert len(self.users) <= self.max_loras, self.users
        assert self.users.keys() <= self.device.keys() <= self.host.keys()
        assert len(self.device) <= self.max_loras
        assert len(self.host) <= self.most_loaded
        assert all(num > 0 for num in self.users.values())
        assert all(num <= self.requests[one] for one, num in self.users.items())
