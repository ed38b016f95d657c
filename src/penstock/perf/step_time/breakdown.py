"""Parts of a step: what each computes and moves, how long it takes and how fast it could be."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.core.step import StepTime
from penstock.perf.step_time.work import PeakRates

DENSE, PREFILL_ATTENTION, DECODE_ATTENTION, COMMUNICATION, OVERHEAD = (
    "dense", "prefill_attention", "decode_attention", "communication", "overhead")
"""Groups of parts: the names of ``StepTime.parts``."""

HEAD, EXPERTS, NORMS, EMBEDDING = ("LM head", "routed experts", "norms and activations",
                                   "token embedding")
PROMPTS, DECODES, WINDOWS = ("attention of prompts", "attention of decodes",
                             "attention within windows")
STATES, LINEAR_STARTS = "linear-attention states", "linear-attention starts"
LAYER_STARTS, HOST, REST = "starts of layers", "host", "not told apart"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a step on one accelerator of each stage of the pipeline, stages summed.

    ``fixed_s`` of ``seconds`` goes by neither bytes nor operations: starts of kernels and messages,
    time per sequence. ``num_bytes`` are bytes of memory, ``sent_bytes`` of the link. Alone, no
    hardware does the part in less than ``bound_s``, which ``binds`` (memory, compute or link) sets;
    0 where no bound is certain. ``overlap`` is the share of the part's time alone, without what is
    fixed, that it adds to a step. ``bytes_per_s`` and ``flops_per_s`` are the rates that the
    estimate takes, None where it takes times from a table. ``in_16bit`` operations are so whatever
    the weights' precision.
    """

    name: str
    group: str
    seconds: float
    source: str
    calls: int = 0
    num_bytes: float = 0.0
    flops: float = 0.0
    sent_bytes: float = 0.0
    bound_s: float = 0.0
    binds: str = ""
    fixed_s: float = 0.0
    overlap: float = 1.0
    bytes_per_s: float | None = None
    flops_per_s: float | None = None
    in_16bit: bool = False

    @property
    def intensity(self) -> float | None:
        """Return operations per byte of memory, None where no bytes are counted."""
        return self.flops / self.num_bytes if self.num_bytes else None

    @property
    def alone_s(self) -> float:
        """Return the time of the part in a step of its own."""
        return self.fixed_s + (self.seconds - self.fixed_s) / self.overlap

    @property
    def bound_share(self) -> float | None:
        """Return the share of the physical limit that the part reaches alone, None without one."""
        return self.bound_s / self.alone_s if self.bound_s and self.alone_s else None

    def against(self, peak: PeakRates, *, in_16bit: bool = False) -> "Part":
        """Return the part with its bound: bytes, operations and sent bytes at the peaks."""
        flops = peak.flops_16bit if in_16bit else peak.flops
        bounds = ((self.num_bytes / peak.bandwidth, "memory"), (self.flops / flops, "compute"),
                  (self.sent_bytes / peak.link if self.sent_bytes else 0.0, "link"))
        bound_s, binds = max(bounds, key=lambda bound: bound[0])
        return replace(self, bound_s=bound_s, binds=binds if bound_s else "", in_16bit=in_16bit)

    def times(self, factor: float) -> "Part":
        """Return the part as long as ``factor`` such parts; its work stays."""
        def slower(rate: float | None) -> float | None:
            return None if rate is None else rate / factor

        return replace(self, seconds=self.seconds * factor, fixed_s=self.fixed_s * factor,
                       bytes_per_s=slower(self.bytes_per_s), flops_per_s=slower(self.flops_per_s),
                       source=f"{self.source} x {factor:g}")


def coarse_parts(told: StepTime) -> Iterator[Part]:
    """Yield the parts that a prediction tells, and what they leave of its time."""
    for name, seconds in told.parts.items():
        if seconds:
            yield Part(name.replace("_", " "), name, seconds, told.source)
    rest_s = told.total_s - sum(told.parts.values())
    if abs(rest_s) > 1e-9 * told.total_s:
        yield Part(REST, OVERHEAD, rest_s, told.source)
