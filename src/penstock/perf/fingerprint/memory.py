"""Memory of a whole model: what its smallest cut took, and what the layers left out would add.

The layers' part is their weights and the cache that is set aside for them, both known; everything
else (embedding, engine, buffers between ranks and stages) is in the cut, which must have the same
ranks and stages. Where there is no such cut, what it would take is pieced together from others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.units import GIB
from penstock.perf.fingerprint.cuts import (
    Cut,
    Cuts,
    Key,
    Session,
    configuration_of,
    key_for,
    key_of,
)
from penstock.perf.fingerprint.physics import (
    BATCH_MEMORY,
    MEMORY,
    Subject,
    batch_memory_terms,
    memory_terms,
)
from penstock.perf.fingerprint.weights import Rows, usual, weighted


@dataclass(frozen=True, slots=True)
class MemoryWeights:
    """Weights of the terms in ``MEMORY`` and ``BATCH_MEMORY``; ``spread`` has the bytes that runs
    with so many ranks and stages take beyond one accelerator's, layers aside."""

    layers: tuple[float, ...]
    batch: tuple[float, ...]
    spread: Mapping[tuple[int, int], float]

    def bytes(self, subject: Subject, configuration: Configuration, cut: Cut, output_tokens: int,
              batch: int) -> float:
        """Bytes after a run, all accelerators together."""
        added = self.layers_bytes(subject, configuration,
                                  subject.model.num_layers - cut.num_layers)
        if batch > 1:
            added += GIB * weighted(self.batch, batch_memory_terms(subject, configuration,
                                                                   output_tokens, batch))
        return cut.memory_bytes + added

    def layers_bytes(self, subject: Subject, configuration: Configuration, num_layers: int, *,
                     first: bool = False) -> float:
        """Bytes of so many layers of a model, the last or the first ones."""
        return GIB * weighted(self.layers, memory_terms(subject, configuration, num_layers,
                                                        first=first))

    def spread_bytes(self, tensor: int, pipeline: int) -> float:
        """Return the bytes that ranks and stages add. A spread that was not measured adds as much
        per accelerator as the measured spread with the nearest number of accelerators."""
        found = self.spread.get((tensor, pipeline))
        if found is not None or not self.spread:
            return found or 0.0
        more = tensor * pipeline - 1
        near = min(self.spread, key=lambda one: (abs(one[0] * one[1] - 1 - more),
                                                 abs(one[0] - tensor)))
        return self.spread[near] * more / max(1, near[0] * near[1] - 1)


def usual_memory() -> MemoryWeights:
    """The weights where no whole model was measured."""
    return MemoryWeights(usual(MEMORY), usual(BATCH_MEMORY), {})


def best_cut(cuts: Cuts, weights: MemoryWeights, subject: Subject, model: str,
             configuration: Configuration) -> tuple[Cut, str]:
    """The smallest cut of the configuration; or one pieced together, and from what, in words.

    Without a cut of the same ranks and stages, the nearest one with what models usually take more
    or less in the wanted spread. Another precision's cut serves after its layers are exchanged.
    Raises InputError where the model has no cuts.
    """
    wanted = key_for(model, configuration)
    found = cuts.smallest(wanted)
    if found is not None:
        return found, ""
    own = [key for key in cuts.keys if key.model == model and key.batch == 1
           and cuts.smallest(key) is not None]
    if not own:
        raise InputError(f"model {model}: no fingerprint whose memory is known")
    tensor, pipeline = wanted.tensor, wanted.pipeline
    nearest = min(own, key=lambda key: ((key.tensor, key.pipeline) != (tensor, pipeline),
                                        key.precision != wanted.precision,
                                        key.kv_precision != wanted.kv_precision,
                                        abs(key.tensor - tensor) + abs(key.pipeline - pipeline)))
    cut = cuts.smallest(nearest)
    assert cut is not None
    said = [] if (nearest.tensor, nearest.pipeline) == (tensor, pipeline) else [
        f"of {nearest.tensor} ranks by {nearest.pipeline} stages"]
    if (nearest.precision, nearest.kv_precision) != (wanted.precision, wanted.kv_precision):
        said.append(f"in {nearest.precision}, {nearest.kv_precision} cache")
    exchanged = (weights.layers_bytes(subject, configuration, cut.num_layers, first=True)
                 - weights.layers_bytes(subject, configuration_of(nearest), cut.num_layers,
                                        first=True))
    spread = (weights.spread_bytes(tensor, pipeline)
              - weights.spread_bytes(nearest.tensor, nearest.pipeline))
    return (Cut(cut.num_layers, cut.memory_bytes + exchanged + spread),
            f"memory from the fingerprint {' and '.join(said)}")


def fit_memory(sessions: Sequence[Session], subjects: Mapping[str, Subject]) -> MemoryWeights:
    """Weights from runs of whole models and the cuts of the same models."""
    layers, batch = Rows(MEMORY), Rows(BATCH_MEMORY)
    for session in sessions:
        whole = {(key_of(run), run.output_tokens): run.memory_bytes / GIB for run in session.whole
                 if run.memory_bytes is not None
                 and run.num_layers == subjects[run.model].model.num_layers}
        for (key, output), gib in whole.items():
            subject, configuration = subjects[key.model], configuration_of(key)
            if key.batch > 1:
                alone = whole.get((key._replace(batch=1), output))
                if alone is not None:
                    batch.add(batch_memory_terms(subject, configuration, output, key.batch),
                              gib - alone, gib)
            elif (cut := session.cuts.smallest(key)) is not None:
                missing = subject.model.num_layers - cut.num_layers
                layers.add(memory_terms(subject, configuration, missing),
                           gib - cut.memory_bytes / GIB, gib)
    return MemoryWeights(layers.weights(), batch.weights(), _spreads(sessions))


def _spreads(sessions: Sequence[Session]) -> dict[tuple[int, int], float]:
    """The median over models and precisions of what a spread's cut takes beyond that of one
    accelerator, its further layers aside."""
    found: dict[tuple[int, int], list[float]] = {(1, 1): [0.0]}
    for cuts in (session.cuts for session in sessions):
        for key in cuts.keys:
            alone = key._replace(tensor=1, pipeline=1)
            here, there = cuts.smallest(key), cuts.smallest(alone)
            if here is not None and there is not None and key != alone and key.batch == 1:
                layers = (here.num_layers - there.num_layers) * _layer_bytes(cuts, alone)
                found.setdefault((key.tensor, key.pipeline), []).append(
                    here.memory_bytes - there.memory_bytes - layers)
    return {spread: float(np.median(values)) for spread, values in found.items()}


def _layer_bytes(cuts: Cuts, key: Key) -> float:
    by_layers = cuts.bytes(key)
    if len(by_layers) < 2:
        return 0.0
    least, most = min(by_layers), max(by_layers)
    return (by_layers[most] - by_layers[least]) / (most - least)
