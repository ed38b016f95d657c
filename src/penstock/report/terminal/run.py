"""A run in a terminal."""

from dataclasses import replace

from penstock.metrics.run_summary import RunSummary
from penstock.metrics.table import RequestTable
from penstock.report.model import adapters, load, misses, models, multiplexing, reuse, run, scaling
from penstock.report.model.table import Block, Note


def run_blocks(summary: RunSummary, requests: RequestTable | None = None) -> list[Block]:
    """Headline and tables of a run, in the order in which they are printed.

    The worst ``requests`` are listed where a class misses its objective.
    """
    blocks: list[Block] = [
        run.opening(summary),
        run.classes_table(summary).without("objective", "unfinished", "late tokens"),
        run.latency_table(summary)]
    tasks = run.tasks_table(summary)
    if tasks is not None:
        blocks.append(tasks.without("objective", "requests"))
    if summary.certainty is not None:
        blocks.append(run.certainty_table(summary.certainty))
    split = None if requests is None else models.models_split(summary, requests)
    if split is not None:
        blocks.append(split)
    if requests is not None and summary.overall.meets_slo is False:
        blocks += _worst(summary, requests)
    if summary.overall.cost.per_hour:
        blocks.append(run.cost_table(summary).without("per million output tokens"))
    blocks += _replicas_and_pools(summary)
    confidential = run.confidential_table(summary)
    if confidential is not None:
        blocks.append(confidential)
    if summary.measured:
        if summary.measured.outcomes.failed:
            blocks.append(load.outcomes_table(summary.measured.outcomes))
        blocks.append(Note(load.generator_notes(summary.measured)))
    if summary.plan:
        from penstock.report.terminal.plan import short_plan_blocks  # few runs begin with a plan

        blocks += short_plan_blocks(summary.plan)
    elif summary.sizing:
        blocks.append(run.sizing_table(summary.sizing, list(summary.classes)))
    if summary.refusals:
        blocks.append(run.refusals_table(summary))
    return blocks


def _replicas_and_pools(summary: RunSummary) -> list[Block]:
    """Tables of cached prefixes, of replicas that came and went, and of devices that models
    share."""
    found: list[Block] = []
    if summary.prefix_reuse is not None:
        found.append(reuse.reuse_table(summary.prefix_reuse))
    if summary.adapters is not None:
        found.append(adapters.adapters_table(summary.adapters))
    if summary.scaling is not None:
        found.append(scaling.groups_table(summary.scaling))
        learned = scaling.calibration_table(summary.scaling)
        found += [] if learned is None else [learned]
    if summary.pools:
        found += [multiplexing.pools_table(summary),
                  *multiplexing.models_table(summary).split("Models on")]
    return found


def _worst(summary: RunSummary, requests: RequestTable) -> list[Block]:
    found = misses.missed_tables(summary, requests, misses.MOST_IN_TERMINAL)
    return [] if found is None else [replace(found[1], notes=())]
