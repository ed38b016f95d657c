"""MaverIQ's estimates in place of ours, for comparison: numbers without intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from penstock.catalog.catalog import Catalog
from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator
from penstock.core.prediction import Prediction
from penstock.core.units import GIB
from penstock.estimate.configurations import KV_PRECISIONS, PRECISIONS
from penstock.estimate.training import own_runs, read_sessions, subjects_of
from penstock.perf.fingerprint.cuts import Cuts, configuration_of, key_of, unlike_layers
from penstock.perf.fingerprint.estimator import Estimate, check_possible
from penstock.perf.fingerprint.physics import Subject
from penstock.perf.profiles.csv_rows import csv_rows
from penstock.perf.profiles.rows import ProfiledRun
from penstock.published.maveriq.fingerprints import Exponents, MaveriqEstimator
from penstock.published.maveriq.learner import Point, learn_exponents

EXPONENTS = "latency_exponents.csv"
POINTS_PER_MODEL = 5
"""Whole runs of each model and precision that its exponents are learnt from."""


@dataclass(frozen=True, slots=True)
class PublishedEstimator:
    """Answers as our estimator does. What MaverIQ's rule needs and is not there is refused, and so
    is what it says that cannot be. ``batch_rule`` goes by cuts of the session that has batches,
    where that is another one."""

    subjects: Mapping[str, Subject]
    cuts: Cuts
    rule: MaveriqEstimator
    batch_rule: MaveriqEstimator | None = None

    def estimate(self, model: str, configuration: Configuration, output_tokens: int,
                 batch: int = 1, prompt_tokens: int | None = None) -> Estimate:
        """Raises InputError for what it has no estimate of; prompts have one length."""
        if prompt_tokens is not None:
            raise InputError("MaverIQ's rule knows no length of prompts but that of the "
                             "fingerprints")
        if model not in self.subjects:
            raise InputError(f"model {model}: nothing is known of its architecture")
        check_possible(self.subjects[model], configuration)
        spec = self.subjects[model].model
        layers = spec.num_layers
        if any(rows < spec.leading_dense_layers for key in self.cuts.keys if key.model == model
               for rows in self.cuts.bytes(key)):
            raise InputError(f"MaverIQ's rule takes all layers for alike: {unlike_layers(spec)}")
        rule = self.rule if batch == 1 or self.batch_rule is None else self.batch_rule
        latency_s = rule.latency_s(model, layers, configuration, output_tokens, batch)
        memory = rule.memory_bytes(model, layers, configuration, batch)
        ranks_known = configuration.parallelism.tensor == 1 or any(
            (key.model, key.tensor, key.pipeline) == (model, 2, 1) for key in rule.cuts.keys)
        if latency_s is None or memory is None or not ranks_known:
            raise InputError(f"model {model}: MaverIQ's rule has no fingerprints or exponents for "
                             f"{configuration.name}{'' if batch == 1 else ' in batches of two'}")
        if not (0.0 < latency_s < inf and 0.0 < memory < inf):
            raise InputError(f"model {model}: MaverIQ's rule makes {latency_s:.3g} s and "
                             f"{memory / GIB:.3g} GiB of its fingerprints for {configuration.name}")
        return Estimate(_bare(latency_s), _bare(memory))


def published(folder: Path, catalog: Catalog, accelerator: Accelerator,
              fingerprints: Path | None = None, *, seed: int = 42) -> PublishedEstimator:
    """MaverIQ's estimator for the models in a file of fingerprints (default: the folder's first
    session's). Exponents come from ``latency_exponents.csv`` of the folder, and are learnt as
    MaverIQ learns them where there is none. Raises InputError."""
    sessions = read_sessions(folder, catalog, accelerator, fingerprints)
    cuts = sessions[0].cuts if fingerprints is None else Cuts(own_runs(fingerprints, catalog))
    names = [*(run.model for session in sessions for run in session.whole), *cuts.models]
    subjects = subjects_of(sorted(set(names)), catalog, accelerator)
    powers = folder / EXPONENTS
    exponents = (read_exponents(powers, "fingerprint") if powers.is_file()
                 else learnt(sessions[0].whole, sessions[0].cuts, subjects, seed))
    batches = [one for one in (cuts, *(session.cuts for session in sessions if not fingerprints))
               if any(key.batch == 2 for key in one.keys)]
    return PublishedEstimator(subjects, cuts, MaveriqEstimator(cuts, exponents),
                              MaveriqEstimator(batches[0], exponents) if batches else None)


def learnt(whole: Sequence[ProfiledRun], cuts: Cuts,
           subjects: Mapping[str, Subject], seed: int) -> dict[tuple[str, str], Exponents]:
    """Exponents by precision of weights and cache, from five whole runs of each model."""
    rng = np.random.default_rng(seed)
    plain = MaveriqEstimator(cuts, {})
    points: dict[tuple[str, str], list[Point]] = {}
    by_kind: dict[tuple[str, str, str], list[ProfiledRun]] = {}
    for run in whole:
        if run.batch == 1 and run.latency_s is not None:
            by_kind.setdefault((run.model, run.precision, run.kv_precision), []).append(run)
    for (model, precision, kv_precision), runs in by_kind.items():
        layers = subjects[model].model.num_layers
        for i in rng.permutation(len(runs))[:POINTS_PER_MODEL]:
            run, configuration = runs[i], configuration_of(key_of(runs[i]))
            parts = plain.parts(model, layers, configuration, run.output_tokens)
            if parts is not None and run.latency_s is not None:
                points.setdefault((precision, kv_precision), []).append(
                    Point(run.tensor, run.pipeline, *parts, run.latency_s))
    return {formats: learn_exponents(found) for formats, found in points.items()}


def read_exponents(path: Path, method: str) -> dict[tuple[str, str], Exponents]:
    """The exponents of a method (``fingerprint`` or ``full-model``) by precision of weights and
    cache. Raises InputError with file, line and column."""
    found = {}
    for row in csv_rows(path, ("Method", "Quant-config", "alpha", "beta", "gamma", "delta")):
        words = [word.strip(" ()").lower() for word in row.text("Quant-config").split(",")]
        if len(words) != 2 or words[0] not in PRECISIONS or words[1] not in KV_PRECISIONS:
            row.fail("Quant-config", "a pair such as (float16, False)")
        if row.text("Method") == method:
            found[PRECISIONS[words[0]], KV_PRECISIONS[words[1]]] = Exponents(
                *(row.number(name) for name in ("alpha", "beta", "gamma", "delta")))
    return found


def _bare(value: float) -> Prediction:
    return Prediction(value, value, value, 0.0, "MaverIQ's rule, which knows no interval")
