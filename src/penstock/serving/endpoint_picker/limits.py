"""Limits and options of an endpoint picker."""

from dataclasses import dataclass, field

from penstock.serving.endpoint_picker.saturation import SaturationLimits


@dataclass(frozen=True, slots=True)
class PickerOptions:
    """Options of an endpoint picker.

    At most ``max_streams`` are open at once, and a body has at most ``max_body_bytes``.
    ``num_fallbacks`` further endpoints are named. Streams have ``drain_s`` to end when the picker
    stops. With ``conformance``, requests may name the endpoints to choose from, and answers tell
    who has served them.
    """

    max_streams: int = 10_000
    max_body_bytes: int = 16 * 2**20
    max_memory_bytes: int | None = None
    num_fallbacks: int = 0
    drain_s: float = 30.0
    conformance: bool = False
    saturation: SaturationLimits = field(default_factory=SaturationLimits)
