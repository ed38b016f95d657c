"""Latency and memory of a model in any configuration, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, log
from typing import Protocol

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.prediction import Prediction
from penstock.perf.fingerprint.cuts import Cuts, Session, configuration_of, key_of
from penstock.perf.fingerprint.intervals import (
    Intervals,
    Residual,
    group_of,
    intervals_of,
)
from penstock.perf.fingerprint.latency import (
    LatencyWeights,
    best_line,
    bound_s,
    fit_latency,
    usual_latency,
)
from penstock.perf.fingerprint.memory import MemoryWeights, best_cut, fit_memory, usual_memory
from penstock.perf.fingerprint.physics import Subject, kind_of, width_of
from penstock.perf.profiles.rows import ProfiledRun


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of a whole batch of answers, and bytes after it on all accelerators together."""

    latency_s: Prediction
    memory_bytes: Prediction


class Estimates(Protocol):
    """Estimator of models in configurations: ours, or a published system's rule."""

    @property
    def subjects(self) -> Mapping[str, Subject]:
        """The models that it knows the architecture of, by name."""

    @property
    def cuts(self) -> Cuts:
        """The fingerprints that it goes by."""

    def estimate(self, model: str, configuration: Configuration, output_tokens: int,
                 batch: int = 1, prompt_tokens: int | None = None) -> Estimate:
        """Prompts are as long as in the fingerprints where nothing else is said. Raises InputError
        for what cannot be estimated."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The largest that was measured: beyond it, an estimate says so."""

    output_tokens: int
    batch: int
    tensor: int
    prompt_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights learnt from whole models, for use on all models."""

    latency: LatencyWeights
    memory: MemoryWeights


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates of models by their own ``cuts`` and by ``weights`` that all models share.

    ``batch_cuts`` are of the session in which batches were measured, where that was another one:
    they serve for batches of the models that they are of.
    """

    subjects: Mapping[str, Subject]
    cuts: Cuts
    weights: Weights
    latency_intervals: Intervals
    memory_intervals: Intervals
    reach: Reach
    batch_cuts: Cuts | None = None

    def estimate(self, model: str, configuration: Configuration, output_tokens: int,
                 batch: int = 1, prompt_tokens: int | None = None) -> Estimate:
        """Prompts are as long as in the fingerprints where nothing else is said. Raises InputError
        for a model that has no fingerprints, a precision that is unknown, a configuration that
        the model cannot have, and figures that nobody could have measured."""
        subject = self._subject(model)
        check_possible(subject, configuration)
        latency_s, memory_bytes, notes = _point(self.weights, self._cuts(model, batch), subject,
                                                model, configuration, output_tokens, batch,
                                                prompt_tokens)
        if not (isfinite(latency_s) and isfinite(memory_bytes)):
            raise InputError(f"model {model}: its fingerprints, or what is asked of it, are too "
                             "large to calculate with")
        beyond = self._beyond(configuration, output_tokens, batch)
        if prompt_tokens is not None:
            beyond += self._longer(model, subject, prompt_tokens)
        group = group_of(configuration, batch)
        learnt = "fingerprints, and weights learnt from whole models"
        return Estimate(
            self.latency_intervals.around(
                latency_s, group, learnt, tuple(filter(None, (notes[0], *beyond))),
                bound_s(subject, configuration, output_tokens)),
            self.memory_intervals.around(
                memory_bytes, group, learnt, tuple(filter(None, (notes[1], *beyond))),
                subject.model.num_layers * subject.layer_params
                * width_of(configuration.precision)))

    def with_cuts(self, cuts: Cuts, batch_cuts: Cuts | None = None) -> "Estimator":
        """The same weights for models that these cuts are of."""
        return replace(self, cuts=cuts, batch_cuts=batch_cuts)

    def _cuts(self, model: str, batch: int) -> Cuts:
        others = self.batch_cuts
        return others if batch > 1 and others is not None and model in others.models else self.cuts

    def _subject(self, model: str) -> Subject:
        if model not in self.subjects:
            raise InputError(f"model {model}: nothing is known of its architecture")
        return self.subjects[model]

    def _longer(self, model: str, subject: Subject, prompt_tokens: int) -> list[str]:
        measured = self.cuts.prompt_tokens(model, subject.prompt_tokens_per_s)
        if measured / 4 <= prompt_tokens <= max(4 * measured, self.reach.prompt_tokens):
            return []
        return [f"prompts of {prompt_tokens} tokens (measured with {measured:.0f})"]

    def _beyond(self, configuration: Configuration, output_tokens: int,
                batch: int) -> list[str]:
        tensor = configuration.parallelism.tensor
        return [f"{value} {what} (measured to {most})" for value, what, most in (
            (output_tokens, "output tokens", self.reach.output_tokens),
            (batch, "requests at once", self.reach.batch), (tensor, "ranks", self.reach.tensor))
            if value > most]


def fit_estimator(sessions: Sequence[Session], subjects: Mapping[str, Subject],
                  cuts: Cuts) -> Estimator:
    """An estimator for the models of ``cuts``, learnt from the whole models of the sessions.

    Intervals come from leaving one model out at a time, which takes as many fits as models. Raises
    InputError where no whole model was measured.
    """
    models = sorted({run.model for session in sessions for run in session.whole})
    latency: list[Residual] = []
    memory: list[Residual] = []
    for model in models if len(models) > 1 else []:
        for residual, kind in left_out(sessions, subjects, model):
            (latency if kind == "latency" else memory).append(residual)
    runs = [run for session in sessions for run in session.whole]
    return Estimator(
        subjects, cuts, Weights(fit_latency(sessions, subjects), fit_memory(sessions, subjects)),
        intervals_of(latency), intervals_of(memory),
        Reach(max(run.output_tokens for run in runs), max(run.batch for run in runs),
              max(run.tensor for run in runs),
              max((known for session in sessions for model in session.cuts.models
                   if (known := session.cuts.known_prompt_tokens(model)) is not None),
                  default=0.0)))


def usual_estimator(subjects: Mapping[str, Subject], runs: Sequence[ProfiledRun]) -> Estimator:
    """An estimator from fingerprints alone, where no whole model was measured: terms have their
    usual weights, and intervals are as wide as not knowing better makes them."""
    nobody = intervals_of(())
    return Estimator(
        subjects, Cuts(runs), Weights(usual_latency(), usual_memory()), nobody, nobody,
        Reach(max(run.output_tokens for run in runs), max(run.batch for run in runs),
              max(run.tensor for run in runs)))


def left_out(sessions: Sequence[Session], subjects: Mapping[str, Subject],
             model: str) -> Iterator[tuple[Residual, str]]:
    """Errors (``latency`` and ``memory``) on a model, with weights from all others. Runs without
    cuts of the model in their session are passed over."""
    others = [Session([run for run in session.whole if run.model != model], session.cuts)
              for session in sessions]
    weights = Weights(fit_latency(others, subjects), fit_memory(others, subjects))
    subject = subjects[model]
    for session in sessions:
        if model not in session.cuts.models:
            continue
        for run in session.whole:
            if run.model != model or run.num_layers != subject.model.num_layers:
                continue
            configuration = configuration_of(key_of(run))
            group = group_of(configuration, run.batch)
            latency_s, memory_bytes, _ = _point(weights, session.cuts, subject, model,
                                                configuration, run.output_tokens, run.batch)
            if run.latency_s is not None:
                yield Residual(model, group, log(latency_s / run.latency_s)), "latency"
            if run.memory_bytes is not None:
                yield Residual(model, group, log(memory_bytes / run.memory_bytes)), "memory"


def check_possible(subject: Subject, configuration: Configuration) -> None:
    """Raises InputError for a configuration that no engine could run."""
    model, spread = subject.model, configuration.parallelism
    kind_of(configuration.precision)
    width_of(configuration.kv_precision)
    why = model.indivisible(spread.tensor)
    if why:
        raise InputError(why)
    if spread.pipeline > model.num_layers:
        raise InputError(f"{model.name}: {spread.pipeline} stages are more than its "
                         f"{model.num_layers} layers")


def _point(weights: Weights, cuts: Cuts, subject: Subject, model: str,
           configuration: Configuration, output_tokens: int, batch: int,
           prompt_tokens: int | None = None) -> tuple[float, float, tuple[str, str]]:
    """Seconds, bytes, and what stood in for what was not measured of each."""
    line, line_note = best_line(cuts, weights.latency, subject, model, configuration)
    cut, cut_note = best_cut(cuts, weights.memory, subject, model, configuration)
    return (weights.latency.seconds(subject, configuration, line, output_tokens, batch,
                                    prompt_tokens),
            weights.memory.bytes(subject, configuration, cut, output_tokens, batch),
            (line_note, cut_note))
