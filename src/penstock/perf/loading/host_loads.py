"""Expected time of the next load of each model on a host, given the reads before it."""

from collections.abc import Sequence

from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.model import LoadingModel


class HostLoads:
    """Loads of models, given by index, on the devices of one host.

    Holds a model of the host's page cache, which the reported loads update. Two engines on one host
    share one object. ``num_loads`` counts loads by device, so that first loads are known.
    """

    def __init__(self, names: Sequence[str], sizes_bytes: Sequence[int], loading: LoadingModel,
                 memory: HostMemory) -> None:
        self._names = names
        self._sizes = sizes_bytes
        self._loading = loading
        self._memory = memory
        self._seen: set[int] = set()
        self._known: dict[tuple[int, bool], tuple[int, float]] = {}

    def load_s(self, device: int, model: int) -> float:
        """A load that would begin now."""
        first = device not in self._seen
        changes = self._memory.num_changes(self._names[model])
        known = self._known.get((model, first))
        if known is not None and known[0] == changes:
            return known[1]
        size = self._sizes[model]
        held = self._memory.held(self._names[model], size)
        seconds = self._loading.seconds(size, held.cached_bytes, pinned_bytes=held.pinned_bytes,
                                        first=first)
        self._known[model, first] = changes, seconds
        return seconds

    def prefetch_s(self, model: int) -> float:
        """Reading what is on disk into the page cache; 0 where all of it is there, or where the
        cache could not hold the model."""
        size = self._sizes[model]
        held = self._memory.held(self._names[model], size)
        if held.disk_bytes == 0 or size > self._memory.capacity_bytes - self._memory.staged_bytes:
            return 0.0
        return self._loading.stage(size, size - held.disk_bytes).total_s

    def loaded(self, device: int, model: int) -> None:
        """A load is over: its file went through the page cache."""
        self._seen.add(device)
        self._memory.read(self._names[model], self._sizes[model])

    def prefetched(self, model: int) -> None:
        """A file was read ahead."""
        self._memory.read(self._names[model], self._sizes[model])
