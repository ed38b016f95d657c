"""The table of adapters (LoRA) that requests named."""

from penstock.metrics.run_summary import AdapterOutcome, AdapterSummary
from penstock.report.model import wording
from penstock.report.model.table import Column, Table, table


def adapters_table(found: AdapterSummary) -> Table:
    """Outcome of the requests of the most used adapters, of the others together, and of the models
    themselves."""
    rows = [(name, *_outcome(entry)) for name, entry in found.adapters.items()]
    if found.others is not None:
        rows.append((f"{wording.count(found.num_adapters - len(found.adapters))} others",
                     *_outcome(found.others)))
    if found.base is not None:
        rows.append(("no adapter", *_outcome(found.base)))
    return table("Adapters", ("adapter", "requests", Column("finished", 4), "attainment",
                              Column("95 % interval", 2), "TTFT p50", "TTFT p99",
                              Column("TPOT p99", 3), Column("E2E p99", 5)), rows,
                 notes=[_loads(found)] if found.loads is not None else [])


def _outcome(entry: AdapterOutcome) -> tuple[str, ...]:
    return (wording.count(entry.received), wording.count(entry.finished),
            wording.percent(entry.attainment),
            wording.interval(entry.attainment_low, entry.attainment_high),
            *map(wording.seconds, (entry.ttft_s.p50, entry.ttft_s.p99, entry.tpot_s.p99,
                                   entry.e2e_s.p99)))


def _loads(found: AdapterSummary) -> str:
    assert found.loads is not None
    loads = found.loads
    return (f"Replicas read {wording.count(loads.from_disk)} adapters from disk and copied "
            f"{wording.count(loads.to_device)} to their devices; steps waited "
            f"{wording.seconds(loads.waited_s)} for them.")
