"""Advice on the next measurement: the one that narrows the widest interval."""

from collections.abc import Iterable, Mapping
from math import log

from penstock.core.configuration import Configuration
from penstock.core.prediction import Prediction
from penstock.perf.fingerprint.estimator import Estimate


def advice(model: str, num_layers: int,
           estimates: Mapping[Configuration, Estimate], leading_dense_layers: int = 0,
           most: int = 3) -> list[str]:
    """The measurements that should shrink the widest intervals most, in words, the widest first.

    Where a fingerprint stood in for one that was not made, that one; otherwise a run of the whole
    model, since what is left is what models have of their own.
    """
    known = [one for one in estimates if estimates[one].latency_s.coverage > 0.0]
    widest = sorted(known, key=lambda one: -_width(estimates[one].latency_s))
    found: dict[str, None] = {}
    for configuration in widest:
        estimate = estimates[configuration]
        spread, formats = configuration.parallelism, (
            f"{configuration.precision}, {configuration.kv_precision} cache")
        if any("fingerprint" in note for note in _notes(estimate.latency_s)):
            least = leading_dense_layers + 1
            found[f"cuts of {model} to {least} and {least + 1} layers on {spread.tensor} ranks "
                  f"({formats}): its latency is known to {_percent(estimate.latency_s)} only"
                  ] = None
        elif any("fingerprint" in note for note in _notes(estimate.memory_bytes)):
            found[f"a cut of {model} to {spread.pipeline} layers on {spread.tensor} ranks by "
                  f"{spread.pipeline} stages ({formats}): its memory is known to "
                  f"{_percent(estimate.memory_bytes)} only"] = None
        else:
            found[f"all {num_layers} layers of {model} as {configuration.name}, at two lengths of "
                  f"answers: known to {_percent(estimate.latency_s)} now"] = None
        if len(found) == most:
            break
    return list(found)


def _width(prediction: Prediction) -> float:
    return log(prediction.high / max(prediction.low, 1e-12 * prediction.high))


def _percent(prediction: Prediction) -> str:
    return f"-{1 - prediction.low / prediction.value:.0%} to " \
           f"+{prediction.high / prediction.value - 1:.0%}"


def _notes(prediction: Prediction) -> Iterable[str]:
    return prediction.extrapolated
