"""A world whose runs obey a known law, for tests of what is learnt from fingerprints."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from penstock.catalog.catalog import load_catalog
from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.core.units import GIB
from penstock.perf.fingerprint.cuts import Cuts, Session
from penstock.perf.fingerprint.physics import Subject, width_of
from penstock.perf.profiles.rows import ProfiledRun

MODELS = ("llama-2-7b", "llama-2-13b", "llama-2-70b", "gpt-j-6b")
FORMATS = (("fp16", "fp16"), ("int8", "fp16"), ("int4", "int8"))
HELD_FORMATS = {"fp16": "float16", "int8": "int8", "int4": "int4"}
"""What MaverIQ's files call the formats."""

SPREADS = tuple(Parallelism(tensor, pipeline)
                for tensor, pipeline in ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1), (8, 1)))
PROMPT_TOKENS = 512


def subject(model: str) -> Subject:
    catalog = load_catalog()
    return Subject(catalog.model(model), catalog.accelerator("a6000"))


SUBJECTS = {model: subject(model) for model in MODELS}


def seconds(model: str, configuration: Configuration, layers: int, output_tokens: int,
            batch: int = 1, prompt_tokens: int = PROMPT_TOKENS) -> float:
    """The law: weights at 80 % of the bandwidth, kernels, an all-reduce, a prompt, a head."""
    known, tensor = SUBJECTS[model], configuration.parallelism.tensor
    read_ms = known.read_ms(known.layer_params * width_of(configuration.precision)) / tensor / 0.8
    reduce_ms = 0.0 if tensor == 1 else 0.05 * known.model.hidden_size / 8192 * tensor
    layer_ms = read_ms + 0.1 + reduce_ms
    prompt_ms = known.compute_ms(2.0 * known.layer_params) * prompt_tokens / tensor / 0.7
    head_ms = known.read_ms(2.0 * known.model.vocab_size * known.model.hidden_size) / tensor
    token_ms = layers * layer_ms + head_ms + 0.5
    more_ms = (batch - 1) * output_tokens * layers * 1e-3 * known.model.hidden_size / 4096
    return 1e-3 * (layers * prompt_ms + output_tokens * token_ms + more_ms)


def num_bytes(model: str, configuration: Configuration, layers: int) -> float:
    """The law: layers, a cache of 1,024 tokens, and what ranks and stages add."""
    known, spread = SUBJECTS[model], configuration.parallelism
    width, cache = (width_of(one) for one in (configuration.precision, configuration.kv_precision))
    per_layer = known.layer_params * width + 1024 * known.layer_kv_bytes * cache / 2.0
    return layers * per_layer + GIB * (0.9 + 0.8 * (spread.tensor - 1)
                                       + 0.7 * spread.tensor * (spread.pipeline - 1))


def run(model: str, configuration: Configuration, layers: int, output_tokens: int,
        batch: int = 1, prompt_tokens: int | None = PROMPT_TOKENS) -> ProfiledRun:
    spread = configuration.parallelism
    each, rest = divmod(layers, spread.pipeline)
    by_stage = tuple(each + (stage < rest) for stage in range(spread.pipeline))
    return ProfiledRun(
        model, spread.tensor, spread.pipeline, by_stage, configuration.precision,
        configuration.kv_precision, prompt_tokens, output_tokens, batch,
        seconds(model, configuration, layers, output_tokens, batch,
                PROMPT_TOKENS if prompt_tokens is None else prompt_tokens),
        num_bytes(model, configuration, layers), None, "the world")


def configurations(spreads: Sequence[Parallelism] = SPREADS) -> Iterator[Configuration]:
    for spread in spreads:
        for precision, kv_precision in FORMATS:
            yield Configuration(spread, precision, kv_precision)


def cuts_of(models: Sequence[str] = MODELS, spreads: Sequence[Parallelism] = SPREADS,
            prompt_tokens: int | None = PROMPT_TOKENS) -> list[ProfiledRun]:
    return [run(model, configuration, layers, output, prompt_tokens=prompt_tokens)
            for model in models for configuration in configurations(spreads)
            for layers in (configuration.parallelism.pipeline,
                           configuration.parallelism.pipeline + 1)
            for output in (10, 20)]


def whole_runs(models: Sequence[str] = MODELS) -> list[ProfiledRun]:
    return [run(model, configuration, SUBJECTS[model].model.num_layers, output)
            for model in models for configuration in configurations()
            for output in (10, 50, 200)]


def session(models: Sequence[str] = MODELS) -> Session:
    return Session(whole_runs(models), Cuts(cuts_of()))


def slower(found: Sequence[ProfiledRun], factor: float) -> list[ProfiledRun]:
    return [replace(one, latency_s=factor * (one.latency_s or 0.0)) for one in found]


HEADER = ("Model", "TP", "PP", "PP_Map", "DTYPE", "INT8_KV_Cache", "Output_Lenght", "Batch_Size",
          "Latency", "Memory-Pre-Run", "Memory-After-Run", "Time-Gen-Graph", "Time-Prof")
"""Columns of MaverIQ's files."""


def write(path: Path, runs: Sequence[ProfiledRun]) -> None:
    """A file laid out as MaverIQ's."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for run in runs:
            writer.writerow((run.model, run.tensor, run.pipeline,
                             " ".join(map(str, run.layers_by_stage)), HELD_FORMATS[run.precision],
                             run.kv_precision == "int8", run.output_tokens, run.batch,
                             run.latency_s, run.memory_bytes / GIB, run.memory_bytes / GIB, 1, 1))
