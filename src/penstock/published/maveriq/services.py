"""How long a request takes in a configuration that no run, or another run, had."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from penstock.catalog.catalog import Catalog
from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.core.units import GIB
from penstock.estimate.training import WHOLE, trained
from penstock.perf.fingerprint.cuts import Key, configuration_of, key_of
from penstock.perf.fingerprint.estimator import Estimator
from penstock.perf.profiles.rows import ProfiledRun
from penstock.plan.place.options import PlacementOption
from penstock.published.maveriq.records import NUM_DEVICES, Cell, Run
from penstock.published.maveriq.tables import read_maveriq

OUTPUT_TOKENS = 20
"""Lengths of every request of the runs."""

ACCELERATOR = "a6000"


@dataclass(frozen=True, slots=True)
class Profiled:
    """Seconds and bytes of one request, from a table of measurements or estimated."""

    seconds: float
    num_bytes: float
    measured: bool


class Profiles:
    """Whole requests by model and configuration: measured where a table has them, otherwise
    estimated from fingerprints."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._estimator: Estimator = trained(folder, catalog, catalog.accelerator(ACCELERATOR))
        seconds: dict[tuple[str, Configuration], list[tuple[float, float]]] = {}
        for run in read_maveriq(folder / f"{WHOLE}.csv"):
            if (run.output_tokens == OUTPUT_TOKENS and run.batch == 1
                    and run.latency_s is not None and run.memory_bytes is not None):
                seconds.setdefault((run.model, configuration_of(key_of(run))), []).append(
                    (run.latency_s, run.memory_bytes))
        self._measured = {key: Profiled(fmean(pair[0] for pair in pairs),
                                        fmean(pair[1] for pair in pairs), True)
                          for key, pairs in seconds.items()}
        self._models = {model for model, _ in seconds}
        self._growths = _growths(read_maveriq(folder / f"{WHOLE}_BS.csv"))

    def of(self, model: str, configuration: Configuration) -> Profiled | None:
        """None where a model that was measured was not measured so: it did not run."""
        if model in self._models:
            return self._measured.get((model, configuration))
        found = self._estimator.estimate(model, configuration, OUTPUT_TOKENS)
        return Profiled(found.latency_s.value, found.memory_bytes.value, False)

    def growth(self, model: str, configuration: Configuration, batch: int) -> float:
        """Return the addition of each further request of a batch, as a share of one alone: as
        estimated, but no less than any model's measured addition with as many ranks and the
        precision."""
        if batch == 1:
            return 1.0
        alone, full = (self._estimator.estimate(model, configuration, OUTPUT_TOKENS,
                                                number).latency_s.value for number in (1, batch))
        measured = self._growths.get((configuration.precision,
                                      configuration.parallelism.tensor), 0.0)
        return max(measured, max(0.0, full / alone - 1.0) / (batch - 1))

    def configurations(self, model: str, precisions: Iterable[str]) -> list[Configuration]:
        """Powers of two of ranks and stages, up to all devices, in these precisions of weights."""
        subject = self._estimator.subjects[model]
        known = dict.fromkeys((key.precision, key.kv_precision) for key in
                              self._estimator.cuts.keys if key.model == model)
        sizes = [1 << power for power in range(NUM_DEVICES.bit_length())]
        return [Configuration(Parallelism(tensor, pipeline), precision, kv)
                for precision, kv in known if precision in set(precisions)
                for tensor in sizes if not subject.model.indivisible(tensor)
                for pipeline in sizes if tensor * pipeline <= NUM_DEVICES]


def _growths(runs: Iterable[ProfiledRun]) -> dict[tuple[str, int], float]:
    """By precision and ranks, what each further request of the smallest batches added at most, as
    a share of one alone; at the shortest answers, where prompts weigh most."""
    by_key: dict[tuple[Key, int], dict[int, float]] = {}
    for run in runs:
        if run.latency_s is not None:
            by_key.setdefault((key_of(run)._replace(batch=1), run.output_tokens), {})[
                run.batch] = run.latency_s
    shortest = min((output for _, output in by_key), default=0)
    found: dict[tuple[str, int], float] = {}
    for (key, output), by_batch in by_key.items():
        larger = [batch for batch in by_batch if batch > 1]
        if output == shortest and 1 in by_batch and larger:
            growth = (by_batch[min(larger)] / by_batch[1] - 1.0) / (min(larger) - 1)
            at = key.precision, key.tensor
            found[at] = max(found.get(at, 0.0), growth)
    return found


class Services:
    """Seconds of the engine in the end-to-end runs, whose session differs from that of the tables.

    A configuration that runs had takes what they measured, on aligned blocks of devices only: sets
    across the node's halves are slower. Another takes what ``Profiles`` say times the ratio of runs
    to profiles for its model, precision and number of ranks; where no run had that many, the higher
    of the ratios at the nearest numbers. Where no run on another cell had the model in the
    precision, the ratios of all models count. Memory is what deployments were seen to take, else
    what the profile says.
    """

    def __init__(self, profiles: Profiles, runs: Iterable[Run]) -> None:
        self._profiles = profiles
        self._seen: dict[tuple[str, Configuration], dict[Cell, list[float]]] = {}
        self._taken_gib: dict[tuple[str, Configuration], float] = {}
        for run in runs:
            for client, one in run.deployments.items():
                size = one.configuration.parallelism.num_accelerators
                key = one.model, one.configuration
                if one.device_gib is not None:
                    self._taken_gib[key] = max(self._taken_gib.get(key, 0.0), one.device_gib)
                if one.devices is not None and aligned(one.devices, size):
                    mean_s = float(run.service_s[run.client == client].mean())
                    self._seen.setdefault(key, {}).setdefault(run.key.cell, []).append(mean_s)

    def ways(self, model: str, precisions: Sequence[str], apart_from: Cell,
             max_batch: int = 1) -> list[PlacementOption]:
        """Every configuration with what may be known of it without the cell that is judged."""
        found = []
        for configuration in self._profiles.configurations(model, precisions):
            profiled = self._profiles.of(model, configuration)
            if profiled is None:
                continue
            seconds = self.expected_s(model, configuration, apart_from)
            if seconds is not None:
                size = configuration.parallelism.num_accelerators
                taken_gib = self._taken_gib.get((model, configuration))
                num_bytes = profiled.num_bytes / size if taken_gib is None else taken_gib * GIB
                found.append(PlacementOption(configuration, seconds, round(num_bytes),
                                 self._profiles.growth(model, configuration, max_batch),
                                 max_batch))
        return found

    def expected_s(self, model: str, configuration: Configuration,
                   apart_from: Cell | None) -> float | None:
        """From runs on other cells; None where no run tells anything of the model's precision."""
        measured = self._measured_s(model, configuration, apart_from)
        if measured is not None:
            return measured
        profiled = self._profiles.of(model, configuration)
        precision = configuration.precision
        ratios = (self._ratios({model}, precision, apart_from)
                  or self._ratios({seen for seen, _ in self._seen}, precision, apart_from))
        if profiled is None or not ratios:
            return None
        return profiled.seconds * cautious(ratios, configuration.parallelism.tensor)

    def truth_s(self, model: str, configuration: Configuration, cell: Cell) -> float | None:
        """As it was measured on the cell itself, where some system ran so; else as expected from
        all runs."""
        here = self._seen.get((model, configuration), {}).get(cell)
        return fmean(here) if here else self.expected_s(model, configuration, None)

    def was_run(self, model: str, configuration: Configuration) -> bool:
        """Whether any run had it."""
        return (model, configuration) in self._seen

    def _measured_s(self, model: str, configuration: Configuration,
                    apart_from: Cell | None) -> float | None:
        values = [value for cell, found in self._seen.get((model, configuration), {}).items()
                  if cell != apart_from for value in found]
        return fmean(values) if values else None

    def _ratios(self, models: Collection[str], precision: str,
                apart_from: Cell | None) -> dict[int, float]:
        by_ranks: dict[int, list[float]] = {}
        for model, seen in self._seen:
            profiled = (self._profiles.of(model, seen) if model in models
                        and seen.precision == precision else None)
            measured = self._measured_s(model, seen, apart_from)
            if profiled is not None and measured is not None:
                by_ranks.setdefault(seen.parallelism.tensor, []).append(
                    measured / profiled.seconds)
        return {ranks: fmean(found) for ranks, found in by_ranks.items()}


def aligned(devices: frozenset[int], size: int) -> bool:
    """Whether devices are a block that starts at a multiple of its size."""
    first = min(devices)
    return first % size == 0 and devices == frozenset(range(first, first + size))


def cautious(values: Mapping[int, float], ranks: int) -> float:
    """The value at so many ranks, else the higher of those at the nearest on either side."""
    if ranks in values:
        return values[ranks]
    beside = [max((known for known in values if known < ranks), default=None),
              min((known for known in values if known > ranks), default=None)]
    return max(values[known] for known in beside if known is not None)
