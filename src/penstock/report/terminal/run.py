"""A run in a terminal."""

from penstock.metrics.run_summary import RunSummary
from penstock.report.model import load, multiplexing, run
from penstock.report.model.table import Block, Note
from penstock.report.terminal.plan import short_plan_blocks


def run_blocks(summary: RunSummary) -> list[Block]:
    """Headline and tables of a run, in the order in which they are printed."""
    blocks: list[Block] = [
        run.opening(summary),
        run.classes_table(summary).without("objective", "unfinished", "late tokens"),
        run.latency_table(summary)]
    if summary.overall.cost.per_hour:
        blocks.append(run.cost_table(summary).without("per million output tokens"))
    if summary.pools:
        blocks += [multiplexing.pools_table(summary),
                   *multiplexing.models_table(summary).split("Models on")]
    confidential = run.confidential_table(summary)
    if confidential is not None:
        blocks.append(confidential)
    if summary.measured:
        if summary.measured.outcomes.failed:
            blocks.append(load.outcomes_table(summary.measured.outcomes))
        blocks.append(Note(load.generator_notes(summary.measured)))
    if summary.plan:
        blocks += short_plan_blocks(summary.plan)
    elif summary.sizing:
        blocks.append(run.sizing_table(summary.sizing, list(summary.classes)))
    if summary.refusals:
        blocks.append(run.refusals_table(summary))
    return blocks
