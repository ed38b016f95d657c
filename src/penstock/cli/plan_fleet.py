"""A plan of a fleet file on the command line: progress, files, tables, exit status."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.cli.console import note, print_json, print_tables, progress
from penstock.cli.exits import MISSED, OK
from penstock.cli.runs_record import Begun, keep
from penstock.report.run_files import staged, write_plan_files

if TYPE_CHECKING:
    from penstock.experiment.workers import Executor
    from penstock.fleet.draft import Assumption
    from penstock.fleet.values import Fleet
    from penstock.plan.plan import FleetPlan
    from penstock.workload.workload import Workload


def planned(fleet: "Fleet", workload: "Workload | None" = None) -> "FleetPlan":
    """The plan of a fleet, with progress on a terminal."""
    from penstock.plan.assign.solve import solve
    from penstock.plan.plan import plan_fleet

    with progress("planning") as update:
        return plan_fleet(fleet, solve, workload=workload, on_step=update)


def _planned_each(fleets: "Sequence[Fleet]", where: "Executor") -> "list[FleetPlan]":
    """The plans of fleets; that of one alone tells its steps."""
    if len(fleets) == 1:
        return [planned(fleets[0])]
    with progress("planning", len(fleets)) as update:
        found = []
        for plan in where.results(_plan, fleets):
            found.append(plan)
            update(f"{len(found)} of {len(fleets)} plans")
    return found


def _plan(fleet: "Fleet") -> "FleetPlan":
    from penstock.plan.assign.solve import solve
    from penstock.plan.plan import plan_fleet

    return plan_fleet(fleet, solve)


def plan_and_report(fleet: "Fleet", out: Path | None, *, begun: Begun, as_json: bool, page: bool,
                    library: str | None = ".",
                    other: "tuple[tuple[str, ...], Fleet] | None" = None,
                    assumed: "Sequence[Assumption]" = (),
                    unstated: "Sequence[Assumption]" = (), where: "Executor") -> int:
    """The exit status: 0 when everything is served and every objective holds in simulation.

    ``other`` is the fleet as it might be, with the settings that make it so; ``assumed`` is what
    no option stated of a fleet without a file, ``unstated`` what a fleet file leaves open. Plans of
    several fleets, and how certain each demand's replicas are, are computed ``where`` asked.
    """
    from penstock.cli.moments import today
    from penstock.cli.single_run import default_folder
    from penstock.plan.document import full_document, plan_document
    from penstock.plan.inside import inside_document, inside_line, with_ours_inside
    from penstock.plan.loadable import planned_yaml

    if fleet.multiplexing:
        note("models get replicas of their own; the fleet's section multiplexing is left aside")
    folder = out or default_folder(f"{fleet.name}-plan")
    with staged(folder, "plan") as staging:
        ours = with_ours_inside(fleet)
        others = [*(() if other is None else (other[1],)), *(() if ours is None else (ours,))]
        plan, *plans = _planned_each([fleet, *others], where)
        document = full_document(plan, None if other is None else (other[0], plans[0]), today(),
                                 where.results)
        if ours is not None:
            document["penstock_inside"] = inside_document(
                document, plan_document(plans[-1]), str(ours.engine.name))
        if assumed:
            document["assumed"] = [found._asdict() for found in assumed]
        write_plan_files(staging, document, planned_yaml(plan), page=page,
                         library=library)
    keep(folder, begun)
    for line in _beyond_bound(fleet, document["demands"]):
        note(line)
    if as_json:
        print_json(document)
    else:
        from penstock.report.draft_text import assumed_lines
        from penstock.report.terminal.plan import plan_blocks

        block = assumed_lines(assumed)
        headline, *tables = plan_blocks(document)
        beside = [inside_line(document["penstock_inside"])] if ours is not None else []
        print_tables([*(["\n".join(block) + "\n"] if block else []), headline, *beside, *tables])
        for line in assumed_lines(unstated):
            note(line)
    for line in document["warnings"]:
        note(line)
    note(f"files in {folder}")
    return OK if plan.served_in_full else MISSED


def _beyond_bound(fleet: "Fleet", demands: "Sequence[Mapping[str, Any]]") -> list[str]:
    """Notes on replicas that meet their objectives only because the traffic ends."""
    from penstock.experiment.enough import fields_to_raise
    from penstock.fleet.sources import fleet_workload

    over = [demand for demand in demands if (demand["bound_share"] or 0.0) > 1.0]
    if not over:
        return []
    fields = fields_to_raise(fleet, len(fleet_workload(fleet)),
                             sum(demand["rate_per_s"] for demand in demands))
    raised = " and ".join(f"{name} to {value:,.0f}" for name, value in fields.items())
    return [f"{demand['name']}: its replicas are given {demand['bound_share']:.0%} of their "
            "throughput bound and meet the objectives only because the traffic ends; if it goes "
            f"on, raise {raised or 'the number of requests'}" for demand in over]
