"""Columns in another unit than they should be: magnitudes that no run could have had.

Milliseconds for seconds, or MiB for GiB, are wrong by a factor of a thousand. What hardware could
do is known to a factor of ten or so without any measurement, which is enough to tell.
"""

from collections.abc import Iterable, Sequence
from statistics import median

from penstock.core.hardware import Accelerator
from penstock.core.model import ModelSpec
from penstock.core.units import GIB
from penstock.perf.fingerprint.physics import PRECISIONS, Subject, width_of
from penstock.perf.profiles.rows import ProfiledRun

_LAYER_S, _TOKEN_S = 2e-4, 2e-3
"""Beside reading weights, of each token: about what kernels and an engine take at most on a GPU."""

_FEWEST, _MOST = 0.1, 100.0
_MOST_MEMORY = 1.05


def implausible(runs: Iterable[ProfiledRun], model: ModelSpec,
                accelerators: Sequence[Accelerator]) -> str:
    """Return why runs of a model or its cuts are impossible, with the first such row and its likely
    unit; empty where all are possible. They may have been made on any of the accelerators: one
    is enough on which they could be.

    Medians of the smallest batches count, so that one odd row says nothing of a column.
    """
    known = [run for run in runs if 0 < run.num_layers <= model.num_layers
             and run.precision in PRECISIONS]
    if not known or not accelerators:
        return ""
    least = min(run.batch for run in known)
    known = [run for run in known if run.batch == least]
    subject = Subject(model, accelerators[0])
    return (_latency(known, subject, accelerators)
            or _memory(known, subject, accelerators))


def _latency(runs: Sequence[ProfiledRun], subject: Subject,
             accelerators: Sequence[Accelerator]) -> str:
    """Each token reads a rank's weights once; nothing is faster than that."""
    params = subject.token_params
    timed = [(run.latency_s, params * run.num_layers * width_of(run.precision) * run.output_tokens
              / run.tensor, run.output_tokens * (run.num_layers * _LAYER_S + _TOKEN_S))
             for run in runs if run.latency_s is not None]
    if not timed:
        return ""
    rates = {accelerator.bandwidth_bytes_per_s for accelerator in accelerators}
    slow = median(seconds / (read / min(rates) + more_s) for seconds, read, more_s in timed)
    fast = median(seconds * max(rates) / read for seconds, read, _ in timed)
    first = next(run for run in runs if run.latency_s is not None)
    where = f"{first.source}: latency {first.latency_s:.4g}: runs of {first.model} would take"
    if slow > _MOST:
        unit = "; these look like milliseconds" if _FEWEST < slow / 1e3 < _MOST else ""
        return f"{where} {slow:.3g} times as long as usual; expected seconds{unit}"
    if fast < _FEWEST:
        return f"{where} {fast:.2g} of the time of reading their weights; expected seconds"
    return ""


def _memory(runs: Sequence[ProfiledRun], subject: Subject,
            accelerators: Sequence[Accelerator]) -> str:
    held = [(run.memory_bytes, run) for run in runs if run.memory_bytes is not None]
    if not held:
        return ""
    most = max(accelerator.memory_bytes for accelerator in accelerators)
    fewest = min(run.num_accelerators for _, run in held)  # where they are fullest
    full = median(num_bytes / fewest / most for num_bytes, run in held
                  if run.num_accelerators == fewest)
    weights = {num: subject.layers_params(num, first=True)
               for num in {run.num_layers for _, run in held}}
    light = median(num_bytes / (weights[run.num_layers] * width_of(run.precision))
                   for num_bytes, run in held)
    num_bytes, first = held[0]
    where = f"{first.source}: memory {num_bytes / GIB:.4g} GiB: runs of {first.model} would take"
    if full > _MOST_MEMORY:
        unit = "; these look like MiB" if full / 1024 <= _MOST_MEMORY else ""
        return (f"{where} {full:.3g} times the memory of the largest accelerators; expected GiB on "
                f"all of them together{unit}")
    if light < _FEWEST:
        return f"{where} {light:.2g} of what their layers weigh; expected GiB"
    return ""
