"""Runs of models cut down to a few layers, and the straight line in layers that they give.

A cut keeps embedding, head and tokenizer and has only the first layers. Two cuts that differ in
layers tell what a layer costs and what the rest does (MaverIQ, github.com/UT-SysML/MaverIQ).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.core.model import ModelSpec
from penstock.perf.profiles.rows import ProfiledRun


class Key(NamedTuple):
    """Key that cuts must share to lie on one line."""

    model: str
    tensor: int
    pipeline: int
    precision: str
    kv_precision: str
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds of a run of n layers at ``output_tokens``, the longest answer that at least two cuts
    gave: ``rest_s + n * layer_s``. ``prompt_tokens`` is how long the prompt was."""

    output_tokens: int
    layer_s: float
    rest_s: float
    prompt_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """The smallest cut's size and the bytes that it took, all accelerators together."""

    num_layers: int
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Session:
    """One measuring session: runs of whole models, and cuts of them on the same machine with
    prompts of one length. Latencies of two sessions may differ by a quarter."""

    whole: Sequence[ProfiledRun]
    cuts: "Cuts"


class Cuts:
    """Looks cuts up by what they have in common. Repeated runs count by their mean."""

    def __init__(self, runs: Iterable[ProfiledRun]) -> None:
        self._seconds: dict[Key, dict[int, dict[int, float]]] = {}
        self._bytes: dict[Key, dict[int, float]] = {}
        self._shortest: dict[Key, dict[int, float]] = {}
        self._prompts: dict[str, float] = {}
        seconds: dict[tuple[Key, int, int], list[float]] = {}
        memory: dict[tuple[Key, int], dict[int, list[float]]] = {}
        for run in runs:
            key = key_of(run)
            if run.prompt_tokens is not None:
                self._prompts[run.model] = run.prompt_tokens
            if run.latency_s is not None:
                seconds.setdefault((key, run.output_tokens, run.num_layers),
                                   []).append(run.latency_s)
            if run.memory_bytes is not None:
                memory.setdefault((key, run.num_layers), {}).setdefault(
                    run.output_tokens, []).append(run.memory_bytes)
        for (key, output, layers), values in seconds.items():
            self._seconds.setdefault(key, {}).setdefault(output, {})[layers] = fmean(values)
        for (key, layers), by_output in memory.items():
            self._bytes.setdefault(key, {})[layers] = fmean(
                value for values in by_output.values() for value in values)
            self._shortest.setdefault(key, {})[layers] = fmean(by_output[min(by_output)])
        # Asked for with every estimate, so worked out once.
        self._prompt_s = _prompt_seconds(self._seconds)

    @property
    def models(self) -> frozenset[str]:
        """Names of the models that were cut down."""
        return frozenset(key.model for key in (*self._seconds, *self._bytes))

    @property
    def keys(self) -> list[Key]:
        """Keys of the runs, in the order of the rows."""
        return list(dict.fromkeys((*self._seconds, *self._bytes)))

    def seconds(self, key: Key) -> Mapping[int, Mapping[int, float]]:
        """Seconds by output tokens and then by layers; empty where nothing was run."""
        return self._seconds.get(key, {})

    def bytes(self, key: Key) -> Mapping[int, float]:
        """Bytes by layers; empty where nothing was run."""
        return self._bytes.get(key, {})

    def shortest_bytes(self, key: Key) -> Mapping[int, float]:
        """Bytes by layers after the shortest answers alone."""
        return self._shortest.get(key, {})

    def line(self, key: Key, least_layers: int = 0) -> Line | None:
        """The line through the cuts of at least so many layers, None where fewer than two sizes
        were run."""
        by_output = {output: {layers: seconds for layers, seconds in by_layers.items()
                              if layers >= least_layers}
                     for output, by_layers in self._seconds.get(key, {}).items()}
        outputs = [output for output, by_layers in by_output.items() if len(by_layers) > 1]
        if not outputs:
            return None
        output = max(outputs)
        layer_s, rest_s = straight_line(by_output[output])
        return Line(output, layer_s, rest_s)

    def prompt_tokens(self, model: str, tokens_per_s: float) -> float:
        """How long the prompts were. Where nobody wrote it down: as long as it takes to explain
        what a layer took beside its output tokens, if it computes ``tokens_per_s`` on one
        accelerator; the median over runs on one or two. 0 where nothing is known."""
        if model in self._prompts:
            return self._prompts[model]
        return max(0.0, self._prompt_s.get(model, 0.0) * tokens_per_s)

    def known_prompt_tokens(self, model: str) -> float | None:
        """How long the prompts were, where it was written down."""
        return self._prompts.get(model)

    def smallest(self, key: Key) -> Cut | None:
        """The cut with the fewest layers whose memory is known."""
        by_layers = self._bytes.get(key)
        if not by_layers:
            return None
        layers = min(by_layers)
        return Cut(layers, by_layers[layers])


def unlike_layers(model: ModelSpec) -> str:
    """Why cuts of fewer layers tell nothing of a mixture whose first layers are dense, and what to
    measure; empty for a model whose layers are of one kind."""
    lead = model.leading_dense_layers
    if not lead:
        return ""
    return (f"the first {lead} layers of {model.name} are dense, so that cuts of fewer tell "
            f"nothing of the {model.num_moe_layers} with experts; measure runs of {lead + 1} and "
            f"{lead + 2} layers on one accelerator (penstock profile fingerprint)")


def key_of(run: ProfiledRun) -> Key:
    """Return the key that a run shares with others on its line."""
    return Key(run.model, run.tensor, run.pipeline, run.precision, run.kv_precision, run.batch)


def key_for(model: str, configuration: Configuration) -> Key:
    """Return the key of single requests of a model in a configuration."""
    spread = configuration.parallelism
    return Key(model, spread.tensor, spread.pipeline, configuration.precision,
               configuration.kv_precision)


def configuration_of(key: Key) -> Configuration:
    """How the runs of a key were spread and stored."""
    return Configuration(Parallelism(key.tensor, key.pipeline), key.precision, key.kv_precision)


def straight_line(points: Mapping[int, float]) -> tuple[float, float]:
    """Slope and value at 0 of the least-squares line through at least two points."""
    mean_x, mean_y = fmean(points), fmean(points.values())
    spread = sum((x - mean_x) ** 2 for x in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points.items()) / spread
    return slope, mean_y - slope * mean_x


def _prompt_seconds(seconds: Mapping[Key, Mapping[int, Mapping[int, float]]]) -> dict[str, float]:
    """Return the seconds of one layer beside its output tokens, by model, as if on one accelerator:
    the median over runs of single requests on one or two."""
    found: dict[str, list[float]] = {}
    for key, by_output in seconds.items():
        if key.batch != 1 or key.pipeline != 1 or key.tensor > 2:
            continue
        layers = {output: straight_line(points)[0] for output, points in by_output.items()
                  if len(points) > 1}
        if len(layers) > 1:
            found.setdefault(key.model, []).append(straight_line(layers)[1] * key.tensor)
    return {model: median(values) for model, values in found.items()}
