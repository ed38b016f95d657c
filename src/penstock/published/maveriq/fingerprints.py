"""MaverIQ's estimators as published, to compare with (github.com/UT-SysML/MaverIQ, 067d7a1).

``L2`` is its latency from fingerprints, ``M2`` its memory. Both know pipelines of one stage only:
what more stages cost is an exponent that all models share.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.configuration import Configuration
from penstock.perf.fingerprint.cuts import Cuts, Key


@dataclass(frozen=True, slots=True)
class Exponents:
    """How latency falls with stages (alpha), and how what ranks add grows with ranks (beta) and
    falls with stages (gamma), and what stages add grows with stages (delta). Learnt per precision
    of weights and cache, for all models together."""

    alpha: float
    beta: float
    gamma: float
    delta: float


@dataclass(frozen=True, slots=True)
class Whole:
    """Time to the first token and per token of a whole model, extrapolated from cuts, seconds."""

    ttft_s: float
    tpot_s: float

    def seconds(self, output_tokens: int) -> float:
        """The whole answer."""
        return self.ttft_s + output_tokens * self.tpot_s


def extrapolated(by_output: Mapping[int, Mapping[int, float]], num_layers: int) -> Whole | None:
    """Bilinear in layers and tokens through the two smallest cuts at the two shortest outputs;
    None where there are fewer."""
    outputs = sorted(output for output, found in by_output.items() if len(found) > 1)[:2]
    if len(outputs) < 2:
        return None
    short, longer = outputs
    n1, n2 = sorted(by_output[short])[:2]
    if n1 not in by_output[longer] or n2 not in by_output[longer]:
        return None
    at = {(n, o): by_output[o][n] for n in (n1, n2) for o in outputs}
    rate1 = (at[n1, longer] - at[n1, short]) / (longer - short)
    rate2 = (at[n2, longer] - at[n2, short]) / (longer - short)
    tpot_layer_s = (rate2 - rate1) / (n2 - n1)
    tpot_rest_s = rate1 - n1 * tpot_layer_s
    ttft_layer_s = (at[n2, short] - at[n1, short]) / (n2 - n1) - short * tpot_layer_s
    ttft_rest_s = at[n1, short] - n1 * ttft_layer_s - short * rate1
    return Whole(num_layers * ttft_layer_s + ttft_rest_s, num_layers * tpot_layer_s + tpot_rest_s)


@dataclass(frozen=True, slots=True)
class MaveriqEstimator:
    """Estimates from fingerprints at one accelerator, two ranks and (for memory) two stages.

    A model that ranks cannot share (falcon-7b: 71 heads) has no runs with two; what ranks would
    add is then 0, as upstream says. Memory is that after the shortest answers.
    """

    cuts: Cuts
    exponents: Mapping[tuple[str, str], Exponents]

    def latency_s(self, model: str, num_layers: int, configuration: Configuration,
                  output_tokens: int, batch: int = 1) -> float | None:
        """L2 in seconds; None where a fingerprint or the precision's exponents are missing."""
        one = self._one(model, num_layers, configuration, output_tokens, 1)
        if one is None or batch == 1:
            return one
        two = self._one(model, num_layers, configuration, output_tokens, 2)
        return None if two is None else one + (batch - 1) * max(0.0, two - one)

    def memory_bytes(self, model: str, num_layers: int, configuration: Configuration,
                     batch: int = 1) -> float | None:
        """M2 in bytes over all accelerators; None where a fingerprint is missing."""
        one = self._bytes(model, num_layers, configuration, 1)
        if one is None or batch == 1:
            return one
        two = self._bytes(model, num_layers, configuration, 2)
        return None if two is None else one + (batch - 1) * max(0.0, two - one)

    def parts(self, model: str, num_layers: int, configuration: Configuration,
              output_tokens: int, batch: int = 1) -> tuple[float, float] | None:
        """Seconds on one accelerator, and what a second rank adds; None without fingerprints."""
        alone = self._whole(model, 1, num_layers, configuration, batch)
        shared = self._whole(model, 2, num_layers, configuration, batch)
        if alone is None:
            return None
        l11 = alone.seconds(output_tokens)
        return l11, 0.0 if shared is None else max(0.0, shared.seconds(output_tokens) - l11 / 2.0)

    def _one(self, model: str, num_layers: int, configuration: Configuration, output_tokens: int,
             batch: int) -> float | None:
        powers = self.exponents.get((configuration.precision, configuration.kv_precision))
        parts = self.parts(model, num_layers, configuration, output_tokens, batch)
        if powers is None or parts is None:
            return None
        # Its extrapolation takes one stage for two, so what stages add is an exponent's doing.
        l11, ranks = parts
        stages = max(0.0, l11 - l11 / math.pow(2.0, powers.alpha))
        tensor, pipeline = (configuration.parallelism.tensor, configuration.parallelism.pipeline)
        return (max(0.0, l11) / (tensor * math.pow(pipeline, powers.alpha))
                + ranks * math.pow(tensor - 1.0, powers.beta) / math.pow(pipeline, powers.gamma)
                + stages * math.pow(pipeline - 1.0, powers.delta))

    def _whole(self, model: str, tensor: int, num_layers: int, configuration: Configuration,
               batch: int) -> Whole | None:
        return extrapolated(self.cuts.seconds(Key(
            model, tensor, 1, configuration.precision, configuration.kv_precision, batch)),
            num_layers)

    def _bytes(self, model: str, num_layers: int, configuration: Configuration,
               batch: int) -> float | None:
        base = self._memory(model, 1, 1, num_layers, configuration, batch)
        two_stages = self._memory(model, 1, 2, num_layers, configuration, batch)
        two_ranks = self._memory(model, 2, 1, num_layers, configuration, batch)
        if base is None or two_stages is None:
            return None
        per_rank = 0.0 if two_ranks is None else max(0.0, two_ranks - base)
        per_stage = max(0.0, two_stages - base)
        tensor, pipeline = (configuration.parallelism.tensor, configuration.parallelism.pipeline)
        return base + (tensor - 1) * per_rank + tensor * (pipeline - 1) * per_stage

    def _memory(self, model: str, tensor: int, pipeline: int, num_layers: int,
                configuration: Configuration, batch: int) -> float | None:
        by_layers = self.cuts.shortest_bytes(Key(model, tensor, pipeline, configuration.precision,
                                                 configuration.kv_precision, batch))
        if len(by_layers) < 2:
            return None
        n1, n2 = sorted(by_layers)[:2]
        per_layer = (by_layers[n2] - by_layers[n1]) / (n2 - n1)
        return by_layers[n1] + (num_layers - n1) * per_layer
