"""How long a load takes, by where the weights are: disk, page cache, pinned host memory."""

from dataclasses import dataclass
from typing import Literal

from penstock.core.units import GB
from penstock.perf.loading.values import ConfidentialTerms, FirstLoad, LoadEvidence, LoadTime

_NO_FIRST = FirstLoad()
_INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class LoadingModel:
    """Seconds of a load from the bytes that come from disk and those that are copied to the device.

    read = missing bytes / disk_bytes_per_s
    copy = size / pageable_bytes_per_s   (what is staged in pinned memory: pinned_bytes_per_s)
    total = fixed + read + copy - overlap * min(read, copy)   (+ first load of a run)

    ``overlap`` is 0 where a file is read before it is copied, 1 where a pipeline does both at a
    time (Gupta et al., ServerlessLLM, OSDI 2024, section 4, has such a loader). ``fixed_s``:
    process, tokenizer, context of the device, Python. ``confidential`` adds its terms to each
    stage, ``link_bytes_per_s`` is what no load can beat: the peak of the bus to the device.

    Unloading takes ``unload_s`` whatever the size. Sleep, which keeps the weights in host memory,
    also copies them back at ``back_bytes_per_s``.
    """

    disk_bytes_per_s: float
    pageable_bytes_per_s: float
    evidence: LoadEvidence
    pinned_bytes_per_s: float = 0.0
    back_bytes_per_s: float = 0.0
    fixed_s: float = 0.0
    unload_s: float = 0.0
    overlap: float = 0.0
    first: FirstLoad = _NO_FIRST
    confidential: ConfidentialTerms | None = None
    link_bytes_per_s: float = _INFINITE

    def seconds(self, size_bytes: float, cached_bytes: float = 0.0, *, pinned_bytes: float = 0.0,
                first: bool = False) -> float:
        """``load(...).total_s`` alone: the simulator's hot path."""
        read_s, copy_s, bounce_s, fixed_s = self._stages(size_bytes, cached_bytes, pinned_bytes)
        hidden_s = self.overlap * min(read_s, copy_s + bounce_s)
        return (fixed_s + read_s + copy_s + bounce_s - hidden_s
                + (self.first.extra_s if first else 0.0))

    def load(self, size_bytes: float, cached_bytes: float = 0.0, *, pinned_bytes: float = 0.0,
             first: bool = False) -> LoadTime:
        """Time from the decision to load until the model can compute.

        ``pinned_bytes`` of it are staged in pinned host memory and ``cached_bytes`` of the rest in
        the page cache, as ``HostRead`` has them; what is in neither comes from disk.
        """
        read_s, copy_s, bounce_s, fixed_s = self._stages(size_bytes, cached_bytes, pinned_bytes)
        hidden_s = self.overlap * min(read_s, copy_s + bounce_s)
        parts = {"disk_s": read_s, "copy_s": copy_s,
                 "confidential_s": bounce_s + fixed_s - self.fixed_s,
                 "fixed_s": self.fixed_s, "first_s": self.first.extra_s if first else 0.0,
                 "hidden_s": hidden_s}
        total_s = fixed_s + read_s + copy_s + bounce_s - hidden_s
        return self._with_interval(total_s, size_bytes, parts, first=first)

    def stage(self, size_bytes: float, cached_bytes: float = 0.0) -> LoadTime:
        """Time to bring a model into host memory ahead of a load: reading alone."""
        read_s = max(0.0, size_bytes - cached_bytes) * self._disk_s_per_byte
        return self._with_interval(read_s, size_bytes, {"disk_s": read_s}, on_bus=False)

    def unload(self, size_bytes: float, keep: Literal["nothing", "host"] = "nothing") -> LoadTime:
        """Time to free the device; with ``keep="host"`` the weights are copied back first."""
        parts = {"fixed_s": self.unload_s}
        if keep == "host":
            rate = self.back_bytes_per_s or self.pinned_bytes_per_s or self.pageable_bytes_per_s
            parts["copy_s"] = size_bytes / rate
            if self.confidential is not None:
                parts["confidential_s"] = self.confidential.copy_s_per_gb * size_bytes / GB
        return self._with_interval(sum(parts.values()), size_bytes, parts, on_bus=keep == "host")

    @property
    def _disk_s_per_byte(self) -> float:
        slower = self.confidential.disk_s_per_gb / GB if self.confidential is not None else 0.0
        return 1.0 / self.disk_bytes_per_s + slower

    def _stages(self, size_bytes: float, cached_bytes: float, pinned_bytes: float
                ) -> tuple[float, float, float, float]:
        """Seconds of reading, of copying, of encrypting what is copied, and the fixed part."""
        pageable = size_bytes - pinned_bytes
        read_s = max(0.0, pageable - cached_bytes) / self.disk_bytes_per_s
        copy_s = (pageable / self.pageable_bytes_per_s
                  + pinned_bytes / (self.pinned_bytes_per_s or self.pageable_bytes_per_s))
        extra = self.confidential
        if extra is None:
            return read_s, copy_s, 0.0, self.fixed_s
        read_s += max(0.0, pageable - cached_bytes) * extra.disk_s_per_gb / GB
        return (read_s, copy_s, size_bytes * extra.copy_s_per_gb / GB,
                self.fixed_s + extra.fixed_s)

    def _with_interval(self, total_s: float, size_bytes: float, parts: dict[str, float], *,
                       first: bool = False, on_bus: bool = True) -> LoadTime:
        inside = self.evidence.covers(size_bytes)
        error = self.evidence.p95_error if inside else 2.0 * self.evidence.p95_error
        least_s = size_bytes / self.link_bytes_per_s if on_bus else 0.0
        low_s, high_s = total_s / (1.0 + error), total_s * (1.0 + error)
        if first:  # skewed: its mean moves the estimate, its 95th percentile the upper end
            total_s += self.first.extra_s
            high_s += max(self.first.extra_s, self.first.extra_p95_s)
        return LoadTime(total_s, min(total_s, max(least_s, low_s)), high_s, parts,
                        self.evidence.source, not inside)
