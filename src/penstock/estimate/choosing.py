"""Every configuration of a model as a candidate for an intent, and where its layers would lie."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.core.prediction import Prediction
from penstock.estimate.configurations import possible
from penstock.perf.fingerprint.estimator import Estimate, Estimates
from penstock.perf.fingerprint.physics import Subject, width_of
from penstock.policy.place.beside import Neighbour, place_beside
from penstock.policy.place.intent import Candidate
from penstock.policy.place.protocol import Placer
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement

NOTHING = Prediction(0.0, 0.0, 0.0, 1.0, "not estimated")


@dataclass(frozen=True, slots=True)
class Ask:
    """A model to be run: answers of so many tokens, so many at once, to prompts as long as those of
    the fingerprints where nothing else is said."""

    model: str
    output_tokens: int
    batch: int = 1
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """All configurations of a model with what is expected of each, the placements of those for
    which there is room, and the footprints of the others."""

    candidates: tuple[Candidate, ...]
    estimates: Mapping[Configuration, Estimate]
    placements: Mapping[Configuration, Placement]
    without_room: tuple[Footprint, ...] = ()


def options(estimator: Estimates, ask: Ask, devices: Iterable[Device], placer: Placer,
            accuracy: Mapping[tuple[str, str, str], float],
            neighbours: Sequence[Neighbour] = (), own_rate_per_s: float = 0.0) -> Options:
    """Return the options on these devices. Each configuration goes where its requests wait least
    for each other and for those of ``neighbours``. Raises InputError for a model that has no
    fingerprints."""
    subject = estimator.subjects.get(ask.model)
    if subject is None or ask.model not in estimator.cuts.models:
        raise InputError(f"model {ask.model}: no fingerprints of it; penstock profile fingerprint "
                         "makes them")
    found = list(devices)
    candidates: list[Candidate] = []
    estimates: dict[Configuration, Estimate] = {}
    placements: dict[Configuration, Placement] = {}
    without_room: list[Footprint] = []
    for configuration in possible(subject, estimator.cuts, ask.model, len(found)):
        known = accuracy.get((ask.model, configuration.precision, configuration.kv_precision))
        try:
            estimate = estimator.estimate(ask.model, configuration, ask.output_tokens, ask.batch,
                                          ask.prompt_tokens)
        except InputError as error:
            candidates.append(Candidate(configuration, NOTHING, NOTHING, known,
                                        refused=f"not estimated: {error}"))
            continue
        estimates[configuration] = estimate
        candidate = _candidate(configuration, estimate, subject.accelerator, known)
        footprint = footprint_of(subject, ask.model, configuration, estimate)
        placed = place_beside(placer, footprint, found, neighbours, estimate.latency_s.value,
                              own_rate_per_s)
        if isinstance(placed, Infeasible):
            without_room.append(footprint)
            candidate = replace(candidate, refused=f"no room: {placed.reason}")
        else:
            candidate = replace(candidate, beside=placed.beside)
            placements[configuration] = placed.placement
        candidates.append(candidate)
    return Options(tuple(candidates), estimates, placements, tuple(without_room))


def footprint_of(subject: Subject, model: str, configuration: Configuration,
                 estimate: Estimate) -> Footprint:
    """How the estimated memory lies on devices: layers by their weights, embedding and head (16
    bits) on the first and the last stage, the rest evenly. The high end of the interval is taken,
    so that what is placed fits."""
    model_spec, spread = subject.model, configuration.parallelism
    layer_bytes = subject.layer_params * width_of(configuration.precision) / spread.tensor
    matrix_bytes = 2.0 * model_spec.vocab_size * model_spec.hidden_size / spread.tensor
    known = spread.tensor * (model_spec.num_layers * layer_bytes + 2.0 * matrix_bytes)
    rest = (estimate.memory_bytes.high - known) / spread.num_accelerators
    return Footprint(model, model_spec.num_layers, spread.tensor, spread.pipeline,
                     max(1, round(layer_bytes)), round(matrix_bytes), round(matrix_bytes),
                     max(0, round(rest)))


def _candidate(configuration: Configuration, estimate: Estimate, accelerator: Accelerator,
               accuracy: float | None) -> Candidate:
    num = configuration.parallelism.num_accelerators
    if accelerator.price_per_hour is None:
        raise InputError(f"{accelerator.name}: no list price is known; state price_per_hour in a "
                         "catalog file")
    return Candidate(configuration, estimate.latency_s, estimate.memory_bytes, accuracy,
                     num * accelerator.price_per_hour, num * accelerator.power_w)
