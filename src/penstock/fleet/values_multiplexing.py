"""Devices that several models share: values of the fleet file's section ``multiplexing``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.core.attestation import Confidentiality
from penstock.core.hardware import Accelerator
from penstock.core.model import ModelSpec
from penstock.fleet.values_adapters import LoraOptions
from penstock.fleet.values_attestation import PoolEvidence, Window, in_simulation
from penstock.policy.multiplex.values import BatchTime, HostedModel


@dataclass(frozen=True, slots=True)
class SwapEngine:
    """The engine of one model: a running server with one URL per device (``endpoints``), a
    ``file`` that is loaded, or a ``command``, as ``registry.engines.needs_of`` says for its kind.

    ``served_as`` is its name for the model, None where that is the model's own.
    """

    kind: str
    endpoints: tuple[str, ...] = ()
    served_as: str | None = None
    sleep_level: Literal[1, 2] = 1
    file: str | None = None
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    kv_tokens: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class SwappedModel:
    """A model in a pool.

    ``size_bytes`` is its memory on a device while loaded, ``request_bytes`` the additional memory
    of each running request. ``batch`` and ``load_s`` are beliefs before any observation. ``e2e_s``
    narrows the objective of its requests. ``engine`` is None for simulation only, ``lora`` where
    the engine takes no adapters.
    """

    spec: ModelSpec
    precision: str
    size_bytes: int
    batch: BatchTime
    load_s: float
    request_bytes: int = 0
    max_batch: int = 64
    e2e_s: float | None = None
    min_share: float = 0.0
    engine: SwapEngine | None = None
    lora: LoraOptions | None = None

    def hosted(self) -> HostedModel:
        """The model as policies see it."""
        return HostedModel(self.spec.name, self.size_bytes, self.batch, self.request_bytes,
                           self.max_batch, self.min_share)


@dataclass(frozen=True, slots=True)
class Host:
    """Source of a pool's loads: a disk, read through the host's page cache.

    ``fixed_s`` is the time of every load besides reading and copying, ``overlap`` the share of
    reading and copying that overlaps.
    """

    memory_bytes: int
    disk_bytes_per_s: float
    copy_bytes_per_s: float
    fixed_s: float = 0.0
    overlap: float = 0.0


@dataclass(frozen=True, slots=True)
class DevicePool:
    """``count`` equal devices of ``memory_bytes`` each, which the same models share.

    ``policy`` is a name with its ``settings``. A load that takes longer than ``load_timeout_s`` has
    failed. After ``load_attempts`` consecutive failures a model is set apart for ``set_apart_s``.
    At most ``max_queue`` requests of a model wait, each for at most ``max_wait_s``. ``attestation``
    is the source of evidence that the devices run in confidential mode, ``simulated`` the times at
    which a simulation assumes them to be attested.
    """

    name: str
    accelerator: Accelerator
    memory_bytes: int
    models: tuple[SwappedModel, ...]
    count: int = 1
    max_residents: int | None = None
    continuous: bool = True
    policy: str = "penstock"
    settings: Mapping[str, Any] = field(default_factory=dict)
    load_timeout_s: float = 600.0
    load_attempts: int = 3
    set_apart_s: float = 60.0
    max_wait_s: float = 600.0
    max_queue: int = 1000
    attestation: PoolEvidence | None = None
    host: Host | None = None
    simulated: tuple[Window, ...] = ()

    @property
    def confidentiality(self) -> Confidentiality:
        """State of the simulated devices for confidential requests."""
        return in_simulation(self.simulated, mode_on=self.accelerator.confidential)
