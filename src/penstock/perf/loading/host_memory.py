"""Models' files in host memory: the page cache, and weights staged in pinned memory."""

from typing import NamedTuple

from penstock.core.errors import InputError


class HostRead(NamedTuple):
    """Sources of the bytes of a read; a whole read's bytes add up to the model's size."""

    disk_bytes: int
    cached_bytes: int
    pinned_bytes: int


class HostMemory:
    """Host memory that holds weights, as whole bytes per model.

    Staged models (``stage``) stay until ``unstage``, up to ``pinned_limit_bytes``. The page cache
    has the rest of ``capacity_bytes``: a file that is read through (``read``) is in it, and what
    must go for that is taken from the models read longest ago. A model may so be held in part, and
    what is held of a file when its next read begins counts as found, down to the last byte.

    That is coarser than Linux, where pages are evicted in the order of their last use, so that a
    file read from its beginning evicts its own end before it gets there. A loader with several
    readers, and pages that were used twice, soften that. Deterministic; no clock: reads count in
    the order of their calls.
    """

    __slots__ = ("_cached", "_changes", "_staged", "cached_bytes", "capacity_bytes",
                 "pinned_limit_bytes", "staged_bytes")

    def __init__(self, capacity_bytes: int, pinned_limit_bytes: int = 0) -> None:
        if not 0 <= pinned_limit_bytes <= capacity_bytes:
            raise InputError(f"pinned_limit_bytes: {pinned_limit_bytes}; expected 0 to "
                             f"{capacity_bytes}, the host's memory for weights")
        self.capacity_bytes = capacity_bytes
        self.pinned_limit_bytes = pinned_limit_bytes
        self.cached_bytes = 0
        self.staged_bytes = 0
        self._cached: dict[str, int] = {}  # insertion order = read longest ago first
        self._staged: dict[str, int] = {}
        self._changes: dict[str, int] = {}

    def held(self, model: str, size_bytes: int) -> HostRead:
        """Return the sources that a read of the model would have now. Changes nothing."""
        pinned = min(self._staged.get(model, 0), size_bytes)
        cached = min(self._cached.get(model, 0), size_bytes - pinned)
        return HostRead(size_bytes - pinned - cached, cached, pinned)

    def num_changes(self, model: str) -> int:
        """How often what is held of a model has changed: what follows from it may be remembered
        until then."""
        return self._changes.get(model, 0)

    def read(self, model: str, size_bytes: int, most_disk_bytes: int | None = None) -> HostRead:
        """Read a model's file through the page cache, or take it from pinned memory.

        ``most_disk_bytes`` ends the read early, as when a prefetch is cut short: no more than that
        comes from disk, and the rest of the file stays where it is.
        """
        found = self.held(model, size_bytes)
        disk = found.disk_bytes
        if most_disk_bytes is not None and most_disk_bytes < disk:
            disk = max(0, most_disk_bytes)
            found = HostRead(disk, found.cached_bytes, found.pinned_bytes)
        self._cache(model, found.cached_bytes + disk)
        return found

    def stage(self, model: str, size_bytes: int, *, from_device: bool = False) -> HostRead | None:
        """Bring a model into pinned memory, or None where the limit leaves no room for it.

        What the page cache has of it is taken over. ``from_device`` copies it back from the device
        instead (sleep), so nothing comes from disk.
        """
        before = self._staged.get(model, 0)
        if self.staged_bytes - before + size_bytes > self.pinned_limit_bytes:
            return None
        found = self.held(model, size_bytes)
        self._forget(model)
        self.staged_bytes += size_bytes - before
        self._staged[model] = size_bytes
        self._changed(model)
        self._make_room(0)
        return HostRead(0, 0, size_bytes) if from_device else found

    def unstage(self, model: str) -> int:
        """Give a model's pinned memory back; the bytes that were freed."""
        freed = self._staged.pop(model, 0)
        self._changed(model)
        self.staged_bytes -= freed
        return freed

    def drop(self, model: str) -> int:
        """Take a model out of the page cache (its file changed, or was evicted by hand)."""
        return self._forget(model)

    def squeeze(self, num_bytes: int) -> int:
        """Take so many bytes of the page cache for something else; how many were given up."""
        before = self.cached_bytes
        self._make_room(num_bytes)
        return before - self.cached_bytes

    def in_page_cache(self) -> dict[str, int]:
        """Bytes per model, the one read longest ago first."""
        return dict(self._cached)

    def in_pinned_memory(self) -> dict[str, int]:
        """Bytes per staged model."""
        return dict(self._staged)

    def copy(self) -> "HostMemory":
        """An equal memory of its own, to try out what follows from a decision."""
        other = HostMemory(self.capacity_bytes, self.pinned_limit_bytes)
        other._cached, other._staged = dict(self._cached), dict(self._staged)
        other.cached_bytes, other.staged_bytes = self.cached_bytes, self.staged_bytes
        return other

    def check_integrity(self) -> None:
        """Raise AssertionError unless the sums are right and nothing is exceeded."""
        assert self.cached_bytes == sum(self._cached.values()), self._cached
        assert self.staged_bytes == sum(self._staged.values()), self._staged
        assert self.staged_bytes <= self.pinned_limit_bytes, self._staged
        assert self.cached_bytes + self.staged_bytes <= self.capacity_bytes
        assert all(held > 0 for held in self._cached.values()), self._cached

    # -- page cache -------------------------------------------------------------------------------

    def _cache(self, model: str, num_bytes: int) -> None:
        """Have so many bytes of the model in the cache, as the one read last."""
        self._forget(model)
        kept = min(num_bytes, self.capacity_bytes - self.staged_bytes)
        if kept <= 0:
            return
        self._make_room(kept)
        self._changed(model)
        self._cached[model] = kept
        self.cached_bytes += kept

    def _make_room(self, num_bytes: int) -> None:
        over = self.cached_bytes + self.staged_bytes + num_bytes - self.capacity_bytes
        while over > 0 and self._cached:
            oldest = next(iter(self._cached))
            taken = min(over, self._cached[oldest])
            self._changed(oldest)
            over -= taken
            self.cached_bytes -= taken
            if taken == self._cached[oldest]:
                del self._cached[oldest]
            else:
                self._cached[oldest] -= taken

    def _forget(self, model: str) -> int:
        self._changed(model)
        held = self._cached.pop(model, 0)
        self.cached_bytes -= held
        return held

    def _changed(self, model: str) -> None:
        self._changes[model] = self._changes.get(model, 0) + 1
