"""Designs of measurements: for step times, and for fingerprints of a few layers."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Parallelism
from penstock.perf.profiles.points import ModelConfiguration
from penstock.profile.points import Point

DESIGNS = ("penstock", "maveriq")


def spread(model: str, num_layers: int, configuration: Configuration) -> ModelConfiguration:
    """Layers spread evenly over the stages, the first ones holding one more where they must.

    Raises InputError with fewer layers than stages.
    """
    pipeline = configuration.parallelism.pipeline
    if num_layers < pipeline:
        raise InputError(f"pipeline {pipeline}: the model has {num_layers} layers, fewer than "
                         "stages")
    each, more = divmod(num_layers, pipeline)
    layers = tuple(each + (stage < more) for stage in range(pipeline))
    return ModelConfiguration(model, layers, configuration.precision, configuration.kv_precision,
                              configuration.parallelism.tensor)


def model_points(configuration: ModelConfiguration, prompts: Sequence[int], batches: Sequence[int],
                 output_tokens: int, most_tokens: int) -> list[Point]:
    """Every batch with every prompt, as long as an answer still fits behind it.

    The prompts' first tokens time prefills, the answers' further tokens decodes at that context.
    """
    found = [Point(configuration, batch, prompt, output_tokens)
             for prompt, batch in product(prompts, batches)
             if prompt + output_tokens <= most_tokens]
    if not found:
        raise InputError(f"prompts of {min(prompts)} tokens and answers of {output_tokens} exceed "
                         f"the model's context of {most_tokens:,}")
    return found


def fingerprint_settings(design: str, precisions: Sequence[tuple[str, str]],
                         most_accelerators: int
                         ) -> tuple[list[Configuration], list[Configuration]]:
    """The settings of a design that fit on so many accelerators, and those that do not.

    MaverIQ's has (tensor, pipeline) (1, 1), (1, 2) and (2, 1): with two cuts, two outputs and two
    batches each, 24 runs per precision (github.com/UT-SysML/MaverIQ). Ours adds tensor 4 and 8:
    what it costs to join their parts cannot be told from that of two.
    """
    degrees = {"maveriq": ((1, 1), (1, 2), (2, 1)),
               "penstock": ((1, 1), (1, 2), (2, 1), (4, 1), (8, 1))}[_known(design)]
    found = [Configuration(Parallelism(tensor, pipeline), precision, kv_precision)
             for precision, kv_precision in precisions for tensor, pipeline in degrees]
    possible = [one for one in found
                if one.parallelism.num_accelerators <= most_accelerators]
    return possible, [one for one in found if one not in possible]


def fingerprint_points(design: str, model: str, setting: Configuration, most_tokens: int,
                       leading_dense_layers: int = 0) -> list[Point]:
    """Batches for cuts of PP and PP + 1 layers in one setting; of a mixture whose first layers are
    dense, so many beyond those that the cuts differ in a layer with experts.

    MaverIQ: a short prompt, outputs of 10 and 20, batches of 1 and 2. Ours: batches up to 32,
    prompts up to 1024 and outputs up to 48, not every combination of them: the corners from which
    prefill, decode, their growth with batch and with context can be told apart.
    """
    shapes = list(_maveriq_shapes() if _known(design) == "maveriq" else _own_shapes())
    fitting = [shape for shape in shapes if shape[1] + shape[2] <= most_tokens]
    if not fitting:
        raise InputError(f"model {model}: its context of {most_tokens} tokens is too short for a "
                         "fingerprint")
    least = leading_dense_layers + setting.parallelism.pipeline
    return [Point(spread(model, num_layers, setting), *shape)
            for num_layers in (least, least + 1) for shape in fitting]


def _maveriq_shapes() -> Iterator[tuple[int, int, int]]:
    """Batch, prompt and output tokens; the prompt is about as long as its one sentence."""
    for batch, output in product((1, 2), (10, 20)):
        yield batch, 8, output


def _own_shapes() -> Iterator[tuple[int, int, int]]:
    yield from ((1, 32, 16), (1, 32, 48), (1, 256, 16), (1, 1024, 16), (4, 32, 16), (8, 256, 16),
                (16, 32, 16), (32, 32, 16), (8, 1024, 16))


def _known(design: str) -> str:
    if design not in DESIGNS:
        raise InputError(f"--design {design!r} is unknown{nearest(design, DESIGNS)}")
    return design


def document(points: Sequence[Point]) -> list[Mapping[str, Any]]:
    """The points as profile.json lists them."""
    return [{"configuration": point.configuration.label, "batch": point.batch,
             "prompt_tokens": point.prompt_tokens, "output_tokens": point.output_tokens}
            for point in points]
