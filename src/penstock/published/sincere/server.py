"""SINCERE's server as the simulator has it: three models, one H100, a host whose page cache is too
small for them. Every number is a published or fitted fact (perf/data/sincere.yaml)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from penstock.core.units import GIB
from penstock.perf.loading.facts import ServingFacts, published_serving
from penstock.perf.loading.host_loads import HostLoads
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import BatchTime, HostedModel, Queued
from penstock.published.sincere.policy import LoadRow, SincereSettings
from penstock.published.sincere.records import MODELS, SETTINGS
from penstock.sim.multiplex.driver import MultiplexSimulation
from penstock.sim.multiplex.machine import BatchTruth, HostMachine, Variation
from penstock.sim.multiplex.record import MultiplexRun

DEVICE_BYTES = 80 * GIB
BEST_BATCH = (48, 64, 64)
STOP_S = 1200.0
END_S = 1240.0
"""The server is told to stop 1200 s after the first request, and killed about 40 s later (the last
batch of all 216 logs ends at 1239.5 s)."""

AFTER = BatchTime(0.017, 0.0021)
"""Seconds in which the lock is still held after a batch: a row per request is written to a file
(fitted to 9,440 batches that others waited behind; residual 0.01 s)."""


@dataclass(frozen=True, slots=True)
class Server:
    """A setting's facts in the order of ``MODELS``. ``num_resident`` models at most.
    ``weights_share`` scales the weights, and with them what is read and copied, not the time of
    batches: no run had other than fp32."""

    facts: ServingFacts
    num_resident: int = 1
    weights_share: float = 1.0
    batch_cap: int = 64

    @classmethod
    def of(cls, setting: str, num_resident: int = 1, weights_share: float = 1.0) -> "Server":
        """A setting by the name that the runs have for it."""
        return cls(published_serving(SETTINGS[setting]), num_resident, weights_share)

    def models(self, *, unbounded: bool = False) -> list[HostedModel]:
        """As policies see them; ``unbounded`` batches are what SINCERE's runs had."""
        found = []
        for name in MODELS:
            one = self.facts.models[name]
            size = round(one.size_bytes * self.weights_share)
            line = BatchTime(one.batch.intercept_s, one.batch.per_request_s)
            if unbounded:
                found.append(HostedModel(name, size, line, max_batch=2**31))
            else:
                found.append(HostedModel(name, size, line, self.request_bytes(name),
                                         self.batch_cap))
        return found

    def request_bytes(self, name: str) -> int:
        """Memory of a request beside the weights: what the profile's largest batch had room for."""
        one = self.facts.models[name]
        return round((DEVICE_BYTES - one.size_bytes) / one.largest_batch)

    def loads(self) -> HostLoads:
        """Loads on a host whose page cache holds what runs before left in it."""
        sizes = [round(self.facts.models[name].size_bytes * self.weights_share) for name in MODELS]
        return HostLoads(MODELS, sizes, self.facts.loading, self.facts.memory())

    def machine(self, rng: np.random.Generator | None = None, *,
                partial: bool = False) -> HostMachine:
        """Return the machine's durations; with a generator, with their spread. ``partial``:
        SINCERE's strategies with a thread for partial batches, which slows everything down a
        little and the first load and batch a lot."""
        kind = self.facts.by_strategy["partial" if partial else "other"]
        truths = [BatchTruth(BatchTime(one.intercept_s + kind.later_batch_extra_s,
                                       one.per_request_s), one.sd_per_request_s)
                  for one in (self.facts.models[name].batch for name in MODELS)]
        usual = self.facts.by_strategy["other"].load_extra_s
        mean_s = fmean(one.load.mean_s for one in self.facts.models.values())
        spread = Variation(rng, self.facts.errors.sd_s / mean_s)
        return HostMachine(self.loads(), truths, spread, after=AFTER,
                           load_share=kind.later_load_share,
                           first_load_extra_s=kind.load_extra_s - usual,
                           first_batch_extra_s=kind.batch_extra_s)

    def run(self, policy: Multiplexer, requests: Sequence[Queued], *, unbounded: bool = False,
            rng: np.random.Generator | None = None, partial: bool = False,
            until_s: float = END_S) -> MultiplexRun:
        """Serve requests on one device."""
        device = Device(0, DEVICE_BYTES, self.models(unbounded=unbounded),
                        max_residents=self.num_resident)
        return MultiplexSimulation(policy, [device], self.machine(rng, partial=partial)).run(
            requests, until_s)


def timer_settings(setting: str, sla_s: float, deviations: float = 1.0,
                   overwrite: bool = True, max_batch: int | None = None) -> SincereSettings:
    """Return the knowledge of SINCERE's strategies: its profile of loads, in a setting."""
    facts = published_serving(SETTINGS[setting])
    rows = [LoadRow(one.profile_load.mean_s, one.profile_load.sd_s, one.profile_unload.mean_s,
                    one.profile_unload.sd_s) for one in (facts.models[name] for name in MODELS)]
    return SincereSettings(sla_s, BEST_BATCH, rows, deviations, overwrite, max_batch=max_batch)
