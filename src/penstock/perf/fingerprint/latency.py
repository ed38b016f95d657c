"""Latency of a whole model from lines through its cuts and weighted terms of physics.

An answer as long as the longest of the cuts is anchored in them: layers times what a layer took,
with the same number of ranks. From there on each token costs what the decode terms say, and each
further sequence of a batch what the batch terms say. So what a model has of its own, and what a
session of measurements had (a longer prompt, a slow first message between ranks), comes from its
own cuts; what hundreds of tokens add, where two cuts' difference would be mostly noise, from terms
that all models share.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.perf.fingerprint.cuts import (
    Cuts,
    Key,
    Line,
    Session,
    configuration_of,
    key_for,
    key_of,
    unlike_layers,
)
from penstock.perf.fingerprint.physics import (
    ANCHOR,
    BATCH,
    DECODE,
    PROMPT,
    Subject,
    anchor_terms,
    batch_terms,
    decode_terms,
    prompt_terms,
    width_of,
)
from penstock.perf.fingerprint.weights import Rows, usual, weighted
from penstock.perf.profiles.rows import ProfiledRun

TOO_FAST = "fingerprints whose further layers took less than reading them"
_LAYER_TERMS = tuple(not term.name.startswith(("head", "each")) for term in DECODE)


@dataclass(frozen=True, slots=True)
class LatencyWeights:
    """Weights of the terms in ``ANCHOR``, ``DECODE``, ``BATCH`` and ``PROMPT``."""

    anchor: tuple[float, ...]
    decode: tuple[float, ...]
    batch: tuple[float, ...]
    prompt: tuple[float, ...]

    def token_ms(self, subject: Subject, configuration: Configuration,
                 prompt_tokens: float) -> float:
        """One more output token of a single request."""
        return weighted(self.decode, decode_terms(subject, configuration, prompt_tokens))

    def layer_token_ms(self, subject: Subject, configuration: Configuration,
                       prompt_tokens: float) -> float:
        """One layer's part of it, all-reduces included."""
        amounts = decode_terms(subject, configuration, prompt_tokens)
        own = [amount if is_own else 0.0
               for amount, is_own in zip(amounts, _LAYER_TERMS, strict=True)]
        return weighted(self.decode, own) / subject.model.num_layers

    def prompt_ms(self, subject: Subject, configuration: Configuration,
                  prompt_tokens: float) -> float:
        """Computing a prompt."""
        return weighted(self.prompt, prompt_terms(subject, configuration, prompt_tokens))

    def seconds(self, subject: Subject, configuration: Configuration, line: Line,
                output_tokens: int, batch: int, prompt_tokens: int | None = None) -> float:
        """The whole batch of answers. ``line`` is of cuts with the same number of ranks; prompts
        are as long as theirs where nothing else is said."""
        anchor = weighted(self.anchor, anchor_terms(subject, configuration, line.layer_s,
                                                    line.rest_s))
        # The cuts' tokens attended to the cuts' prompt; the others, and all with another prompt,
        # to the one that is asked about.
        asked = line.prompt_tokens if prompt_tokens is None else float(prompt_tokens)
        total = (anchor + output_tokens * self.token_ms(subject, configuration, asked)
                 - line.output_tokens * self.token_ms(subject, configuration, line.prompt_tokens))
        if prompt_tokens is not None:
            total += batch * (self.prompt_ms(subject, configuration, asked)
                              - self.prompt_ms(subject, configuration, line.prompt_tokens))
        if batch > 1:
            total += weighted(self.batch, batch_terms(subject, configuration, output_tokens, batch))
        return max(1e-3 * total, bound_s(subject, configuration, output_tokens))


def usual_latency() -> LatencyWeights:
    """The weights where no whole model was measured."""
    return LatencyWeights(usual(ANCHOR), usual(DECODE), usual(BATCH), usual(PROMPT))


def bound_s(subject: Subject, configuration: Configuration, output_tokens: int) -> float:
    """Return the lower bound of a run: the time to read the weights once per token at full
    bandwidth; of a mixture, the weights of one token's experts."""
    weights = (subject.model.num_layers * subject.token_params
               * width_of(configuration.precision))
    return 1e-3 * output_tokens * subject.read_ms(weights) / configuration.parallelism.tensor


def best_line(cuts: Cuts, weights: LatencyWeights, subject: Subject, model: str,
              configuration: Configuration) -> tuple[Line, str]:
    """The line of cuts of the same precision and ranks, and nothing or what is odd about it; or one
    made of the nearest cuts there are, and in words what stood in for what.

    What a layer takes of the prompt is shared by ranks, and its tokens cost what the terms say.
    Raises InputError where the model has no cuts at all.
    """
    wanted = key_for(model, configuration)._replace(pipeline=1)
    prompt_tokens = cuts.prompt_tokens(model, subject.prompt_tokens_per_s)
    lead = subject.model.leading_dense_layers
    line = cuts.line(wanted, lead)
    alike = replace(configuration, parallelism=Parallelism(wanted.tensor, 1))
    if line is not None:
        least_s = bound_s(subject, alike, line.output_tokens) / subject.model.num_layers
        return (replace(line, prompt_tokens=prompt_tokens),
                TOO_FAST if line.layer_s < least_s else "")
    others = [key for key in cuts.keys if key.model == model and key.pipeline == 1
              and key.batch == 1 and cuts.line(key, lead) is not None]
    if not others:
        why = unlike_layers(subject.model) or "measure runs of 1 and 2 layers on one accelerator"
        raise InputError(f"model {model}: no fingerprints of two sizes that hold its repeated "
                         f"layers; {why}" if lead else
                         f"model {model}: no fingerprints of two sizes; {why}")
    nearest = min(others, key=lambda key: (key.precision != wanted.precision,
                                           abs(width_of(key.precision)
                                               - width_of(wanted.precision)),
                                           key.kv_precision != wanted.kv_precision,
                                           abs(key.tensor - wanted.tensor), -key.tensor))
    found = cuts.line(nearest, lead)
    assert found is not None
    measured = Configuration(Parallelism(nearest.tensor, 1), nearest.precision,
                             nearest.kv_precision)
    tokens_s = 1e-3 * found.output_tokens
    prompt_s = found.layer_s - tokens_s * weights.layer_token_ms(subject, measured, prompt_tokens)
    layer_s = (max(0.0, prompt_s) * nearest.tensor / wanted.tensor
               + tokens_s * weights.layer_token_ms(subject, alike, prompt_tokens))
    return (replace(found, layer_s=layer_s, prompt_tokens=prompt_tokens),
            _stand_in(nearest, wanted))


def fit_latency(sessions: Iterable[Session], subjects: Mapping[str, Subject]) -> LatencyWeights:
    """Weights from runs of whole models and the cuts of the same models.

    Runs of models without cuts tell decode and batch terms all the same. Raises InputError where
    no whole model was run at two output lengths.
    """
    slopes, anchors, extras = Rows(DECODE), Rows(ANCHOR), Rows(BATCH)
    sessions = list(sessions)
    for session in sessions:
        seconds = _by_configuration(session.whole, subjects)
        for key, by_output in seconds.items():
            if key.batch > 1:
                _note_batch(extras, subjects[key.model], key, by_output,
                            seconds.get(key._replace(batch=1), {}))
            elif len(by_output) > 1:
                _note_answer(slopes, anchors, subjects[key.model], key, by_output, session.cuts)
    if not slopes:
        raise InputError("no whole model was run at two output lengths; nothing to learn from")
    return LatencyWeights(anchors.weights(), slopes.weights(), extras.weights(),
                          _prompts(sessions, subjects).weights())


def _prompts(sessions: Iterable[Session], subjects: Mapping[str, Subject]) -> Rows:
    """Return the seconds that longer prompts add to the same cuts in another session."""
    found: dict[tuple[Key, int, int], dict[float, float]] = {}
    for cuts in (session.cuts for session in sessions):
        for key in cuts.keys:
            length = cuts.known_prompt_tokens(key.model)
            if length is None or key.batch > 1 or key.model not in subjects:
                continue
            for output, points in cuts.seconds(key).items():
                for layers, latency_s in points.items():
                    found.setdefault((key, output, layers), {})[length] = latency_s
    rows = Rows(PROMPT)
    for (key, _, layers), by_length in found.items():
        subject, configuration = subjects[key.model], configuration_of(key)
        least = min(by_length)
        share = layers / subject.model.num_layers
        base = prompt_terms(subject, configuration, least)
        for length, latency_s in by_length.items():
            if length > least:
                amounts = prompt_terms(subject, configuration, length)
                rows.add([share * (one - other) for one, other in zip(amounts, base, strict=True)],
                         1e3 * (latency_s - by_length[least]), 1e3 * latency_s)
    return rows


def _note_batch(extras: Rows, subject: Subject, key: Key, by_output: Mapping[int, float],
                alone: Mapping[int, float]) -> None:
    for output, latency_s in by_output.items():
        if output in alone:
            extras.add(batch_terms(subject, configuration_of(key), output, key.batch),
                       1e3 * (latency_s - alone[output]), 1e3 * latency_s)


def _note_answer(slopes: Rows, anchors: Rows, subject: Subject, key: Key,
                 by_output: Mapping[int, float], cuts: Cuts) -> None:
    slope_s, start_s = _relative_line(by_output)
    if slope_s <= 0.0:
        return
    configuration = configuration_of(key)
    prompt_tokens = cuts.prompt_tokens(key.model, subject.prompt_tokens_per_s)
    slopes.add(decode_terms(subject, configuration, prompt_tokens), 1e3 * slope_s)
    line = cuts.line(key._replace(pipeline=1), subject.model.leading_dense_layers)
    if line is not None:
        answer_s = by_output.get(line.output_tokens, start_s + slope_s * line.output_tokens)
        anchors.add(anchor_terms(subject, configuration, line.layer_s, line.rest_s),
                    1e3 * answer_s)


def _by_configuration(runs: Iterable[ProfiledRun],
                      subjects: Mapping[str, Subject]) -> dict[Key, dict[int, float]]:
    found: dict[Key, dict[int, list[float]]] = {}
    for run in runs:
        if run.latency_s is not None and run.num_layers == subjects[run.model].model.num_layers:
            found.setdefault(key_of(run), {}).setdefault(run.output_tokens,
                                                         []).append(run.latency_s)
    return {key: {output: sum(values) / len(values) for output, values in by_output.items()}
            for key, by_output in found.items()}


def _relative_line(points: Mapping[int, float]) -> tuple[float, float]:
    """Slope and start of the line with the least relative errors squared."""
    outputs, values = np.array(list(points)), np.array(list(points.values()))
    design = np.stack((outputs / values, 1.0 / values), axis=1)
    (slope, start), *_ = np.linalg.lstsq(design, np.ones(len(values)), rcond=None)
    return float(slope), float(start)


def _stand_in(measured: Key, wanted: Key) -> str:
    what = [f"{one} for {other}" for one, other, differs in (
        (f"{measured.tensor} ranks", f"{wanted.tensor}", measured.tensor != wanted.tensor),
        (measured.precision, wanted.precision, measured.precision != wanted.precision),
        (f"{measured.kv_precision} cache", wanted.kv_precision,
         measured.kv_precision != wanted.kv_precision)) if differs]
    return f"fingerprints of {' and '.join(what)}"
