"""The load emulator: labels of Deployments and pods follow the published walk."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from penstock.core.errors import InputError
from penstock.published.inferno.cluster.actuate import patched
from penstock.published.inferno.cluster.collect import Collected, all_pods, managed_documents
from penstock.published.inferno.cluster.labels import (
    carries_labels,
    load_labels,
    managed,
    nominal_load,
)
from penstock.published.inferno.emulated_load import (
    Phase,
    Walk,
    next_load,
    phase_factor,
    replica_tokens,
    split_rate,
)
from penstock.published.inferno.values import Load
from penstock.serving.kubernetes.actions import Label
from penstock.serving.kubernetes.api import Cluster, ClusterError
from penstock.serving.kubernetes.objects import Pod, Ref


class LoadEmulator:
    """Changes the load labels of the managed Deployments, step by step."""

    def __init__(self, cluster: Cluster, generator: np.random.Generator, walk: Walk,
                 phases: Sequence[Phase], clock: Callable[[], float],
                 note: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._generator = generator
        self._walk = walk
        self._phases = phases
        self._clock = clock
        self._started_s = clock()
        self._note = note
        self._noted: set[str] = set()

    async def run(self, interval_s: float, num_steps: int | None = None) -> None:
        """Take steps, without end or as many as stated. A step that fails is noted."""
        number = 0
        while num_steps is None or number < num_steps:
            if number:
                await asyncio.sleep(interval_s)
            try:
                self._note(f"{await self.step()} Deployments have a new load")
            except ClusterError as error:
                self._note(f"step skipped: {error}")
            number += 1

    async def step(self) -> int:
        """Take a step; return how many Deployments have a new load. Raises ClusterError."""
        found = Collected((), await all_pods(self._cluster))
        factor = phase_factor(self._phases, self._clock() - self._started_s)
        num_changed, lines = 0, set()
        for document in await managed_documents(self._cluster):
            try:
                one, nominal = managed(document), nominal_load(document)
                load = next_load(one.load or nominal, nominal, self._generator, self._walk, factor)
                for label in (Label(one.ref, load_labels(load)),
                              *self._split(load, found.pods_of(one))):
                    await patched(self._cluster, label)
                num_changed += 1
            except (InputError, ClusterError) as error:
                lines.add(str(error))
        for line in sorted(lines - self._noted):
            self._note(line)
        self._noted = lines
        return num_changed

    def _split(self, load: Load, pods: Sequence[Pod]) -> list[Label]:
        """Return the labels of the pods that carry Inferno's: unequal shares of the rate."""
        own = [pod for pod in pods if pod.is_ready and carries_labels(pod.labels)]
        if not own:
            return []
        skew, generator = self._walk.skew, self._generator
        return [Label(Ref("Pod", pod.namespace, pod.name), load_labels(Load(
            rate, replica_tokens(load.input_tokens, skew, generator),
            replica_tokens(load.output_tokens, skew, generator))))
            for pod, rate in zip(own, split_rate(load.arrival_per_min, len(own), skew, generator),
                                 strict=True)]
