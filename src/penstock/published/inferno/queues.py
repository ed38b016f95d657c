"""Queue records: means at given rates, sizing by targets, and the search for a batch limit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from penstock.perf.queueing.parameters import (
    DEFAULT_STEP_TOKENS,
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
)
from penstock.published.inferno.queueing.analysis import InfernoQueues, MeanMetrics, Sizing
from penstock.published.inferno.queueing.concurrency import Onset, optimal_concurrency
from penstock.published.inferno.queueing.rates import IterationService
from penstock.published.inferno.queueing.sizing import size, size_one
from penstock.published.inferno.records import (
    WAIT_MS,
    Field,
    Record,
    equal,
    items,
    near,
)
from penstock.published.inferno.values import Targets

# Upstream's name of a mean -> ours.
MEANS = {"OfferedRate": "offered_per_s", "Throughput": "throughput_per_s",
         "AvgRespTime": "response_ms", "AvgWaitTime": "wait_ms", "AvgNumInServ": "in_service",
         "AvgPrefillTime": "prefill_ms", "AvgTokenTime": "itl_ms", "AvgTTFT": "ttft_ms",
         "MaxRate": "max_rate_per_s", "Rho": "utilisation"}
# Sums with a wait in them share its tolerance.
WITH_WAIT = ("AvgWaitTime", "AvgTTFT", "TargetTTFT")
# The limit of batch sizes in the onset study.
MAX_BATCH = 256


def queue_records(path: Path, document: Any) -> Iterator[Record]:
    """``golden_queue_v1.json`` and ``golden_queue_v2.json``."""
    for name, given in items(document, str(path)):
        yield Record(path.name, f"#{name}", tuple(_queue_fields(given)))


def _queue_fields(record: dict[str, Any]) -> Iterator[Field]:
    queue, targets = _queue(record["in"]), _targets(record["in"])
    model = InfernoQueues([queue])
    yield near("rateMin", record["rateMin"], float(model.min_rate_per_s[0]))
    yield near("rateMax", record["rateMax"], float(model.max_rate_per_s[0]))
    for number, point in enumerate(record["analyze"]):
        theirs = point.get("metrics", point)
        rate = point["rate"] if "rate" in point else point["OfferedRate"]
        ours = model.metrics(np.array([float(rate)])).row(0)
        yield from _means(f"analyze[{number}]", theirs, ours)
    yield from _sizing(record, size_one(queue, targets))
    if "numChunks" in record and isinstance(queue.times, IterationTimes):
        batches = np.arange(1.0, queue.max_batch + 1.0, dtype=np.float32)[None, :]
        chunks = [int(count) for count in IterationService([queue]).chunks(batches)[0]]
        yield equal("numChunks", record["numChunks"], chunks)
        yield equal("numChunksAtN", record["numChunksAtN"], chunks[-1])
    if record.get("optimalConcurrency"):
        limit = record["in"]["MMax"]
        yield from _onset(record["optimalConcurrency"],
                          optimal_concurrency(queue, targets, limit))


def _queue(given: dict[str, Any]) -> QueueSpec:
    times: DecodePrefillTimes | IterationTimes
    if "Delta" in given:
        times = DecodePrefillTimes(given["Alpha"], given["Beta"], given["Gamma"], given["Delta"])
    else:
        times = IterationTimes(given["Alpha"], given["Beta"], given["Gamma"],
                               given.get("T") or DEFAULT_STEP_TOKENS)
    return QueueSpec(times, RequestSize(given["In"], given["Out"]), given["N"], given["Q"])


def _targets(given: dict[str, Any]) -> Targets:
    return Targets(given["TTFT"] or None, given["ITL"] or None, given["TPS"] or None)


def _means(where: str, theirs: dict[str, Any], ours: MeanMetrics) -> Iterator[Field]:
    for name, field in MEANS.items():
        if name in theirs:
            yield near(f"{where}.{name}", theirs[name], getattr(ours, field),
                       absolute=WAIT_MS if name in WITH_WAIT else 0.0)


def _sizing(record: dict[str, Any], ours: Sizing) -> Iterator[Field]:
    yield equal("infeasible", "sizeError" in record, ours.error is not None)
    if "sizeError" in record or ours.metrics is None:
        return
    theirs = record["size"]
    yield from _means("size.metrics", theirs["metrics"], ours.metrics)
    for name, rate in (("TTFT", ours.rate_ttft_per_s), ("ITL", ours.rate_itl_per_s),
                       ("TPS", ours.rate_tps_per_s)):
        yield near(f"size.RateTarget{name}", theirs["targetRate"][f"RateTarget{name}"], rate)
    for name, value in (("TargetTTFT", ours.metrics.ttft_ms), ("TargetITL", ours.metrics.itl_ms),
                        ("TargetTPS", ours.tokens_per_s)):
        yield near(f"size.achieved.{name}", theirs["achieved"][name], value,
                   absolute=WAIT_MS if name in WITH_WAIT else 0.0)


def _onset(theirs: dict[str, Any], ours: Onset) -> Iterator[Field]:
    for name, value in (("Concurrency", ours.max_batch), ("MITL", ours.itl_batch),
                        ("MTPF", ours.prefill_batch), ("Calls", ours.calls),
                        ("Probes", list(ours.probes)), ("Feasible", ours.feasible)):
        yield equal(f"concurrency.{name}", theirs[name], value)
    yield near("concurrency.Throughput", theirs["Throughput"], ours.throughput_per_s)
    yield near("concurrency.AnchorThroughput", theirs["AnchorThroughput"], ours.anchor_per_s)
    if theirs.get("Metrics") and ours.metrics is not None:
        yield from _means("concurrency.Metrics", theirs["Metrics"], ours.metrics)


def onset_records(folder: Path, documents: dict[str, Any]) -> Iterator[Record]:
    """The folder ``onset``: scenarios with what is expected of them, primitives, and a curve."""
    scenarios = {item["name"]: item for name, document in sorted(documents.items())
                 if name.startswith("scenarios") for item in document["scenarios"]}
    for record in documents.get("expected_formula_guided.json", {}).get("records", []):
        if record["scenario"] in scenarios:
            fields = tuple(_expected(record, scenarios[record["scenario"]]))
            yield Record("expected_formula_guided.json", record["scenario"], fields)
    for name, record in items(documents.get("golden_primitives.json", []), str(folder)):
        yield Record("golden_primitives.json", f"#{name}", tuple(_primitives(record)))
    for name, document in sorted(documents.items()):
        if name.startswith("truth-") and document["scenario"] in scenarios:
            fields = tuple(_curve(document, scenarios[document["scenario"]]))
            yield Record(name, document["scenario"], fields)


def _scenario(given: dict[str, Any]) -> tuple[QueueSpec, Targets]:
    times = IterationTimes(given["alpha"], given["beta"], given["gamma"])
    size_ = RequestSize(given["AvgInputTokens"], given["AvgOutputTokens"])
    return (QueueSpec(times, size_, MAX_BATCH, given["maxQueueSize"]),
            Targets(given["targetTTFT"] or None, given["targetITL"] or None))


def _expected(record: dict[str, Any], scenario: dict[str, Any]) -> Iterator[Field]:
    queue, targets = _scenario(scenario)
    ours = optimal_concurrency(queue, targets, MAX_BATCH)
    yield equal("M_chosen", record["M_chosen"], ours.max_batch)
    yield equal("calls", record["calls"], ours.calls)
    yield equal("feasible", record["feasible"], ours.feasible)
    yield near("throughput_chosen", record["throughput_chosen"], ours.throughput_per_s)
    curve = _throughputs(queue, targets, range(1, MAX_BATCH + 1))
    best = max(range(MAX_BATCH), key=lambda index: (curve[index], -index))
    yield near("throughput_truth", record["throughput_truth"], curve[best])
    # Where the curve is flat its peak is a matter of the last digits: not judged.
    yield Field("M_truth", record["M_truth"], best + 1, informative=True)
    yield near("throughput at M_truth", record["throughput_truth"], curve[record["M_truth"] - 1])


def _primitives(record: dict[str, Any]) -> Iterator[Field]:
    times = IterationTimes(record["alpha"], record["beta"], record["gamma"])
    size_ = RequestSize(record["AvgInputTokens"], record["AvgOutputTokens"])
    service = IterationService([QueueSpec(times, size_, record["B"])])
    batch = np.array([[record["B"]]], dtype=np.float32)
    chunks = service.chunks(batch)
    yield equal("nc", record["nc"], int(chunks[0, 0]))
    for name, value in (("iter_time", service.iteration_ms(batch, chunks)),
                        ("prefill", service.prefill_ms(batch, chunks)),
                        ("itl", service.itl_ms(batch, chunks)),
                        ("tau", service.residence_ms(batch, chunks))):
        yield near(name, record[name], float(value[0, 0]))


def _curve(document: dict[str, Any], scenario: dict[str, Any]) -> Iterator[Field]:
    queue, targets = _scenario(scenario)
    points = document["f_curve"]
    ours = _throughputs(queue, targets, [point["m"] for point in points])
    for point, value in zip(points, ours, strict=True):
        yield near(f"f({point['m']})", point["throughput"], value)
    yield near("throughput_truth", document["throughput_truth"], max(ours))


def _throughputs(queue: QueueSpec, targets: Targets, batches: Any) -> list[float]:
    queues = [QueueSpec(queue.times, queue.size, batch, queue.max_queue) for batch in batches]
    return [sizing.metrics.throughput_per_s if sizing.metrics else 0.0
            for sizing in size(queues, [targets] * len(queues))]
